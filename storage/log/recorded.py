"""Entries that are recorded and not applied: a file that lacks their effect can vouch for no system
collection."""

from __future__ import annotations

import sqlite3
from typing import Final

from entgldb.storage.rules.comparing.chunks import SEQ_MAX
from entgldb.storage.rules.header import Header, decode

PARTIAL: Final = "system_partial"
"""In the file's meta table: a snapshot came by a cloud, whose vector covers a configuration that it has not.
A node whose file has that mark can vouch for no system collection."""


_SHOWN: Final = (
    "SELECT d.hlc, o.name FROM _entgldb_documents d JOIN _entgldb_origins o ON o.id = d.origin"
    " WHERE d.collection = ? AND d.key = ?"
)


def is_partial(connection: sqlite3.Connection) -> bool:
    """Whether the vector covers entries of system collections that were never here."""
    return connection.execute("SELECT 1 FROM _entgldb_meta WHERE name = ?", (PARTIAL,)).fetchone() is not None


def mark_partial(connection: sqlite3.Connection) -> None:
    """From now on this file can vouch for no system collection."""
    connection.execute("INSERT OR REPLACE INTO _entgldb_meta VALUES (?, 1)", (PARTIAL,))


def has_recorded(connection: sqlite3.Connection, origin: int | None = None, last: int = SEQ_MAX) -> bool:
    """Whether entries (of ``origin`` up to ``last``) are only recorded here, and would show if they were
    applied."""
    rows = connection.execute(
        "SELECT header FROM _entgldb_oplog WHERE applied = 0 AND seq <= ? AND origin = ifnull(?, origin)",
        (last, origin),
    )
    return any(not is_outdated(connection, decode(raw)) for (raw,) in rows)


def is_outdated(connection: sqlite3.Connection, unapplied: Header) -> bool:
    """Whether something newer than an entry that was not applied stands at its place."""
    shown = connection.execute(_SHOWN, (unapplied.collection, unapplied.key)).fetchone()
    return shown is not None and shown >= (unapplied.hlc, unapplied.origin)
