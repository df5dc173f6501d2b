"""Before a file of an earlier format is changed, a copy of it is made beside it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from entgldb.storage.file.durable import sync
from entgldb.storage.file.schema import FORMAT


def keep_copy(connection: sqlite3.Connection, file: Path) -> Path | None:
    """Copy a database of an earlier format to ``FILE.format-N.bak``; None where there is nothing to keep.

    It stays until the operator removes it. A copy that was cut short is made again; one that is whole is not.
    """
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if not 0 < found < FORMAT:
        return None
    kept = file.with_name(f"{file.name}.format-{found}.bak")
    if not kept.exists():
        new = kept.with_name(f"{kept.name}.new")
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT, 0o600))
        _fill(connection, new)
        new.replace(kept)
        sync(kept.parent)
    return kept


def _fill(connection: sqlite3.Connection, new: Path) -> None:
    """A whole database in one file, as of now: SQLite's online backup."""
    with closing(sqlite3.connect(new)) as copy:
        connection.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    sync(new)
