"""A power cut at any moment, on a disk with a cache: every acknowledged write is there afterwards."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Final

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.storage.file import open as database
from entgldb.storage.file import state
from entgldb.storage.recovery.check import Checkup
from entgldb.storage.store import Store
from tests.unit.storage.file.power_cut import RecordedDisk, stay_one_machine

NOW: Final = 1_790_000_000_000
CLIENT: Final = b"c" * 16
COMMITS: Final = 30
CUTS: Final = 10
"""Moments at which the power of each history goes."""


@pytest.fixture(autouse=True)
def one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    stay_one_machine(monkeypatch)
    # the state is saved now and then, and follows from the log in between
    monkeypatch.setattr(state, "SAVE_ROWS", 7)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def disk(home: Path) -> Iterator[RecordedDisk]:
    recorded = RecordedDisk(home)
    with recorded.recording():
        yield recorded


Acknowledged = list[tuple[int, dict[str, bytes | None]]]
"""Moment -> the documents that somebody was told are durable."""


def live(disk: RecordedDisk, random: Random) -> Acknowledged:
    """A life of a store, from no file at all: commits, checkpoints, stops, starts."""
    documents: dict[str, bytes | None] = {}
    acknowledged: Acknowledged = []
    store = Store.open(disk.directory, "lan-1", NOW)
    for number in range(COMMITS):
        match random.randrange(12):
            case 0:
                store.close()
                store = Store.open(disk.directory, "lan-1", NOW + number)
            case 1:
                store.checkpoint()
            case 2:
                store.connection.execute(f"PRAGMA wal_autocheckpoint = {random.choice((1, 5, 1000))}")
        changed: dict[str, bytes | None] = {}
        for _ in range(random.randint(1, 4)):
            body = b'{"n":%d,"x":"%s"}' % (number, b"x" * random.randrange(6_000))
            changed[f"k{random.randrange(12)}"] = None if random.random() < 0.2 else body
        with store.group():
            store.write(
                RequestId(CLIENT, number),
                [Write("c", key, made) for key, made in changed.items()],
                NOW + number,
            )
        documents |= changed
        acknowledged.append((disk.moment, dict(documents)))
    store.close()
    return acknowledged


def shown(home: Path, requests: int) -> dict[str, bytes] | str:
    """The live documents, or why this file goes on as somebody else, or the first fault of it.

    ``requests``: so many were answered.
    """
    with closing(Store.open(home, "lan-1", NOW + 1_000)) as store:
        if store.reborn is not None:
            return store.reborn.value
        assert store.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        # log, heads, counters
        for finding in Checkup(store.connection).run():
            return str(finding)
        for number in range(requests):
            if store.answered(RequestId(CLIENT, number)) is None:
                return f"request {number} would be done again"
        return {
            key: bytes(body)
            for key, body in store.connection.execute(
                "SELECT key, CAST(body AS BLOB) FROM _entgldb_documents WHERE body IS NOT NULL"
            )
        }


def lost(disk: RecordedDisk, acknowledged: Acknowledged, random: Random, after: Path) -> list[str]:
    """Cuts that lose something. A file may show the write that was under way, and must show all before it."""
    faults = []
    for number in range(CUTS):
        moment = random.choice([random.randint(1, disk.moment), random.choice(acknowledged)[0]])
        home = after / f"after-{number}"
        home.mkdir()
        disk.cut(moment, random, home)
        told = [documents for at, documents in acknowledged if at <= moment]
        allowed = [told[-1] if told else {}, *(documents for _, documents in acknowledged[len(told) :][:1])]
        found = shown(home, len(told))
        if found not in [{k: v for k, v in documents.items() if v is not None} for documents in allowed]:
            faults.append(f"cut at {moment}: {found}")
    return faults


@pytest.mark.parametrize("seed", range(8))
def test_acknowledged_writes_outlive_a_power_cut(seed: int, tmp_path: Path, home: Path) -> None:
    random = Random(seed)
    disk = RecordedDisk(home)
    with disk.recording():
        acknowledged = live(disk, random)
    assert lost(disk, acknowledged, random, tmp_path) == []


def test_a_store_that_syncs_less_is_found_out(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, random = database._prepare, Random(1)

    def careless(connection: sqlite3.Connection, directory: Path, fresh: bool) -> None:
        prepare(connection, directory, fresh)
        connection.execute("PRAGMA synchronous = NORMAL")

    monkeypatch.setattr(database, "_prepare", careless)
    disk = RecordedDisk(home)
    with disk.recording():
        acknowledged = live(disk, random)
    assert lost(disk, acknowledged, random, tmp_path)
