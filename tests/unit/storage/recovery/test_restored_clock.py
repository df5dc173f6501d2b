"""A file of before the clocks of a site ran ahead is put back: its node speaks for their time again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from entgldb.messages.wire import Member
from entgldb.storage.rules import clock
from entgldb.storage.store import Store
from tests.unit.storage.recovery.test_backup import NOW, give, made, put, put_back
from tests.unit.storage.snapshot.snapshots import send

MONTH = 31 * 24 * 3_600_000


def told(store: Store, counter: int, **shown: int) -> None:
    """Members say what their clocks have shown."""
    rows = [Member(f"{name}/{'0' * 32}", counter, NOW, {}, shown_ms) for name, shown_ms in shown.items()]
    with store.group():
        store.remember_members(rows, NOW, cloud=False)


def lived(store: Store, now_ms: int) -> None:
    """Its clock shows that time."""
    store.live(0.0, now_ms, now_ms)
    with store.group():
        store.release_held(now_ms)


@pytest.mark.parametrize("way", ["entries", "snapshot"])
def test_it_takes_what_is_stamped_ahead_once_most_are_heard_and_keeps_it_when_one_of_them_goes_back(
    way: str, tmp_path: Path
) -> None:
    home, kept = tmp_path / "home", tmp_path / "kept"
    home.mkdir()
    peer = Store.memory("b", b"b" * 32, NOW)
    with closing(Store.open(home, "a", NOW)) as store:
        lived(store, NOW)
        put(store, "mine", b'{"v":1}', NOW)
        made(home, kept)
        give(store, peer)
        told(store, 1, b=NOW + MONTH, c=NOW + MONTH)
        put(peer, "ahead", b'{"v":1}', NOW + MONTH)
        give(peer, store)
        assert store.state.shown_ms == NOW + MONTH
    with closing(put_back(kept, home, now_ms=NOW + 20)) as store:
        lived(store, NOW + 20)
        assert store.state.shown_ms == NOW + 20
        give(peer, store)
        assert store.get("users", "ahead") is None, "nobody is heard yet"
        assert store.held() == {peer.origin: 1}
        told(store, 2, b=NOW + MONTH, c=NOW + MONTH)
        if way == "entries":
            lived(store, NOW + 30)
        else:
            assert send(peer, store, NOW + 30).refused == ""
        assert store.get("users", "ahead") == b'{"v":1}'
        assert (store.held(), store.state.shown_ms) == ({}, NOW + MONTH)
        told(store, 3, b=NOW + MONTH, c=NOW + 40)
        put(peer, "ahead", b'{"v":2}', NOW + 40)
        assert not clock.too_far_ahead(peer.state.clock, NOW + MONTH)
        give(peer, store)
        assert store.get("users", "ahead") == b'{"v":2}'
