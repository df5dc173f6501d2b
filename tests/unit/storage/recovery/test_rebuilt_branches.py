"""A file that went back in time, as nobody told, and was damaged then: peers have another branch.

The numbers of entries alone do not tell which of them the peers have.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.model import Entry
from entgldb.storage.authorship import runs
from entgldb.storage.file.fingerprint import FINGERPRINT_FILE
from entgldb.storage.file.open import FILE
from entgldb.storage.recovery import check
from entgldb.storage.recovery.check import Checkup
from entgldb.storage.recovery.rebuild import rebuild
from entgldb.storage.repair import salvaged
from entgldb.storage.rules.comparing import chunks
from entgldb.storage.store import Store
from tests.unit.storage.snapshot.snapshots import forget, send

NOW = 1_790_000_000_000
LATER = NOW + 100
RUNS = 5
"""Of a log so many are known, where a test makes more."""
counters = itertools.count(1)


def put(store: Store, key: str, text: str | None, now: int = NOW, collection: str = "users") -> None:
    body = None if text is None else f'{{"v":"{text}"}}'.encode()
    write = Write(collection, key, body)
    with store.group():
        store.write(RequestId(b"c" * 16, next(counters)), [write], now, system=True)


def give(source: Store, target: Store) -> None:
    theirs = {origin: seq for origin, (seq, _) in target.vector().items()}
    rows = [row for row in source.rows(1, 500) if row.seq > theirs.get(row.origin, 0)]
    with target.group():
        assert target.apply([Entry(row.header, row.body) for row in rows], LATER).refused == ""


def give_snapshot(source: Store, target: Store) -> None:
    forget(source, tombstones=True)
    assert send(source, target, LATER).refused == ""


def shows(store: Store) -> dict[str, str]:
    return {key: body.decode()[6:-2] for key, body in store.documents("users")}


def rivals(store: Store) -> list[tuple[str, str]]:
    rows = store.connection.execute("SELECT key, body FROM _entgldb_conflicts ORDER BY key, hlc").fetchall()
    return [(key, body[6:-2]) for key, body in rows]


class Life:
    """A node with a file, and a peer that has all of its log as it was before it went back."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.peer = Store.memory("peer", b"p" * 32, NOW)

    def write(self, texts: Iterable[tuple[str, str | None]], now: int = NOW, *, told: bool = False) -> None:
        """Open the file, write, close it. ``told``: the peer has it all then."""
        with closing(Store.open(self.home, "x", now)) as store:
            for key, text in texts:
                put(store, key, text, now)
            if told:
                give(store, self.peer)

    def is_undone(self, *branch: Callable[[], None]) -> None:
        """The file is as it was before, and nothing tells."""
        before = {name: (self.home / name).read_bytes() for name in (FILE, FINGERPRINT_FILE)}
        for step in branch:
            step()
        for name, data in before.items():
            # in its place: another file would be told from it
            with (self.home / name).open("r+b") as file:
                file.truncate(0)
                file.write(data)

    def damage(self, sql: str, *values: object) -> None:
        with closing(sqlite3.connect(self.home / FILE)) as connection, connection:
            assert connection.execute(sql, values).rowcount == 1

    def rebuilt(self, fill: Callable[[Store, Store], None], now: int = LATER) -> Store:
        """The node after its rebuild and its first sync, and a start for each key that was written again."""
        rebuild(self.home, "x", now)
        store = Store.open(self.home, "x", now)
        fill(self.peer, store)
        while store.salvages():
            with patch.object(salvaged, "STEP_KEYS", 1), store.group():
                store.reissue_salvaged(now)
            store.close()
            store = Store.open(self.home, "x", now)
        assert store.status()["salvaged"] == 0
        assert Checkup(store.connection).run(deep=True) == []
        give(store, self.peer)
        assert (shows(self.peer), rivals(self.peer)) == (shows(store), rivals(store))
        return store


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path)


FILLS = pytest.mark.parametrize("fill", [give, give_snapshot], ids=["log", "snapshot"])


@FILLS
@pytest.mark.parametrize("then", [LATER, NOW - 1_000], ids=["clock goes on", "clock goes back"])
@pytest.mark.parametrize(("before", "after"), [(0, 2), (5, 2)])
def test_writes_of_a_branch_come_back_also_where_peers_have_as_many_others(
    life: Life, before: int, after: int, then: int, fill: Callable[[Store, Store], None]
) -> None:
    life.write([("common", "c")])
    theirs = [("both", "theirs"), *((f"old{number}", "theirs") for number in range(before))]
    life.is_undone(lambda: life.write(theirs, NOW + 1, told=True))
    ours = [("both", "ours"), *((f"new{number}", "ours") for number in range(after))]
    life.write(ours, then)
    with closing(life.rebuilt(fill)) as store:
        wins, loses = ("ours", "theirs") if then == LATER else ("theirs", "ours")
        assert shows(store) == {"common": "c"} | dict(theirs) | dict(ours) | {"both": wins}
        assert rivals(store) == [("both", loses)]


@FILLS
def test_an_entry_with_a_number_that_the_branch_has_used_is_not_taken_for_what_the_branch_has_replaced(
    life: Life, fill: Callable[[Store, Store], None]
) -> None:
    life.write([("common", "c")])
    life.is_undone(lambda: life.write([("both", "theirs")], NOW + 1, told=True))
    life.write([("both", "first"), ("both", "ours")], LATER)
    with closing(life.rebuilt(fill)) as store:
        assert (shows(store)["both"], rivals(store)) == ("ours", [("both", "theirs")])


