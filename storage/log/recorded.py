"""Entries that are recorded and not applied: a file that lacks their effect can vouch for no system
collection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Final

from entgldb.messages.model import Origin
from entgldb.storage.rules.comparing.chunks import SEQ_MAX
from entgldb.storage.rules.header import Header, decode

PARTIAL: Final = "system_partial"
"""In the file's meta table: a snapshot came by a cloud, whose vector covers a configuration that it has not.
A node whose file has that mark can vouch for no system collection. The mark says up to where in each log."""


_SHOWN: Final = (
    "SELECT d.hlc, o.name FROM _entgldb_documents d JOIN _entgldb_origins o ON o.id = d.origin"
    " WHERE d.collection = ? AND d.key = ?"
)


def is_partial(connection: sqlite3.Connection) -> bool:
    """Whether the vector covers entries of system collections that were never here."""
    return connection.execute("SELECT 1 FROM _entgldb_meta WHERE name = ?", (PARTIAL,)).fetchone() is not None


def lacking(connection: sqlite3.Connection) -> dict[Origin, int] | None:
    """Up to where in each log the vector covers system entries that were never here; None: there are none."""
    row = connection.execute("SELECT value FROM _entgldb_meta WHERE name = ?", (PARTIAL,)).fetchone()
    # the mark of an earlier release does not say how far it goes
    return None if row is None else json.loads(row[0]) if isinstance(row[0], str) else {}


def vouches(connection: sqlite3.Connection) -> bool:
    """Whether a snapshot of this file brings the configuration."""
    return not is_partial(connection) and not has_recorded(connection)


def mark_partial(connection: sqlite3.Connection, bounds: Mapping[Origin, int]) -> None:
    """From now on this file can vouch for no system collection; ``bounds``: up to where in each log."""
    value = json.dumps(dict(bounds))
    connection.execute("INSERT OR REPLACE INTO _entgldb_meta VALUES (?, ?)", (PARTIAL, value))


def complete(
    connection: sqlite3.Connection, ours: Mapping[Origin, int], theirs: Mapping[Origin, int]
) -> None:
    """A file that had ``ours`` has got all system collections as they are at ``theirs``: it may vouch again
    where that is as far as its mark says."""
    row = connection.execute("SELECT value FROM _entgldb_meta WHERE name = ?", (PARTIAL,)).fetchone()
    # the mark of an earlier release does not say how far it goes
    bounds = {} if row is None else ours if row[0] == 1 else json.loads(row[0])
    if all(theirs.get(origin, 0) >= seq for origin, seq in bounds.items()):
        connection.execute("DELETE FROM _entgldb_meta WHERE name = ?", (PARTIAL,))


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
