"""Snapshots between stores in memory, without any node around them."""

from __future__ import annotations

import itertools
import sqlite3

from entgldb.storage.freeze import Frozen, freeze, read_chunk
from entgldb.storage.rules.results import Installed
from entgldb.storage.staging import Staging
from entgldb.storage.store import Store

_names = itertools.count(1)


def memory() -> tuple[str, sqlite3.Connection]:
    """A database that another connection can attach by the name, as long as this one is open."""
    name = f"file:/test-snapshot-{next(_names)}?vfs=memdb"
    return name, sqlite3.connect(name, uri=True, isolation_level=None)


def frozen(source: Store, now_ms: int = 0) -> tuple[Frozen, sqlite3.Connection]:
    """What a node would give away now."""
    target = sqlite3.connect(":memory:", isolation_level=None)
    return freeze(source.connection, target, now_ms), target


def send(
    source: Store, target: Store, now_ms: int, *, cloud: bool = False, rebase: bool = False
) -> Installed:
    """From freezing to the merge."""
    facts, chunks = frozen(source)
    name, staged = memory()
    staging = Staging(staged)
    count = facts.common if cloud else facts.chunks
    for number in range(count):
        found = read_chunk(chunks, number)
        assert found is not None
        staging.take(number, *found)
    staging.finish(facts.id, whole=not cloud)
    done = target.install(name, b"e" * 31 + bytes([next(_names) % 256]), now_ms, cloud=cloud, rebase=rebase)
    staged.close()
    chunks.close()
    return done