@FILLS
def test_a_branch_that_begins_with_an_entry_of_the_system_is_told_by_it(
    life: Life, fill: Callable[[Store, Store], None]
) -> None:
    life.write([("common", "c")])
    life.is_undone(lambda: life.write([(f"old{number}", "theirs") for number in range(5)], told=True))
    with closing(Store.open(life.home, "x", NOW)) as store:
        put(store, "x", "ours", collection="_system_nodes")
        put(store, "new", "ours")
    with closing(life.rebuilt(fill)) as store:
        assert (shows(store)["new"], rivals(store)) == ("ours", [])


@FILLS
def test_a_branch_of_which_the_first_entry_cannot_be_read_comes_back(
    life: Life, fill: Callable[[Store, Store], None]
) -> None:
    life.write([("common", "c")])
    life.is_undone(lambda: life.write([(f"old{number}", "theirs") for number in range(5)], told=True))
    life.write([("lost", "ours"), ("new", "ours"), ("newer", "ours")])
    life.damage("UPDATE _entgldb_oplog SET header = zeroblob(9) WHERE key = 'lost'")
    with closing(life.rebuilt(fill)) as store:
        assert {key for key, text in shows(store).items() if text == "ours"} == {"new", "newer"}
        assert rivals(store) == []


@FILLS
@pytest.mark.parametrize("ours", [2, RUNS - 1, RUNS + 3])
def test_a_branch_that_parted_before_all_runs_that_are_known_comes_back(
    monkeypatch: pytest.MonkeyPatch, life: Life, ours: int, fill: Callable[[Store, Store], None]
) -> None:
    """It ends before the first run that is known of the other one, with the same number as that, or later."""
    for reader in (runs, chunks, check):
        monkeypatch.setattr(reader, "RUNS_MAX", RUNS)
    life.write([("common", "c")])

    def written(name: str, opens: int) -> None:
        with closing(Store.open(life.home, "x", NOW)) as store:
            for number in range(opens):
                store.state.run = ""
                put(store, f"{name}{number}", name)
            if name == "theirs":
                give(store, life.peer)

    life.is_undone(lambda: written("theirs", RUNS + 3))
    written("ours", ours)
    with closing(life.rebuilt(fill)) as store:
        names = {f"theirs{number}": "theirs" for number in range(RUNS + 3)}
        names |= {f"ours{number}": "ours" for number in range(ours)}
        assert (shows(store), rivals(store)) == ({"common": "c"} | names, [])


@FILLS
@pytest.mark.parametrize("kept", [False, True])
def test_of_a_log_that_peers_have_nothing_is_written_again(
    life: Life, *, kept: bool, fill: Callable[[Store, Store], None]
) -> None:
    """However often the file was opened, also where its peers have more of it than the file itself."""
    for number in range(3):
        life.write([("common", f"c{number}"), (f"k{number}", "k")], told=True)
    more = [("common", "more"), ("x", "y")]
    if kept:
        life.write(more, told=True)
    else:
        life.is_undone(lambda: life.write(more, told=True))
    with closing(life.rebuilt(fill)) as store:
        assert shows(store) == {"k0": "k", "k1": "k", "k2": "k"} | dict(more)
        assert rivals(store) == []
        assert store.state.origins[store.origin].head.seq == 0


@FILLS
@pytest.mark.parametrize("torn", [False, True])
def test_of_a_log_whose_runs_are_forgotten_only_what_comes_after_the_last_known_entry_is_written_again(
    life: Life, *, torn: bool, fill: Callable[[Store, Store], None]
) -> None:
    """By the entry itself, or by the hash of it that the next one names."""
    for number in range(2):
        life.write([(f"k{number}", "k")], told=True)
    life.write([("k1", "unsent")])
    if torn:
        life.damage("UPDATE _entgldb_oplog SET header = zeroblob(9) WHERE seq = 2")
    put(life.peer, "k0", "peer", NOW + 1)
    life.peer.connection.execute("DELETE FROM _entgldb_runs")
    with closing(life.rebuilt(fill)) as store:
        assert (shows(store), rivals(store)) == ({"k0": "peer", "k1": "unsent"}, [])


@FILLS
def test_a_salvaged_write_replaces_what_its_writer_had_seen_and_is_a_rival_of_what_it_had_not(
    life: Life, fill: Callable[[Store, Store], None]
) -> None:
    put(life.peer, "seen", "peer")
    with closing(Store.open(life.home, "x", NOW)) as store:
        give(life.peer, store)
    life.write([("unseen", "first")], told=True)
    put(life.peer, "unseen", "peer", NOW + 1)
    life.write([("seen", "step"), ("seen", "mine"), ("unseen", "mine"), ("deleted", "x")], LATER)
    put(life.peer, "deleted", "peer", NOW + 2)
    life.write([("deleted", None)], LATER)
    with closing(life.rebuilt(fill)) as store:
        assert shows(store) == {"seen": "mine", "unseen": "mine"}
        assert rivals(store) == [("deleted", "peer"), ("unseen", "peer")]
