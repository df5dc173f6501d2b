"""A node that goes on under a new incarnation: a new writer, whose predecessor is like any other."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError
from entgldb.messages.model import Entry, node_of
from entgldb.storage.log.read import LogReader
from entgldb.storage.rules.header import decode
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.store import Store

NOW = 1_790_000_000_000


def put(store: Store, counter: int, key: str, body: bytes | None = b'{"a":1}') -> None:
    with store.group():
        store.write(RequestId(b"c" * 16, counter), [Write("users", key, body)], NOW)


def reincarnate(store: Store, entropy: bytes = b"e" * 32, why: Why = Why.SNAPSHOT) -> str:
    with store.group():
        return store.incarnations.reincarnate(entropy, why, NOW)


def test_the_log_goes_on_under_a_new_origin_from_seq_one(tmp_path: Path) -> None:
    store = Store.open(tmp_path, "a", NOW)
    put(store, 1, "k")
    old, file_id = store.origin, store.file_id
    new = reincarnate(store)
    put(store, 2, "k", b'{"a":2}')
    assert new != old
    with closing(LogReader.open(tmp_path)) as reader:
        assert (node_of(new), store.origin, reader.origin) == ("a", new, new)
    assert {origin: seq for origin, (seq, _) in store.vector().items()} == {old: 1, new: 1}
    assert decode(store.rows(2, 1)[0].header).parent == (old, 1)
    assert store.file_id == file_id
    store.close()
    again = Store.open(tmp_path, "a", NOW)
    assert again.origin == new
    assert [(row["origin"], row["why"]) for row in again.status()["incarnations"]] == [(new, "snapshot")]  # type: ignore[index,union-attr,call-overload]  # rows of a report
    again.close()


def undone(store: Store) -> None:
    store.incarnations.reincarnate(b"e" * 32, Why.CLONED, NOW)
    raise EntglError("a disk that fills")


def test_a_new_incarnation_that_is_undone_leaves_the_old_one(tmp_path: Path) -> None:
    store = Store.memory("a", b"s" * 32, NOW)
    old = store.origin
    with pytest.raises(EntglError, match="a disk that fills"), store.group():
        undone(store)
    put(store, 1, "k")
    assert (store.origin, list(store.vector())) == (old, [old])
    with pytest.raises(EntglError, match="group"):
        store.incarnations.reincarnate(b"e" * 32, Why.CLONED, NOW)
    store.close()


def test_the_old_origin_is_a_foreign_one_from_then_on() -> None:
    """Entries that its last life wrote beyond this file come back from peers, and are taken."""
    store, twin = Store.memory("a", b"s" * 32, NOW), Store.memory("a", b"s" * 32, NOW)
    for one in (store, twin):
        put(one, 1, "k")
    put(twin, 2, "later", b'{"a":3}')
    reincarnate(store)
    put(store, 2, "k", b'{"a":2}')
    with store.group():
        outcome = store.apply([Entry(row.header, row.body) for row in twin.rows(1, 10)], NOW)
    assert (outcome.refused, store.get("users", "later")) == ("", b'{"a":3}')
    assert store.vector()[twin.origin][0] == 2
    assert store.get("users", "k") == b'{"a":2}'
    for one in (store, twin):
        one.close()
