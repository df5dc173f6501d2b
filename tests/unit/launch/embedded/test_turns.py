"""The host of an open directory: shared turns, turns that are broken off, and what is due in between."""

from __future__ import annotations

import linecache
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from entgldb.actors.host import clocks
from entgldb.actors.host.timers import Timers
from entgldb.client.database import Database
from entgldb.launch.embedded import host as embedded
from entgldb.launch.embedded.opening import Opened, opened
from entgldb.launch.node.files import running
from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import BusyError, EntglError, InvalidError, NoAnswerError
from entgldb.messages.limits import CLIENT_TURN_MAX, DRIFT_MS_MAX
from entgldb.messages.model import Entry
from entgldb.storage.file.state import State
from entgldb.storage.indexes import building
from entgldb.storage.store import Store

Held = tuple[Opened, Database]


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    made = opened(tmp_path, "lan-1")
    yield made
    made[1].close()


def store_of(place: Opened) -> Store:
    store = place._actors._store
    assert store is not None
    return store


def remembers_what_the_file_has(place: Opened) -> bool:
    store = store_of(place)
    found, state = State.load(store.connection), store.state
    found.lived_ms, found.shown_ms = state.lived_ms, state.shown_ms
    return found == state


class Commits:
    """Counts the transactions of a store that nothing falls due in."""

    def __init__(self, place: Opened) -> None:
        place.host._timers = Timers()
        self.count = 0
        store_of(place).connection.set_trace_callback(self._seen)

    def _seen(self, statement: str) -> None:
        self.count += statement == "COMMIT"


