"""Ending a fork on a file that has lived: after a reissue, and what is counted and told of it."""

from __future__ import annotations

import json

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import BODY_BYTES_MAX
from entgldb.messages.local.members import Prune
from entgldb.messages.model import COLLECTIONS, Entry
from entgldb.storage.repair.incarnations import Healed
from entgldb.storage.rules.header import decode, digest
from entgldb.storage.rules.merging.collection_rule import rule_document
from entgldb.storage.store import Store
from tests.contract.test_quarantine import chain
from tests.unit.storage.snapshot.snapshots import forget, send

NOW = 1_790_000_000_000


def put(store: Store, counter: int, key: str, now_ms: int = NOW, **body: object) -> None:
    with store.group():
        write = Write("users", key, json.dumps(body or {"by": key}).encode())
        store.write(RequestId(b"c" * 16, counter), [write], now_ms)


def entries(store: Store) -> list[Entry]:
    return [Entry(row.header, row.body) for row in store.rows(1, 500)]


def take(store: Store, sent: list[Entry]) -> None:
    with store.group():
        store.apply(sent, NOW)


def other_branch() -> list[Entry]:
    """The branch that is to stay."""
    two = Store.memory("f", b"f" * 32, NOW)
    put(two, 1, "k", branch=2)
    return entries(two)


def forked(store: Store) -> tuple[str, int, bytes]:
    """A fork of which ``store`` has the branch that is not to stay: origin, seq, hash."""
    one = Store.memory("f", b"f" * 32, NOW)
    put(one, 1, "k", branch=1)
    put(one, 2, "only-there", branch=1)
    take(store, entries(one))
    take(store, other_branch())
    found = store.incarnations.branch(one.origin, "theirs")
    assert found is not None
    return (one.origin, *found)


def healed(store: Store, origin: str, seq: int, kept: bytes) -> Healed:
    with store.group(), store.savepoint():
        return store.incarnations.heal(origin, seq, kept, lambda: b"z" * 32, NOW)


def heal(store: Store, origin: str, seq: int, kept: bytes) -> int:
    return healed(store, origin, seq, kept).taken_out


def test_a_fork_is_healed_on_a_file_that_has_issued_its_writes_again() -> None:
    giver, taker = Store.memory("g", b"g" * 32, NOW), Store.memory("t", b"t" * 32, NOW)
    put(giver, 1, "x")
    put(taker, 1, "own")
    forget(giver, tombstones=False)
    assert send(giver, taker, NOW).reissued == 1
    assert heal(taker, *forked(taker)) == 2
    take(taker, other_branch())
    assert taker.get("users", "k") == b'{"branch": 2}'
    assert taker.get("users", "only-there") == b'{"branch": 1}'
    assert taker.status()["quarantined"] == 0


def test_one_healing_leaves_nothing_that_harms_the_next() -> None:
    store = Store.memory("t", b"t" * 32, NOW)
    origin, seq, kept = forked(store)
    assert heal(store, origin, seq, kept) == 2
    take(store, other_branch())
    clone = Store.memory("f", b"f" * 32, NOW)
    put(clone, 1, "k", branch=3)
    take(store, entries(clone))
    (first,) = entries(clone)
    assert heal(store, origin, 1, digest(first.header)) == 1
    assert store.get("users", "k") == b'{"branch": 1}'


def test_what_a_branch_took_of_the_log_is_counted_off() -> None:
    store = Store.memory("s", b"s" * 32, NOW)
    put(store, 1, "own")
    assert heal(store, *forked(store)) == 2
    (held,) = store.connection.execute(
        "SELECT sum(length(header) + coalesce(length(body), 0)) FROM _entgldb_oplog"
    ).fetchone()
    assert store.state.log_bytes == held


@pytest.mark.parametrize(
    ("collection", "body", "reason"),
    [
        ("users", b"\xff\xfe", "invalid"),
        ("users", b'{"a":"%s"}' % (b"x" * BODY_BYTES_MAX), "too-large"),
        (COLLECTIONS, rule_document("users", "merge"), "filtered"),
    ],
)
def test_what_of_a_branch_can_be_kept_nowhere_is_counted_by_its_reason(
    collection: str, body: bytes, reason: str
) -> None:
    one = Store.memory("f", b"f" * 32, NOW)
    put(one, 1, "k", branch=1)
    with one.group():
        writes = [Write(collection, key, rule_document(key, "merge")) for key in ("users", "stays")]
        one.write(RequestId(b"c" * 16, 2), writes, NOW, system=True)
    put(one, 3, "stays", branch=1)
    store = Store.memory("t", b"t" * 32, NOW)
    take(store, chain(entries(one), {1: body, 2: rule_document("stays", "merge")}))
    assert store.status()["unfit"] == (reason != "filtered")
    take(store, other_branch())
    kept = store.incarnations.branch(one.origin, "theirs")
    assert kept is not None
    assert healed(store, one.origin, *kept) == (4, {reason: 2 if collection == COLLECTIONS else 1})
    assert healed(store, one.origin, *kept) == (0, {})


def test_what_names_the_branch_that_stays_ends_its_conflicts_when_that_one_comes() -> None:
    one, two = Store.memory("f", b"f" * 32, NOW), Store.memory("f", b"f" * 32, NOW)
    put(one, 1, "other", branch=1)
    put(two, 1, "k", branch=2)
    successor = Store.memory("s", b"s" * 32, NOW)
    take(successor, entries(two))
    put(successor, 1, "k", NOW + 5, by="successor")
    taker = Store.memory("t", b"t" * 32, NOW)
    take(taker, entries(one))
    take(taker, [entry for entry in entries(successor) if decode(entry.header).origin == successor.origin])
    put(taker, 1, "k", NOW + 9, by="settled")
    take(taker, entries(two))
    found = taker.incarnations.branch(one.origin, "theirs")
    assert found is not None
    assert heal(taker, one.origin, *found) == 1
    take(taker, entries(two))
    assert taker.get("users", "k") == b'{"by": "settled"}'
    assert taker.status()["conflicts"] == 0


def test_of_a_fork_whose_branch_here_is_pruned_only_that_one_can_be_kept() -> None:
    one = Store.memory("f", b"f" * 32, NOW)
    put(one, 1, "k", branch=1)
    store = Store.memory("s", b"s" * 32, NOW)
    take(store, entries(one))
    bounds = {one.origin: 1}
    with store.group():
        store.prune(Prune(bounds, bounds, 0, NOW, 0))
    again = Store.memory("f", b"f" * 32, NOW)
    put(again, 1, "k", branch=2)
    put(again, 2, "k", branch=2)
    take(store, entries(again)[1:])
    assert store.forked() == {one.origin}
    with pytest.raises(InvalidError, match="is pruned"):
        store.incarnations.branch(one.origin, "theirs")
    kept = store.incarnations.branch(one.origin, "ours")
    assert kept == (1, store.vector()[one.origin][1])
    assert heal(store, one.origin, *kept) == 0
    assert store.forked() == set()
