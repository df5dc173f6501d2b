"""A node with conflicts is restored to a moment before or after they were settled; its peer has what came."""

from __future__ import annotations

from pathlib import Path

import pytest

from entgldb.messages.client import RequestId
from entgldb.storage.documents.query import Documents
from entgldb.storage.store import Store
from tests.unit.storage.recovery.test_backup import NOW, both_ways, give, made, put, put_back


def shown(store: Store) -> tuple[dict[str, bytes], list[tuple[str, str]]]:
    """The documents, and what lost."""
    rows = store.connection.execute("SELECT key, body FROM _entgldb_conflicts ORDER BY key, hlc")
    return dict(store.documents("users")), rows.fetchall()


def rivals(home: Path) -> tuple[Store, Store]:
    """A node and its peer have both written a key, and both know it."""
    home.mkdir()
    store, peer = Store.open(home, "a", NOW), Store.memory("b", b"b" * 32, NOW)
    put(store, "k", b'{"by":"a"}', NOW + 1)
    put(peer, "k", b'{"by":"b"}', NOW + 2)
    both_ways(store, peer)
    assert shown(store) == shown(peer) == ({"k": b'{"by":"b"}'}, [("k", '{"by":"a"}')])
    return store, peer


def settled(peer: Store, take: str) -> None:
    (one,) = Documents(peer.connection).conflicts()
    with peer.group():
        peer.resolve(RequestId(b"s" * 16, 1), ("users", "k"), one.version, take, None, NOW + 10)


@pytest.mark.parametrize("take", ["loser", "winner"])
def test_what_was_settled_since_is_settled_again_by_what_the_peer_has(take: str, tmp_path: Path) -> None:
    store, peer = rivals(tmp_path / "home")
    made(tmp_path / "home", tmp_path / "b.db")
    settled(peer, take)
    give(peer, store)
    assert shown(store)[1] == []
    store.close()
    again = put_back(tmp_path / "b.db", tmp_path / "home", now_ms=NOW + 20)
    assert shown(again)[1] == [("k", '{"by":"a"}')]
    both_ways(again, peer)
    assert shown(again) == shown(peer) == ({"k": b'{"by":"a"}' if take == "loser" else b'{"by":"b"}'}, [])
    again.close()


def test_a_conflict_that_came_since_and_was_settled_here_comes_back_settled(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    store, peer = Store.open(home, "a", NOW), Store.memory("b", b"b" * 32, NOW)
    put(store, "k", b'{"by":"a"}', NOW + 1)
    made(home, tmp_path / "b.db")
    put(peer, "k", b'{"by":"b"}', NOW + 2)
    both_ways(store, peer)
    settled(store, "loser")
    give(store, peer)
    store.close()
    again = put_back(tmp_path / "b.db", home, now_ms=NOW + 20)
    put(again, "k", b'{"by":"restored"}', NOW + 21)
    both_ways(again, peer, NOW + 30)
    # it was written without knowing of the others: it is their rival, and not of what they had replaced
    assert shown(again) == shown(peer) == ({"k": b'{"by":"restored"}'}, [("k", '{"by":"a"}')])
    again.close()


@pytest.mark.parametrize("take", ["", "loser", "winner"])
def test_an_authoritative_restore_has_replaced_what_the_backup_showed_and_nothing_else(
    take: str, tmp_path: Path
) -> None:
    store, peer = rivals(tmp_path / "home")
    made(tmp_path / "home", tmp_path / "b.db")
    if take:
        settled(peer, take)
    store.close()
    again = put_back(tmp_path / "b.db", tmp_path / "home", authoritative=True, now_ms=NOW + 5000)
    assert shown(again) == ({"k": b'{"by":"b"}'}, [])
    both_ways(again, peer, NOW + 6000)
    # whoever settled it meanwhile has not seen the restore, though the body be the same
    lost = {"": [], "winner": [("k", '{"by":"b"}')], "loser": [("k", '{"by":"a"}')]}[take]
    assert shown(again) == shown(peer) == ({"k": b'{"by":"b"}'}, lost)
    again.close()
