"""A large snapshot is merged in steps: what readers see, what a crash leaves, and what goes in the end."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import BusyError
from entgldb.messages.limits import LSNS_BETWEEN
from entgldb.messages.model import Entry
from entgldb.storage.documents import finding
from entgldb.storage.documents.query import Documents
from entgldb.storage.indexes import catalogue
from entgldb.storage.log import evicting, prune
from entgldb.storage.rules.indexing.definition import define
from entgldb.storage.snapshot import steps
from entgldb.storage.snapshot.shadow import MARK, Shadow
from entgldb.storage.snapshot.steps import Steps
from entgldb.storage.store import Store
from tests.support.merging import install_whole, left_by_a_merge, wrong_in_indexes
from tests.unit.storage.snapshot.snapshots import forget, in_steps, send, staged

NOW = 1_790_000_000_000
KEYS = [f"k{number:02d}" for number in range(12)]


def put(store: Store, counter: int, *keys: str, body: bytes = b'{"n":1}') -> None:
    with store.group():
        writes = [Write("users", key, body) for key in keys]
        store.write(RequestId(store.origin[-16:].encode(), counter), writes, NOW + counter)


def giver(*keys: str, body: bytes = b'{"n":1}') -> Store:
    """A node of which nothing is left but its documents."""
    made = Store.memory("giver", b"g" * 32, NOW)
    put(made, 1, *keys, body=body)
    with made.group():
        made.connection.execute("DELETE FROM _entgldb_oplog")
        made.state.raise_floor(made.origin, made.state.origins[made.origin].head.seq, NOW << 16)
        made.state.entries = made.state.log_bytes = 0
        made.state.loose = True
    return made


def keys(store: Store) -> list[str]:
    return [key for key, _ in store.documents("users")]


def step(store: Store, name: str) -> bool:
    """Take one; whether it was the last."""
    return store.install_step(name, b"e" * 32, NOW + 100, cloud=False) is not None


def test_nothing_of_it_shows_before_the_last_step_and_all_does_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_steps(monkeypatch)
    taker, seen = Store.memory("taker", b"t" * 32, NOW), list[list[str]]()
    put(taker, 1, "own")
    vector = taker.vector()
    with staged(giver(*KEYS), NOW) as name:
        while not step(taker, name):
            seen.append(keys(taker))
            assert taker.vector() == vector
    assert len(seen) > len(KEYS)
    assert seen == [["own"]] * len(seen)
    assert keys(taker) == [*KEYS, "own"]
    # what counts by these numbers counts on
    assert len(KEYS) < taker.last_lsn() % LSNS_BETWEEN < 2 * len(KEYS)
    while taker.tidy_merge():
        pass
    assert left_by_a_merge(taker) == []
    if isinstance(taker.connection, sqlite3.Connection):
        assert taker.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_change_feed_that_has_read_what_came_between_is_told_the_snapshot_behind_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_steps(monkeypatch)
    taker = Store.open(tmp_path, "taker", NOW)
    documents, told, token = Documents.open(tmp_path), list[str](), None
    with staged(giver(*KEYS), NOW) as name:
        for number in range(100):
            last = step(taker, name)
            if number < 8:
                put(taker, number + 2, f"own{number:02d}")
            changes = documents.changes(token)
            told += [one.key for one in changes]
            token = changes.token
            if last:
                break
    assert set(told) == set(keys(taker))
    assert set(KEYS) < set(told)
    documents.close()
    taker.close()


def test_a_long_result_does_not_go_on_with_what_other_documents_are_numbered_by_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_steps(monkeypatch)
    monkeypatch.setattr(finding, "PAGE_ROWS_MAX", 5)
    taker, own = Store.open(tmp_path, "taker", NOW), [f"own{number:02d}" for number in range(12)]
    put(taker, 1, *reversed(own))
    with closing(Documents.open(tmp_path)) as documents:
        before = documents.find("users")
        assert next(before)[0] == own[0]
        send(giver(*KEYS), taker, NOW, between=lambda: put(taker, taker.last_lsn() % 1_000 + 2, "other"))
        with pytest.raises(BusyError, match="taken the place of the documents"):
            list(before)
        assert [key for key, _ in documents.find("users")] == [*KEYS, "other", *own]
    taker.close()


def test_a_conflict_that_makes_room_meanwhile_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    in_steps(monkeypatch)
    taker = Store.memory("taker", b"t" * 32, NOW)
    for number, name in enumerate(("one", "two"), 1):
        rival = Store.memory(name, name.encode() * 8, NOW)
        put(rival, number, "other", body=b'{"n":%d}' % number)
        with taker.group():
            taker.apply([Entry(row.header, row.body) for row in rival.rows(1, 500)], NOW)
    assert taker.state.conflicts == 1
    taken = [0]

    def make_room() -> None:
        taken[0] += 1
        if taken[0] == len(KEYS) + 2:  # its key is done
            with taker.group(), monkeypatch.context() as patched:
                patched.setattr(evicting, "CONFLICTS_KEPT_MAX", 0)
                evicting.evict(taker.connection, taker.state)

    send(giver(*KEYS), taker, NOW + 50, between=make_room)
    assert taken[0] >= len(KEYS) + 2
    assert taker.connection.execute("SELECT count(*) FROM _entgldb_conflicts").fetchone() == (0,)
    assert taker.state.conflicts == 0


@pytest.mark.parametrize("after", [1, 3, 12, 14])
def test_who_starts_again_goes_on_where_the_mark_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, after: int
) -> None:
    in_steps(monkeypatch)
    taker = Store.open(tmp_path, "taker", NOW)
    with staged(giver(*KEYS), NOW) as name:
        for _ in range(after):
            assert not step(taker, name)
        at = taker.connection.execute(f"SELECT mark FROM {MARK}").fetchone()
        taker.connection.close()
        taker = Store.open(tmp_path, "taker", NOW)
        assert taker.connection.execute(f"SELECT mark FROM {MARK}").fetchone() == at
        put(taker, 1, "own")
        left = 1
        while not step(taker, name):
            left += 1
    assert after + left < 2 * len(KEYS)
    assert keys(taker) == [*KEYS, "own"]
    count = "SELECT count(*) FROM _entgldb_documents WHERE body IS NOT NULL"
    assert taker.connection.execute(count).fetchone() == (taker.state.documents,)
    taker.close()


def test_another_snapshot_or_a_new_index_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    in_steps(monkeypatch)
    taker = Store.memory("taker", b"t" * 32, NOW)
    with staged(giver("a", "b", "c"), NOW) as name:
        for _ in range(3):
            assert not step(taker, name)
    with staged(giver(*KEYS), NOW) as name:
        for _ in range(9):
            assert not step(taker, name)
        with taker.group():
            taker.indexes.create(define("users", ["n"]))
        install_whole(taker, name, b"e" * 32, NOW + 100, cloud=False)
    assert keys(taker) == KEYS
    found = taker.connection.execute("SELECT k FROM _entgldb_ix_1 ORDER BY k").fetchall()
    assert [key for (key,) in found] == KEYS


def test_indexes_are_whole_when_the_last_step_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of words, too, with what is written meanwhile; a second merge changes their numbers back."""
    in_steps(monkeypatch)
    taker, made, counter = Store.memory("taker", b"t" * 32, NOW), giver("k00"), iter(range(2, 500))
    put(taker, 1, "own", "k03", body=b'{"n":2,"t":"old words"}')
    with taker.group():
        taker.indexes.create(define("users", ["n"]))
        taker.indexes.create(define("users", ["t"], text=True))

    def write() -> None:
        number = next(counter)
        put(taker, number, "own", body=b'{"n":2,"t":"words %d"}' % number)

    for number, body in enumerate((b'{"n":1,"t":"new words"}', b'{"n":1,"t":"newer words"}'), 5):
        put(made, number, *KEYS, body=body)
        forget(made, tombstones=False)
        send(made, taker, NOW + 50, between=write)
        assert (wrong_in_indexes(taker), taker.get("users", "k00")) == ([], body)
        words = [one.number for one in catalogue.list_indexes(taker.connection) if one.definition.text]
        assert words == [2 + catalogue.NUMBERS if number == 5 else 2]


