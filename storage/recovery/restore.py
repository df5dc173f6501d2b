"""Putting a backup into the directory of a node that is down.

All is prepared in a folder of its own; then it takes the place of what was there (``swap``).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import ConfigError
from entgldb.messages.limits import GROUP_BYTES_MAX
from entgldb.storage.file import swap
from entgldb.storage.file.open import FILE
from entgldb.storage.recovery import backup
from entgldb.storage.recovery.anew import begun_anew
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.store import Store

_PAGE: Final = 250
_PAGE_BYTES: Final = GROUP_BYTES_MAX // 4


class Restored(NamedTuple):
    """The result of a restore."""

    manifest: backup.Manifest
    origin: str
    reissued: int
    """Documents written anew, with ``authoritative``."""
    set_aside: str
    """Name of the database that was there before; empty where there was none."""


def preview(file: Path) -> dict[str, int]:
    """Collection -> documents that an authoritative restore would write anew."""
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        rows = connection.execute(
            "SELECT collection, count(*) FROM _entgldb_documents WHERE body IS NOT NULL"
            " AND collection NOT LIKE '\\_system\\_%' ESCAPE '\\' GROUP BY collection ORDER BY collection"
        )
        return dict(rows.fetchall())
    finally:
        connection.close()


def restore(
    file: Path,
    directory: Path,
    node_id: str,
    now_ms: int,
    *,
    authoritative: bool = False,
    progress: Callable[[int], None] = lambda documents: None,
) -> Restored:
    """Install a backup, under the directory's lock. Raises EntglError; the database that was there stays
    then."""
    manifest = backup.verify(file)
    if manifest.node_id != node_id:
        raise ConfigError(
            f"{file.name} is of node {manifest.node_id}, this directory is of {node_id}",
            hint="restore into a directory of that node id",
        )
    cut = swap.complete(directory)
    # the database that an earlier run has put in place was never started: the one that it set aside counts
    aside = cut.aside if cut is not None else swap.free_name(directory, "before-restore", now_ms)
    with swap.preparing(directory, file.stat().st_size) as part:
        os.close(os.open(part / FILE, os.O_WRONLY | os.O_CREAT, 0o600))
        shutil.copyfile(file, part / FILE)
        with begun_anew(part, directory, node_id, Why.RESTORED, now_ms) as store:
            store.connection.execute("DROP TABLE _entgldb_backup")
            origin, reissued = store.origin, _reissue(store, now_ms, progress) if authoritative else 0
        swap.install(directory, swap.Swap(aside, {"origin": origin, "reissued": reissued}))
    return Restored(manifest, origin, reissued, aside if (directory / aside).exists() else "")


def _reissue(store: Store, now_ms: int, progress: Callable[[int], None]) -> int:
    """Write every live document of a user's collection anew, as this node, with a clock of now."""
    client, done, last = os.urandom(16), 0, 0
    while page := store.connection.execute(
        "SELECT id, collection, key, CAST(body AS BLOB) FROM _entgldb_documents WHERE id > ?"
        " AND body IS NOT NULL AND collection NOT LIKE '\\_system\\_%' ESCAPE '\\' ORDER BY id LIMIT ?",
        (last, _PAGE),
    ).fetchall():
        size = 0
        writes: list[Write] = []
        for number, collection, key, body in page:
            size += len(body)
            if writes and size > _PAGE_BYTES:
                break
            writes.append(Write(collection, key, body))
            last = number
        with store.group():
            store.write(RequestId(client, done), writes, now_ms, whole=True)
        done += len(writes)
        progress(done)
    return done
