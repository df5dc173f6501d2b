"""Documents that expire where rows are copied, compared, written again or taken back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.model import COLLECTIONS, Entry
from entgldb.messages.wire import Copy
from entgldb.storage.documents.query import Documents
from entgldb.storage.recovery.check import Checkup
from entgldb.storage.repair.copies import read_copy
from entgldb.storage.rules.clock import ms_of
from entgldb.storage.rules.header import decode
from entgldb.storage.rules.merging.collection_rule import rule_document
from entgldb.storage.store import Store
from tests.unit.storage.repair.test_healing import entries, forked, heal, other_branch, take
from tests.unit.storage.snapshot.snapshots import forget, send

NOW = 1_790_000_000_000
LIFE = 600_000
LATE = NOW + LIFE


class Node:
    def __init__(self, name: str, *, merges: bool = False) -> None:
        self.store = Store.memory(name, name.encode(), NOW)
        self.counter = 0
        if merges:
            self.write(Write(COLLECTIONS, "users", rule_document("users", "merge")), system=True)

    def write(self, *writes: Write, now: int = NOW, system: bool = False) -> None:
        self.counter += 1
        with self.store.group():
            self.store.write(RequestId(b"c" * 16, self.counter), writes, now, system=system)

    def put(self, key: str, body: bytes = b'{"a":1}', life: int | None = LIFE, now: int = NOW) -> None:
        self.write(Write("users", key, body, expire_after=life), now=now)

    def pass_time(self, now: int = LATE) -> int:
        with self.store.group():
            return self.store.expire(now)

    def get(self, key: str) -> Any:
        body = self.store.get("users", key)
        return None if body is None else json.loads(body)

    def copy(self, key: str) -> Copy:
        found = read_copy(self.store.connection, "users", key)
        assert found is not None
        return found

    def compare(self, other: Node, key: str) -> list[str]:
        with self.store.group():
            return self.store.repair([other.copy(key)], [], other.store.vector(), write=True)

    def is_sound(self) -> bool:
        return list(Checkup(self.store.connection).run()) == []


def expiry(store: Store, key: str) -> int:
    (found,) = store.connection.execute(
        "SELECT ifnull(expires, 0) FROM _entgldb_documents WHERE key = ?", (key,)
    ).fetchone()
    return int(found)


def conflicts(node: Node) -> int:
    return len(Documents(node.store.connection).conflicts("users"))


# --- forgetting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("life", [None, LIFE - 5])
@pytest.mark.parametrize("forgets", [True, False])
def test_what_a_row_hides_with_what_has_expired_is_a_conflict_whether_the_row_is_forgotten_or_not(
    *, life: int | None, forgets: bool
) -> None:
    """Who has forgotten the row writes the document anew without naming the change; who has it names it."""
    one, two = Node("one", merges=True), Node("two", merges=True)
    one.put("k", life=None)
    take(two.store, entries(one.store))
    two.put("k", b'{"a":1,"b":2}', life=life, now=NOW + 1)
    one.put("k", b'{"a":9}', now=NOW + 2)
    take(one.store, entries(two.store))
    take(two.store, entries(one.store))
    listed = 0 if life else 1
    assert one.pass_time(LATE + 5) == two.pass_time(LATE + 5) == 1
    assert [conflicts(node) for node in (one, two)] == [listed, listed]
    with two.store.group():
        for origin, known in two.store.state.origins.items():
            two.store.state.raise_floor(origin, known.head.seq, known.head.hlc)
        two.store.state.pruned_lsn = two.store.state.lsn
        assert two.store.collect({o: seq for o, (seq, _) in two.store.vector().items()}, 0).rows == 1
    assert [conflicts(node) for node in (one, two)] == [listed, listed]
    writer, other = (two, one) if forgets else (one, two)
    writer.put("k", b'{"c":3}', life=None, now=LATE + 6)
    with other.store.group():
        other.store.apply(entries(writer.store)[-1:], LATE + 6)
    for node in (one, two):
        node.pass_time(LATE + 6)
        assert node.get("k") == {"c": 3}
        assert conflicts(node) == (listed if forgets else 0)
        assert node.is_sound()


# --- snapshots ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("merges", [False, True])
@pytest.mark.parametrize("given_late", [False, True])
def test_a_snapshot_brings_the_moment_of_every_row(*, merges: bool, given_late: bool) -> None:
    giver, taker = Node("g", merges=merges), Node("t")
    giver.put("k")
    giver.put("m", life=2 * LIFE)
    if given_late:
        assert giver.pass_time() == 1
    assert send(giver.store, taker.store, NOW).documents
    assert taker.get("k") == (None if given_late else {"a": 1})
    assert taker.store.next_expiry() == (NOW + 2 * LIFE if given_late else LATE)
    for node in (giver, taker):
        node.pass_time()
        assert (node.get("k"), node.get("m")) == (None, {"a": 1})
        node.pass_time(NOW + 2 * LIFE)
        assert node.get("m") is None
        assert node.is_sound()
    assert giver.copy("k") == taker.copy("k")
    assert giver.copy("m") == taker.copy("m")


@pytest.mark.parametrize("merges", [False, True])
def test_a_snapshot_meets_what_has_expired_here(*, merges: bool) -> None:
    giver, taker = Node("g", merges=merges), Node("t")
    giver.put("k")
    take(taker.store, entries(giver.store))
    taker.put("own", life=None)
    assert taker.pass_time() == 1
    giver.put("other", life=None)
    send(giver.store, taker.store, NOW)
    assert (taker.get("k"), taker.get("other"), taker.get("own")) == (None, {"a": 1}, {"a": 1})
    assert taker.is_sound()


def test_a_snapshot_brings_the_moment_of_a_conflict() -> None:
    giver, other, taker = Node("g"), Node("o"), Node("t")
    other.put("k")
    giver.put("k", b'{"a":2}', life=None, now=NOW + 1)
    take(giver.store, entries(other.store))
    send(giver.store, taker.store, NOW)
    assert len(Documents(taker.store.connection).conflicts()) == 1
    assert taker.pass_time() == 1
    assert Documents(taker.store.connection).conflicts() == []
    assert taker.is_sound()


# --- comparing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("merges", [False, True])
def test_hidden_here_and_shown_there_is_no_difference(*, merges: bool) -> None:
    a, b = Node("a", merges=merges), Node("b")
    a.put("k")
    take(b.store, entries(a.store))
    a.pass_time()
    b.pass_time(LATE - DRIFT_MS_MAX)
    assert a.compare(b, "k") == b.compare(a, "k") == ["equal"]
    assert (a.get("k"), b.get("k")) == (None, {"a": 1})


def test_what_was_hidden_by_a_clock_ahead_comes_back_from_the_own_log() -> None:
    a, b = Node("a"), Node("b")
    a.put("k")
    take(b.store, entries(a.store))
    a.pass_time()
    # an operator has set the clock right
    a.store.state.time_ms = LATE - DRIFT_MS_MAX - 1
    assert b.compare(a, "k") == ["keep"]
    assert a.compare(b, "k") == ["take"]
    assert a.get("k") == {"a": 1}
    assert a.pass_time() == 1
    assert a.is_sound()


def test_what_was_hidden_by_a_clock_ahead_comes_back_from_a_peer() -> None:
    a, b = Node("a", merges=True), Node("b")
    a.put("k")
    take(b.store, entries(a.store))
    a.pass_time()
    a.store.state.time_ms = LATE - DRIFT_MS_MAX - 1
    assert a.compare(b, "k") == ["take"]
    assert (a.get("k"), a.store.next_expiry()) == ({"a": 1}, LATE)
    assert a.pass_time() == 1


def test_a_row_that_is_gone_here_is_not_taken_once_it_has_expired() -> None:
    a, b = Node("a"), Node("b")
    a.put("k")
    take(b.store, entries(a.store))
    b.store.connection.execute("DELETE FROM _entgldb_documents WHERE key = 'k'")
    assert b.compare(a, "k") == ["take"]
    b.store.connection.execute("DELETE FROM _entgldb_documents WHERE key = 'k'")
    b.pass_time()
    assert b.compare(a, "k") == ["equal"]
    with a.store.group():
        assert a.store.repair([], [("users", "k")], b.store.vector(), write=True) == ["keep"]
    a.pass_time()
    with a.store.group():
        assert a.store.repair([], [("users", "k")], b.store.vector(), write=True) == ["equal"]


def test_a_moment_that_is_not_the_headers_is_mended() -> None:
    a, b = Node("a"), Node("b")
    a.put("k")
    take(b.store, entries(a.store))
    b.store.connection.execute("UPDATE _entgldb_documents SET expires = NULL")
    assert b.compare(a, "k") == ["take"]
    assert expiry(b.store, "k") == LATE


@pytest.mark.parametrize("merges", [False, True])
def test_a_mended_row_that_has_expired_stays_hidden(*, merges: bool) -> None:
    a, b = Node("a", merges=merges), Node("b")
    a.put("k")
    take(b.store, entries(a.store))
    b.store.connection.execute("UPDATE _entgldb_documents SET body = '{\"a\":9}' WHERE key = 'k'")
    b.store.state.time_ms = LATE
    assert b.compare(a, "k") == ["take"]
    assert b.get("k") is None
    assert b.is_sound()


# --- written again, taken back ------------------------------------------------------------------------


def test_a_branch_that_is_taken_out_keeps_the_moments_of_its_documents() -> None:
    node = Node("n")
    two = other_branch()
    one = Store.memory("f", b"f" * 32, NOW)
    with one.group():
        writes = [Write("users", key, b'{"branch":1}', expire_after=LIFE) for key in ("k", "only-there")]
        one.write(RequestId(b"c" * 16, 1), writes, NOW)
    take(node.store, entries(one))
    take(node.store, two)
    found = node.store.incarnations.branch(one.origin, "theirs")
    assert found is not None
    assert heal(node.store, one.origin, *found) == 2
    take(node.store, two)
    assert node.get("only-there") == {"branch": 1}
    assert len(Documents(node.store.connection).conflicts()) <= 1
    node.pass_time()
    assert (node.get("k"), node.get("only-there")) == ({"branch": 2}, None)
    assert Documents(node.store.connection).conflicts() == []
    assert forked(node.store)[0] == one.origin


@pytest.mark.parametrize("merges", [False, True])
def test_own_writes_on_top_of_a_snapshot_keep_their_moments(*, merges: bool) -> None:
    giver, taker = Node("g"), Node("t", merges=merges)
    giver.put("x", life=None)
    taker.put("k")
    taker.put("gone", life=1_000)
    taker.pass_time(NOW + 2_000)
    forget(giver.store, tombstones=False)
    assert send(giver.store, taker.store, NOW + 5_000).reissued
    assert expiry(taker.store, "k") == LATE
    assert (taker.get("k"), taker.get("gone")) == ({"a": 1}, None)
    take(giver.store, entries(taker.store))
    assert giver.get("k") == {"a": 1}
    for node in (giver, taker):
        node.pass_time()
        assert node.get("k") is None
        assert node.is_sound()


def test_a_moment_goes_back_as_far_as_the_stamp_of_a_clock_that_ran_ahead() -> None:
    node, ahead = Node("n"), NOW + 10 * 24 * 3_600_000
    node.put("before", now=NOW)
    node.put("k", now=ahead)
    with node.store.group():
        assert node.store.expire(ahead) == 1
    with node.store.group():
        node.store.reset_clock(RequestId(b"r" * 16, 1), b"e" * 32, NOW + 7)
    assert node.get("k") == {"a": 1}
    made = [decode(entry.header) for entry in entries(node.store) if decode(entry.header).key == "k"][-1]
    assert made.expires - ms_of(made.hlc) == LIFE
    assert node.pass_time(made.expires - 1) == 0
    assert node.pass_time(made.expires) == 1


def test_what_expires_is_held_and_released_like_all_else() -> None:
    a, b = Node("a"), Node("b")
    ahead = NOW + DRIFT_MS_MAX + 5
    a.put("k", life=1_000, now=ahead)
    a.put("m", now=ahead)
    sent = [Entry(one.header, one.body) for one in entries(a.store)]
    with b.store.group():
        assert b.store.apply(sent, NOW).counts["held-clock"] == 2
    b.pass_time(ahead + 2_000)
    with b.store.group():
        b.store.release_held(ahead + 2_000)
    assert (b.get("k"), b.get("m")) == (None, {"a": 1})
