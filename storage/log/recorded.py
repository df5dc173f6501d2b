"""Entries that are recorded and not applied: a file that lacks their effect can vouch for no system
collection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from typing import Final

from entgldb.messages.model import KEYS, NODES, Origin, Version, node_of
from entgldb.storage.rules.comparing.chunks import SEQ_MAX
from entgldb.storage.rules.ended import any_log
from entgldb.storage.rules.header import Header, decode

PARTIAL: Final = "system_partial"
"""In the file's meta table: a snapshot came by a cloud, whose vector covers a configuration that it has not.
A node whose file has that mark can vouch for no system collection. The mark says of each log behind which
entry some may be lacking, and up to which."""
_SHOWN: Final = (
    "SELECT d.hlc, o.name FROM _entgldb_documents d JOIN _entgldb_origins o ON o.id = d.origin"
    " WHERE d.collection = ? AND d.key = ?"
)
_IS_OUT: Final = "SELECT 1 FROM _entgldb_ended WHERE origin = ?"


def is_partial(connection: sqlite3.Connection) -> bool:
    """Whether the vector covers entries of system collections that were never here."""
    return _spans(connection) is not None


def lacking(connection: sqlite3.Connection) -> dict[Origin, int] | None:
    """Up to where in each log the vector covers system entries that were never here; None: there are none."""
    spans = _spans(connection)
    return None if spans is None else {origin: last for origin, (_, last) in spans.items()}


def unseen(connection: sqlite3.Connection) -> Callable[[Version], bool]:
    """Of a version of a system key that the vector covers: whether it may never have been here."""
    spans = _spans(connection) or {}
    waiting = {
        Version(*row)
        for row in connection.execute(
            "SELECT o.name, l.seq FROM _entgldb_oplog l JOIN _entgldb_origins o ON o.id = l.origin"
            " WHERE l.applied = 0"
        )
    }

    def lacks(version: Version) -> bool:
        behind, last = spans.get(version.origin, (0, 0))
        return behind < version.seq <= last or version in waiting

    return lacks


def seen(connection: sqlite3.Connection, heads: Mapping[Origin, int]) -> dict[Origin, int]:
    """Up to where in each log, which goes to ``heads``, every system entry has been here."""
    spans = _spans(connection) or {}
    first = dict(
        connection.execute(
            "SELECT o.name, min(l.seq) FROM _entgldb_oplog l JOIN _entgldb_origins o ON o.id = l.origin"
            " WHERE l.applied = 0 GROUP BY o.name"
        ).fetchall()
    )
    return {
        origin: min(head, spans.get(origin, (head, 0))[0], first.get(origin, head + 1) - 1)
        for origin, head in heads.items()
    }


def vouches(connection: sqlite3.Connection) -> bool:
    """Whether a snapshot of this file brings the configuration."""
    return not is_partial(connection) and not has_recorded(connection)


def mark_partial(
    connection: sqlite3.Connection, before: Mapping[Origin, int], bounds: Mapping[Origin, int]
) -> None:
    """From now on this file can vouch for no system collection: entries may be lacking behind ``before`` (see
    ``seen``) and up to ``bounds``."""
    value = json.dumps({origin: (before.get(origin, 0), last) for origin, last in bounds.items()})
    connection.execute("INSERT OR REPLACE INTO _entgldb_meta VALUES (?, ?)", (PARTIAL, value))


def complete(connection: sqlite3.Connection, theirs: Mapping[Origin, int]) -> None:
    """The file has got all system collections as they are at ``theirs``: it may vouch again where that is as
    far as its mark says."""
    spans = _spans(connection) or {}
    if all(theirs.get(origin, 0) >= last for origin, (_, last) in spans.items()):
        connection.execute("DELETE FROM _entgldb_meta WHERE name = ?", (PARTIAL,))


def _spans(connection: sqlite3.Connection) -> dict[Origin, tuple[int, int]] | None:
    """Behind which entry of each log some may be lacking, and up to which; None without the mark."""
    row = connection.execute("SELECT value FROM _entgldb_meta WHERE name = ?", (PARTIAL,)).fetchone()
    return None if row is None else {origin: tuple(span) for origin, span in json.loads(row[0]).items()}


def has_recorded(connection: sqlite3.Connection, origin: int | None = None, last: int = SEQ_MAX) -> bool:
    """Whether entries (of ``origin`` up to ``last``) are only recorded here, and would show if they were
    applied."""
    rows = connection.execute(
        "SELECT header FROM _entgldb_oplog WHERE applied = 0 AND seq <= ? AND origin = ifnull(?, origin)",
        (last, origin),
    )
    return any(not is_outdated(connection, decode(raw)) for (raw,) in rows)


def is_outdated(connection: sqlite3.Connection, unapplied: Header) -> bool:
    """Whether an entry that was not applied would show nothing: something newer stands at its place, or its
    writer was expelled and it is a key, or its row: nobody goes by these, or can write them."""
    shown = connection.execute(_SHOWN, (unapplied.collection, unapplied.key)).fetchone()
    if shown is not None and shown >= (unapplied.hlc, unapplied.origin):
        return True
    writer = node_of(unapplied.origin)
    own = unapplied.collection == KEYS or (unapplied.collection, unapplied.key) == (NODES, writer)
    return own and connection.execute(_IS_OUT, (any_log(writer),)).fetchone() is not None
