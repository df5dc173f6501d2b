"""Writes of a damaged file that nobody else has are written again in bounded steps, which outlive a crash."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError
from entgldb.messages.model import Entry
from entgldb.storage.file import swap
from entgldb.storage.file.open import FILE
from entgldb.storage.log.append import Batch
from entgldb.storage.recovery import backup, restore
from entgldb.storage.recovery.rebuild import rebuild
from entgldb.storage.repair import healing, lost_writes, salvaged
from entgldb.storage.rules.header import decode
from entgldb.storage.store import Store

NOW = 1_790_000_000_000
KEYS = 7


def lived(home: Path, size: int = 0) -> None:
    """A node that has written some keys twice, the last one first."""
    with closing(Store.open(home, "a", NOW)) as store:
        for number, key in enumerate([*reversed(range(KEYS)), *range(KEYS)]):
            body = b'{"n":%d,"v":"%s"}' % (number, b"x" * size)
            with store.group():
                store.write(RequestId(b"c" * 16, number), [Write("users", f"k{key}", body)], NOW + number)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    lived(tmp_path)
    rebuild(tmp_path, "a", NOW + 50)
    return tmp_path


def step(store: Store) -> int:
    with store.group():
        return store.reissue_salvaged(NOW + 60)


def steps(store: Store) -> Iterator[int]:
    while store.salvages():
        yield step(store)


def logged(store: Store) -> list[tuple[str, bytes | None]]:
    return [(decode(row.header).key, row.body) for row in store.rows(1, 500)]


WANTED = [(f"k{key}", b'{"n":%d,"v":""}' % (KEYS + key)) for key in range(KEYS)]


@pytest.mark.parametrize("opened_anew", [False, True])
def test_each_step_is_bounded_and_goes_on_where_the_last_one_ended(home: Path, *, opened_anew: bool) -> None:
    done, store = [], Store.open(home, "a", NOW + 60)
    with patch.object(salvaged, "STEP_KEYS", 3):
        while store.salvages():
            done.append(step(store))
            # in the order in which they came: nobody has one without what was there before it
            assert logged(store) == WANTED[: sum(done)]
            assert store.status()["salvaged"] == (KEYS - sum(done)) * 2
            if opened_anew:
                store.connection.close()
                store = Store.open(home, "a", NOW + 60)
    assert done == [3, 3, 1]
    assert store.connection.execute("SELECT count(*) FROM _entgldb_salvaged").fetchone() == (0,)
    store.close()


def test_a_step_that_fails_has_changed_nothing_and_is_done_again(home: Path) -> None:
    with closing(Store.open(home, "a", NOW + 60)) as store, patch.object(salvaged, "STEP_KEYS", 3):
        step(store)
        with suppress(RuntimeError), store.group():
            store.reissue_salvaged(NOW + 60)
            raise RuntimeError
        assert logged(store) == WANTED[:3]
        assert list(steps(store)) == [3, 1]
        assert logged(store) == WANTED


@pytest.mark.parametrize("known", [0, 3])
def test_what_is_lost_is_looked_for_in_bounded_steps(known: int, tmp_path: Path) -> None:
    lived(tmp_path)
    with closing(Store.open(tmp_path, "a", NOW)) as store:
        had = [Entry(row.header, row.body) for row in store.rows(1, known)]
    rebuild(tmp_path, "a", NOW + 50)
    looks, look, steps = [0], lost_writes.decode, 0
    with (
        closing(Store.open(tmp_path, "a", NOW + 60)) as store,
        patch.object(lost_writes, "decode", lambda raw: (looks.append(looks.pop() + 1), look(raw))[1]),
        patch.object(lost_writes, "PAGE_ROWS", 2),
        patch.object(salvaged, "STEP_PAGES", 1),
        patch.object(salvaged, "STEP_KEYS", 3),
    ):
        with store.group():
            store.apply(had, NOW + 60)
        while store.salvages():
            looks[0] = 0
            step(store)
            assert looks[0] <= 2 * lost_writes.PAGE_ROWS
            steps += 1
            with suppress(RuntimeError), store.group(), store.savepoint():
                # a request that is refused between two steps undoes neither
                raise RuntimeError
            assert steps < 30, "it begins again and again"
        assert steps > KEYS
        assert store.documents("users") == WANTED
        assert store.status()["conflicts"] == 0


def test_a_branch_that_is_taken_out_between_two_steps_changes_nothing(tmp_path: Path) -> None:
    lived(tmp_path)
    peer, stranger = Store.memory("b", b"b" * 32, NOW), Store.memory("x", b"x" * 32, NOW)
    with closing(Store.open(tmp_path, "a", NOW)) as store:
        had = [Entry(row.header, row.body) for row in store.rows(1, KEYS)]
    with peer.group():
        peer.apply(had, NOW)
    with stranger.group():
        stranger.write(RequestId(b"c" * 16, 1), [Write("users", "other", b"{}")], NOW)
    rebuild(tmp_path, "a", NOW + 50)
    with closing(Store.open(tmp_path, "a", NOW + 60)) as store, patch.object(salvaged, "STEP_KEYS", 3):
        for source in (peer, stranger):
            with store.group():
                store.apply([Entry(row.header, row.body) for row in source.rows(1, 99)], NOW + 60)
        step(store)
        with store.group():
            healing.take_out(Batch(store.connection, store.state), {stranger.origin: 1})
        assert list(steps(store)) == [3, 1]
        # each names the version that it had replaced
        assert store.status()["conflicts"] == 0
        assert dict(store.documents("users")) == dict(WANTED)


def test_large_ones_make_small_steps(tmp_path: Path) -> None:
    lived(tmp_path, 1_000)
    rebuild(tmp_path, "a", NOW + 50)
    with closing(Store.open(tmp_path, "a", NOW + 60)) as store, patch.object(salvaged, "STEP_BYTES", 1_500):
        assert list(steps(store)) == [2, 2, 2, 1]


@pytest.mark.parametrize("verb", ["rebuild", "restore"])
def test_without_room_for_it_nothing_is_begun(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    lived(home, 1_000)
    backup.write(home, tmp_path / "b.db", "1", NOW, lambda done, of: None)
    before = (home / FILE).read_bytes()
    run = {
        "rebuild": lambda: rebuild(home, "a", NOW + 50),
        "restore": lambda: restore.restore(tmp_path / "b.db", home, "a", NOW + 50),
    }[verb]
    needed = {"rebuild": KEYS * 2 * 1_000, "restore": (tmp_path / "b.db").stat().st_size}[verb]
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=needed - 1))
    with pytest.raises(EntglError, match=f"the disk has {needed - 1}; nothing was changed") as caught:
        run()
    assert caught.value.code == "disk-full"
    assert (home / FILE).read_bytes() == before
    assert not (home / swap.PART).exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=2 * len(before)))
    run()