def in_threads(number: int, work: Callable[[int], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(number)]
    for thread in threads:
        thread.start()
    return threads


def waits(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_threads_write_at_once(held: Held) -> None:
    db = held[1]

    def work(thread: int) -> None:
        for n in range(50):
            version = db["c"].put(f"{thread}-{n}", {"n": n})
            found = db["c"].get(f"{thread}-{n}")
            assert found is not None
            assert found.version == version

    for thread in in_threads(8, work):
        thread.join(60)
    assert db["c"].count() == 400
    assert remembers_what_the_file_has(held[0])


def test_what_waits_for_a_turn_shares_a_commit(held: Held) -> None:
    place, db = held
    commits = Commits(place)
    with place.host._turn:
        threads = in_threads(20, lambda n: db["c"].put(f"k{n}", {}))
        waits(lambda: len(place.host._arrived) == 20)
    for thread in threads:
        thread.join(20)
    assert (db["c"].count(), commits.count) == (20, 1)


def test_a_turn_has_an_end_and_nobody_is_forgotten(held: Held) -> None:
    place, db = held
    number = CLIENT_TURN_MAX + 30
    commits = Commits(place)
    with place.host._turn:
        threads = in_threads(number, lambda n: db["c"].put(f"k{n}", {}))
        waits(lambda: len(place.host._arrived) == number)
    for thread in threads:
        thread.join(20)
    assert (db["c"].count(), commits.count) == (number, 2)


def test_a_refused_request_harms_no_neighbour(held: Held) -> None:
    place, db = held
    told: list[str] = []

    def work(n: int) -> None:
        try:
            db["c" if n else "_system_nodes"].put("k", {})
            told.append("done")
        except EntglError as fault:
            told.append(fault.code.value)

    with place.host._turn:
        threads = in_threads(2, work)
        waits(lambda: len(place.host._arrived) == 2)
    for thread in threads:
        thread.join(20)
    assert sorted(told) == ["done", "not-allowed"]


@pytest.mark.parametrize("wrong", [5, None, b"c"])
def test_what_no_node_would_read_is_refused(held: Held, wrong: Any) -> None:
    for _ in range(10):
        with pytest.raises(InvalidError):
            held[1][wrong].put("k", {})
    held[1]["c"].put("k", {})


def interrupted(at: int, work: Callable[[], object]) -> bool:
    """Whether Ctrl-C at the ``at``-th line of our code came before the end of ``work``."""
    seen = 0

    def line(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal seen
        if "/embedded/" not in frame.f_code.co_filename and "/storage/" not in frame.f_code.co_filename:
            return line if event == "call" else None
        # Python looks for signals after calls: not before a lock's __enter__ or __exit__, nor an assignment
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        looks = event == "line" and "with self._turn" not in text and "self._owner = 0" not in text
        seen += looks
        if seen == at and looks:
            sys.settrace(None)
            raise KeyboardInterrupt
        return line

    sys.settrace(line)
    try:
        work()
    except (KeyboardInterrupt, EntglError):
        # an undoing that it has hit half-way fails, and so does the request
        return True
    finally:
        sys.settrace(None)
    return False


def test_ctrl_c_at_any_moment_of_a_write(held: Held) -> None:
    """The memory of the writer and the file agree afterwards, and the next write follows the last."""
    place, db = held
    db["c"].put("before", {})
    at, rounds = 1, 0
    while interrupted(at, partial(db["c"].put, f"k{at}", {"n": at})):
        version = db["c"].put("next", {"n": at})
        assert remembers_what_the_file_has(place), at
        assert store_of(place).vector()[version.origin][0] == version.seq
        found = db["c"].get(f"k{at}")
        assert found in (None, {"n": at})
        at, rounds = at + 7, rounds + 1
    assert rounds > 30
    origin = db["c"].put("last", {}).origin
    log = store_of(place).connection.execute(
        "SELECT count(*), max(log.seq) FROM _entgldb_oplog log JOIN _entgldb_origins o ON o.id = origin"
        " WHERE name = ?",
        (origin,),
    )
    count, last = log.fetchone()
    assert count == last, "the log has no gap"


def test_who_shared_a_turn_that_was_broken_off_is_told(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    place, db = held
    told: list[BaseException] = []

    def broken(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    def work(n: int) -> None:
        try:
            db["c"].put(f"k{n}", {})
        except BaseException as fault:  # noqa: BLE001 -- it is what the test looks at
            told.append(fault)

    with monkeypatch.context() as patch:
        patch.setattr(store_of(place), "write", broken)
        with place.host._turn:
            threads = in_threads(3, work)
            waits(lambda: len(place.host._arrived) == 3)
        for thread in threads:
            thread.join(20)
    kinds = sorted(type(fault).__name__ for fault in told)
    assert kinds == ["KeyboardInterrupt", "NoAnswerError", "NoAnswerError"]
    assert all(not fault.definite for fault in told if isinstance(fault, NoAnswerError))
    db["c"].put("k", {})
    assert db["c"].count() == 1


def test_a_store_that_has_failed_is_made_anew(
    held: Held, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place, db = held

    def broken(*arguments: object, **named: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(store_of(place), "write", broken)
    before = store_of(place)
    with pytest.raises(EntglError, match="the store failed on Commit"):
        db["c"].put("k", {})
    assert "a bug" in caplog.text
    db["c"].put("k", {})
    assert store_of(place) is not before


def test_a_handler_that_uses_the_database_it_is_called_from(held: Held) -> None:
    """A log handler that keeps its records there: refused, instead of waiting for itself for ever."""
    place, db = held
    told: list[BaseException] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                db["log"].put("k", {"text": record.getMessage()})
            except EntglError as fault:
                told.append(fault)

    keeper = Keeper()
    logging.getLogger("entgldb").addHandler(keeper)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store_of(place), "write", lambda *_, **__: 1 / 0)
            with pytest.raises(EntglError):
                db["c"].put("k", {})
    finally:
        logging.getLogger("entgldb").removeHandler(keeper)
    assert [type(fault) for fault in told] == [BusyError]
    db["c"].put("k", {})


def test_a_signal_handler_just_before_a_turn_has_one_of_its_own(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, db = held
    take, came = place.host._take_turn, list[bool]()

    def interrupted_first() -> None:
        if not came:
            came.append(True)
            db["c"].put("handler", {})
        take()

    monkeypatch.setattr(place.host, "_take_turn", interrupted_first)
    db["c"].put("k", {})
    assert db["c"].count() == 2


def test_a_close_from_within_gives_nothing_back(held: Held) -> None:
    place, db = held
    told: list[BaseException] = []

    def closing(*arguments: object, **named: object) -> None:
        try:
            place.close()
        except BusyError as fault:
            told.append(fault)
        raise RuntimeError("a bug")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_of(place), "write", closing)
        with pytest.raises(EntglError):
            db["c"].put("k", {})
    assert len(told) == 1
    assert running(place.directory)
    db["c"].put("k", {})


def test_a_close_that_fails_gives_the_directory_back(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    place, db = held
    db["c"].put("k", {})

    def broken() -> None:
        raise OSError("no disk")

    monkeypatch.setattr(place.host, "_take_turn", broken)
    with pytest.raises(OSError, match="no disk"):
        place.close()
    assert not running(place.directory)
    with pytest.raises(InvalidError, match="was closed"):
        db["c"].put("k", {})


class Clock(SimpleNamespace):
    """The module ``time`` with hands that a test moves."""

    def __init__(self) -> None:
        self.ahead = 0.0
        super().__init__(
            CLOCK_BOOTTIME=time.CLOCK_BOOTTIME,
            monotonic=lambda: time.monotonic() + self.ahead,
            time_ns=lambda: time.time_ns() + int(self.ahead * 1e9),
            clock_gettime=lambda clock: time.clock_gettime(clock) + self.ahead,
        )


def from_a_fast_clock(now_ms: int) -> list[Entry]:
    """What a node has written whose clock is two minutes ahead."""
    fast = Store.memory("lan-2", b"fast", now_ms)
    with fast.group():
        fast.write(RequestId(b"c" * 16, 1), [Write("c", "early", b"{}")], now_ms + 2 * DRIFT_MS_MAX)
    return fast.entries([(fast.origin, 1)])


def test_held_entries_come_in_when_time_has_caught_up(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    place, db = held
    clock = Clock()
    for module in (embedded, clocks):
        monkeypatch.setattr(module, "time", clock)
    now_ms = time.time_ns() // 1_000_000
    store = store_of(place)
    with store.group():
        store.apply(from_a_fast_clock(now_ms), now_ms)
    assert [waiting.origin.partition("/")[0] for waiting in db.held()] == ["lan-2"]
    assert db["c"].get("early") is None
    feed = db.changes(follow=True)
    clock.ahead = 2 * DRIFT_MS_MAX / 1000
    # nobody writes: the one that waits for news lets them in
    assert next(feed).key == "early"
    assert db.held() == []


def test_a_short_life_has_its_looks_too(held: Held) -> None:
    """What forgets and tidies does so at the close, however early that is."""
    place, db = held
    db["c"].put("k", {})
    connection = store_of(place).connection
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    db.close()
    assert any("_entgldb_marks" in statement for statement in statements), "a mark in the time of retention"


def test_an_index_is_built_when_the_call_returns_that_makes_it(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "INDEX_STEP_ROWS", 3)
    collection = held[1]["c"]
    collection.put_many({f"{number}": {"number": number} for number in range(10)})

    collection.create_index("number")

    (index,) = collection.indexes()
    assert index.ready

    collection.rebuild_index("number")

    (index,) = collection.indexes()
    assert index.ready
    assert collection.find_one({"number": 7}) is not None
