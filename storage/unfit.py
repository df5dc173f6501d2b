"""Entries that cannot be applied: set aside one by one with the reason, so that the rest flows on.

Such an entry stands in the log as unapplied and is relayed like any other: another node may well be
able to apply it. The version that replaces it ends the matter.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from entgldb.messages.errors import EntglError, ErrorCode, NotFoundError
from entgldb.messages.limits import QUARANTINE_KEPT_MAX
from entgldb.messages.model import Entry, Origin, Version
from entgldb.storage.rules.header import MERGE, Header
from entgldb.storage.state import State

RECORDED: Final = 0
"""A row of the log that was only recorded: filtered, or a system entry from a cloud link."""
APPLIED: Final = 1
UNFIT: Final = 2
"""A row of the log whose entry is, or was, in quarantine."""


class CannotApply(Exception):  # noqa: N818 -- a signal inside one transaction, never shown to a user
    """The merge of ``version`` failed for a reason that lies in the entry, not in the disk."""

    def __init__(self, version: Version, fault: Exception) -> None:
        super().__init__(str(fault))
        self.version = version
        self.fault = why(fault)


def why(fault: Exception) -> EntglError:
    """What is wrong with an entry; a stable word and a sentence."""
    if isinstance(fault, EntglError):
        return fault
    return EntglError(f"{type(fault).__name__}: {fault}"[:500], code=ErrorCode.INTERNAL)


def as_kept(body: bytes | None) -> str | bytes | None:
    """A body as the log keeps it: as text, like all others, where it is text at all."""
    try:
        return None if body is None else body.decode()
    except UnicodeDecodeError:
        return body


def set_aside(
    connection: sqlite3.Connection,
    state: State,
    header: Header,
    entry: Entry,
    fault: EntglError,
    now_ms: int,
) -> None:
    """Put one entry into quarantine; beyond QUARANTINE_KEPT_MAX the oldest leaves it."""
    number = state.origins[header.origin].number
    clear_parent(connection, state, header)
    state.unfit_logged = True
    state.unfit += connection.execute(
        "INSERT OR IGNORE INTO _entgldb_quarantine"
        " (origin, seq, hlc, collection, key, header, body, reason, text, at_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            number,
            header.seq,
            header.hlc,
            header.collection,
            header.key,
            entry.header,
            entry.body,
            fault.code.value,
            fault.text,
            now_ms,
        ),
    ).rowcount
    if state.unfit > QUARANTINE_KEPT_MAX:
        state.unfit -= connection.execute(
            "DELETE FROM _entgldb_quarantine WHERE id = (SELECT min(id) FROM _entgldb_quarantine)"
        ).rowcount


def clear_parent(connection: sqlite3.Connection, state: State, header: Header) -> None:
    """An entry that replaces one in quarantine ends its matter there.

    A merge does not: it is to be added to what it was made from. A merely later, concurrent one does not
    either: elsewhere the two are a conflict, and are to be here in the end.
    """
    if state.unfit and header.op != MERGE:
        for version in header.named:
            state.unfit -= connection.execute(
                "DELETE FROM _entgldb_quarantine WHERE origin = ? AND seq = ?",
                (_number(state, version.origin), version.seq),
            ).rowcount


def take(connection: sqlite3.Connection, state: State, version: Version) -> Entry:
    """Take one entry out of quarantine. Raises NotFoundError."""
    number = _number(state, version.origin)
    rows = connection.execute(
        "DELETE FROM _entgldb_quarantine WHERE origin = ? AND seq = ? RETURNING header, body",
        (number, version.seq),
    ).fetchall()
    if not rows:
        raise NotFoundError(
            f"{version.origin} {version.seq} is not in quarantine", hint="entgldb quarantine shows what is"
        )
    state.unfit -= 1
    return Entry(*rows[0])


def _number(state: State, origin: Origin) -> int:
    known = state.origins.get(origin)
    return 0 if known is None else known.number
