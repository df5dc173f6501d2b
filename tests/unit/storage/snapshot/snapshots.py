"""Snapshots between stores in memory, without any node around them."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from entgldb.messages.local.snapshots import Frozen
from entgldb.storage.log import prune
from entgldb.storage.rules.results import Installed
from entgldb.storage.snapshot import steps
from entgldb.storage.snapshot.freeze import freeze, read_chunk
from entgldb.storage.snapshot.staging import Staging
from entgldb.storage.store import Store
from tests.support.merging import install_whole

_names = itertools.count(1)


def memory() -> tuple[str, sqlite3.Connection]:
    """A database that another connection can attach by the name, as long as this one is open."""
    name = f"file:/test-snapshot-{next(_names)}?vfs=memdb"
    return name, sqlite3.connect(name, uri=True, isolation_level=None)


def frozen(source: Store) -> tuple[Frozen, sqlite3.Connection]:
    """The snapshot that a node would give away now."""
    target = sqlite3.connect(":memory:", isolation_level=None)
    return freeze(source.connection, target), target


@contextmanager
def staged(source: Store, now_ms: int, *, cloud: bool = False) -> Iterator[str]:
    """The snapshot that ``source`` gives away, staged whole; the name of its place."""
    facts, chunks = frozen(source)
    name, connection = memory()
    staging = Staging(connection)
    for number in range(facts.common if cloud else facts.chunks):
        found = read_chunk(chunks, number)
        assert found is not None
        staging.add_chunk(number, *found)
    staging.finish(facts.id, whole=not cloud)
    yield name
    connection.close()
    chunks.close()


def in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small a snapshot is, it is merged one key at a time, and log rows go four by four."""
    monkeypatch.setattr(steps, "STEP_ROWS", 1)
    monkeypatch.setattr(steps, "AT_ONCE_BYTES", 0)
    monkeypatch.setattr(steps, "LOG_ROWS_LEFT", 0)
    monkeypatch.setattr(prune, "STEP_ROWS", 4)


def send(
    source: Store,
    target: Store,
    now_ms: int,
    *,
    cloud: bool = False,
    peer: str = "",
    between: Callable[[], None] = lambda: None,
) -> Installed:
    """From freezing to the merge; ``between`` is called between its steps."""
    with staged(source, now_ms, cloud=cloud) as name:
        entropy = b"e" * 31 + bytes([next(_names) % 256])
        return install_whole(target, name, entropy, now_ms, cloud=cloud, peer=peer, between=between)


def forget(node: Store, *, tombstones: bool) -> None:
    """Do the work of retention when all members have everything."""
    with node.group():
        for origin, known in node.state.origins.items():
            node.state.raise_floor(origin, known.head.seq, known.head.hlc)
        node.connection.execute("DELETE FROM _entgldb_oplog")
        node.state.entries = 0
        node.state.pruned_lsn = node.state.lsn
        if tombstones:
            (latest,) = node.connection.execute(
                "SELECT ifnull(max(hlc), 0) FROM _entgldb_documents WHERE body IS NULL"
            ).fetchone()
            node.state.collected_hlc = max(node.state.collected_hlc, latest)
            node.connection.execute("DELETE FROM _entgldb_documents WHERE body IS NULL")
