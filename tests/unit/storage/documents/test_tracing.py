"""The trace of a key in a file: its versions, when and from whom they came, what keeps one back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.model import Entry
from entgldb.storage.documents.tracing import Tracer
from entgldb.storage.log import arrivals
from entgldb.storage.rules.why import KeyState
from entgldb.storage.store import Store

NOW = 1_790_000_000_000


class Pair:
    """A node and the peer that it takes entries from."""

    def __init__(self, folder: Path) -> None:
        (folder / "me").mkdir()
        self.folder = folder / "me"
        self.me = Store.open(self.folder, "me", NOW)
        self.peer = Store.memory("peer", b"p", NOW)
        self._requests = 0

    def write(self, store: Store, key: str, body: bytes | None, now_ms: int = NOW) -> list[Entry]:
        self._requests += 1
        first = store.last_lsn() + 1
        with store.group():
            store.write(RequestId(b"c" * 16, self._requests), (Write("users", key, body),), now_ms)
        return [Entry(row.header, row.body) for row in store.rows(first, 500)]

    def take(self, entries: list[Entry], now_ms: int = NOW) -> None:
        first = self.me.last_lsn() + 1
        with self.me.group():
            assert not self.me.apply(entries, now_ms).refused
            if self.me.last_lsn() >= first:
                self.me.note_arrival(first, "peer", now_ms)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.me.close()


def test_versions_are_told_with_when_and_from_whom_they_came(pair: Pair) -> None:
    pair.take(pair.write(pair.peer, "k", b'{"n":1}'), NOW + 7)
    pair.write(pair.me, "k", b'{"n":2}', NOW + 5_000)
    tracer = Tracer.open(pair.folder)
    known, traces = tracer.trace("users", "k")
    assert known.live
    assert known.current == known.newest == traces[0].version
    assert [one.arrival for one in traces] == [None, arrivals.Arrival("peer", NOW + 7)]
    assert [one.version.origin for one in traces] == [pair.me.origin, pair.peer.origin]
    pair.write(pair.me, "k", None, NOW + 6_000)
    known, traces = tracer.trace("users", "k")
    assert (known.live, traces[0].delete) == (False, True)
    assert tracer.trace("users", "nothing") == (KeyState("users"), [])
    tracer.close()


def test_what_has_expired_says_so(pair: Pair) -> None:
    with pair.me.group():
        write = Write("users", "k", b"{}", expire_after=1_000)
        pair.me.write(RequestId(b"c" * 16, 1), (write,), NOW)
        pair.me.expire(NOW + 1_000)
    tracer = Tracer.open(pair.folder)
    known, (trace,) = tracer.trace("users", "k")
    tracer.close()
    assert (known.expired, known.live, known.current, trace.delete) == (True, False, trace.version, False)


def test_what_is_held_is_known_before_it_is_shown(pair: Pair) -> None:
    pair.take(pair.write(pair.peer, "k", b'{"n":1}', NOW + DRIFT_MS_MAX + 60_000))
    tracer = Tracer.open(pair.folder)
    known, traces = tracer.trace("users", "k")
    assert (known.held, known.current, traces) == (True, None, [])
    assert known.newest is not None
    tracer.close()


def test_a_pruned_log_still_tells_the_version_that_is_shown(pair: Pair) -> None:
    pair.take(pair.write(pair.peer, "k", b'{"n":1}'))
    pair.me.connection.execute("DELETE FROM _entgldb_oplog")
    tracer = Tracer.open(pair.folder)
    known, traces = tracer.trace("users", "k")
    assert known.live
    assert [one.arrival for one in traces] == [arrivals.Arrival("peer", NOW)]
    tracer.close()


def test_batches_of_one_peer_are_one_row_for_a_second_and_rows_are_bounded(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = pair.me.connection
    monkeypatch.setattr(arrivals, "KEPT_MAX", 3)
    for lsn, peer, at in (
        (1, "a", 0),
        (2, "a", 900),
        (3, "b", 950),
        (4, "a", 960),
        (9, "a", 5_000),
        (10, "b", 5_001),
    ):
        arrivals.note_arrival(connection, lsn, lsn, peer, at)
    rows = connection.execute("SELECT * FROM _entgldb_arrivals").fetchall()
    assert rows == [
        (1, 2, "a", 0),
        (3, 3, "b", 950),
        (4, 4, "a", 960),
        (9, 9, "a", 5_000),
        (10, 10, "b", 5_001),
    ]
    assert arrivals.of(connection, 2) == arrivals.Arrival("a", 0)
    assert arrivals.of(connection, 7) is None
    arrivals.tidy(connection)
    assert arrivals.of(connection, 2) is None
    assert arrivals.of(connection, 4) == arrivals.Arrival("a", 960)