def test_a_merge_that_is_given_up_leaves_the_index_of_words_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    in_steps(monkeypatch)
    taker = Store.memory("taker", b"t" * 32, NOW)
    put(taker, 1, *KEYS, body=b'{"t":"old words"}')
    with taker.group():
        taker.indexes.create(define("users", ["t"], text=True))
    with staged(giver(*KEYS, body=b'{"t":"new words"}'), NOW) as name:
        for _ in range(9):
            assert not step(taker, name)
        with taker.group():
            Steps(taker.connection, taker.state).forsake()
        while taker.tidy_merge():
            pass
    assert left_by_a_merge(taker) == []
    assert wrong_in_indexes(taker) == []


def test_a_merge_that_nobody_goes_on_with_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    in_steps(monkeypatch)
    taker = Store.memory("taker", b"t" * 32, NOW)
    taker.live(0.0)
    with staged(giver(*KEYS), NOW) as name:
        for _ in range(5):
            assert not step(taker, name)
    assert not taker.tidy_merge()
    taker.live(steps.STALE_MS / 1000 + 1)
    put(taker, 1, "own")
    while taker.tidy_merge():
        pass
    assert left_by_a_merge(taker) == []
    assert keys(taker) == ["own"]


def test_log_rows_that_the_snapshot_covers_go_before_the_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oldest first, up to the first that is only recorded: a merge that is given up has lost nothing."""
    in_steps(monkeypatch)
    monkeypatch.setattr(prune, "STEP_ROWS", 5)
    made, taker = giver(*KEYS), Store.memory("taker", b"t" * 32, NOW)
    source = Store.memory("source", b"s" * 32, NOW)
    for number in range(30):
        put(source, number + 1, f"s{number % 7}")
    entries = [Entry(row.header, row.body) for row in source.rows(1, 500)]
    for node, known in ((made, entries), (taker, entries[:-3])):
        with node.group():
            assert not node.apply(known, NOW).refused
    forget(made, tombstones=False)
    taker.connection.execute("UPDATE _entgldb_oplog SET applied = 0 WHERE seq = 24")
    count, left = "SELECT count(*), min(seq) FROM _entgldb_oplog", [(27, 1)]
    with staged(made, NOW) as name:
        while not step(taker, name):
            left += taker.connection.execute(count).fetchall()
            floor = taker.state.origins[source.origin].floor
            assert left[-1] == (27 - floor, floor + 1)
            assert (taker.state.entries, left[-2][0] - left[-1][0] <= 5) == (left[-1][0], True)
    assert left[-1] == (4, 24)
    assert taker.connection.execute(count).fetchone() == (taker.state.entries, None) == (0, None)
    assert keys(taker) == [*KEYS, *(f"s{number}" for number in range(7))]


def test_a_step_takes_no_longer_for_what_was_merged_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in instructions of SQLite's machine: a statement that walks all documents shows."""
    in_steps(monkeypatch)
    monkeypatch.setattr(steps, "STEP_ROWS", 20)
    taker, done = Store.memory("taker", b"t" * 32, NOW), [0]

    def count() -> None:
        done[-1] += 1

    taker.connection.set_progress_handler(count, 1)
    with staged(giver(*(f"k{number:04d}" for number in range(2_000))), NOW) as name:
        while not step(taker, name):
            done.append(0)
    early, late = max(done[5:15]), max(done[85:95])
    assert len(done) > 100
    assert late < 1.2 * early


def test_a_step_takes_so_many_rows_and_bytes_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "AT_ONCE_BYTES", 0)
    monkeypatch.setattr(steps, "STEP_ROWS", 5)
    monkeypatch.setattr(steps, "STEP_BYTES", 300)
    sizes = list[int]()
    fill = Shadow.fill
    monkeypatch.setattr(
        Shadow, "fill", lambda one, places: (sizes.append(len(set(places))), fill(one, places))[1]
    )
    send(giver(*KEYS), Store.memory("taker", b"t" * 32, NOW), NOW)
    assert max(sizes) == 5
    sizes.clear()
    large = b'{"x":"' + b"x" * 200 + b'"}'
    send(giver(*KEYS, body=large), Store.memory("taker", b"t" * 32, NOW), NOW)
    assert max(sizes) == 2
