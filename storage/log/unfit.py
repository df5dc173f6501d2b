"""The quarantine: entries that cannot be applied, set aside one by one with the reason, so that the rest
flows on.

Such an entry stands in the log as unapplied and is relayed like any other: another node may well be
able to apply it. The version that replaces it ends the matter.
"""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from entgldb.messages.errors import EntglError, ErrorCode, NotFoundError
from entgldb.messages.limits import PAGE_ROWS_MAX, QUARANTINE_KEPT_MAX
from entgldb.messages.model import Entry, Origin, Version
from entgldb.storage.file.state import State
from entgldb.storage.rules.header import MERGE, Header, decode

RECORDED: Final = 0
"""A row of the log that was only recorded: filtered, or a system entry from a cloud link."""
APPLIED: Final = 1
UNFIT: Final = 2
"""A row of the log whose entry is, or was, in quarantine."""
SHOWN_MAX: Final = 10_000
"""Rows given out in one go."""
NAMED_MAX: Final = 1_000
"""Versions looked for behind one entry: a longer row of unfit ones counts as absent."""


class Unfit(NamedTuple):
    """An entry that cannot be applied here."""

    collection: str
    key: str
    version: Version
    reason: str
    """A stable word: ``invalid``, ``too-large``, ``internal``."""
    text: str
    at_ms: int
    """When it was set aside."""


class CannotApply(Exception):  # noqa: N818 -- a signal inside one transaction, never shown to a user
    """The merge of ``version`` failed for a reason that lies in the entry, not in the disk."""

    def __init__(self, version: Version, fault: Exception) -> None:
        super().__init__(str(fault))
        self.version = version
        self.fault = why(fault)


def why(fault: Exception) -> EntglError:
    """The fault of an entry: a stable word and a sentence."""
    if isinstance(fault, EntglError):
        return fault
    return EntglError(f"{type(fault).__name__}: {fault}"[:500], code=ErrorCode.INTERNAL)


def list_unfit(connection: sqlite3.Connection) -> list[Unfit]:
    """All entries in quarantine, by collection and key; each page is one short read."""
    found: list[Unfit] = []
    last = 0
    while len(found) < SHOWN_MAX:
        page = connection.execute(
            "SELECT q.id, q.collection, q.key, o.name, q.seq, q.reason, q.text, q.at_ms"
            " FROM _entgldb_quarantine q JOIN _entgldb_origins o ON o.id = q.origin"
            " WHERE q.id > ? ORDER BY q.id LIMIT ?",
            (last, PAGE_ROWS_MAX),
        ).fetchall()
        if not page:
            break
        last = page[-1][0]
        found += [
            Unfit(name, key, Version(origin, seq), reason, text, at_ms)
            for _, name, key, origin, seq, reason, text, at_ms in page
        ]
    return sorted(found)


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
    replace_unfit(connection, state, header)
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


def replace_unfit(connection: sqlite3.Connection, state: State, header: Header) -> Header:
    """An entry that replaces one in quarantine ends its matter there; what the entry replaces beyond it.

    The unfit one was never merged: the version that it had replaced is the one that its successor meets
    here. A merge ends nothing: it is to be added to what it was made from. A merely later, concurrent entry
    does not either: elsewhere the two are a conflict, and are to be here in the end.
    """
    if not state.unfit_logged or header.op == MERGE:
        return header
    parent, named = header.parent, dict.fromkeys(header.named, True)
    waiting = list(named)
    while waiting and len(named) <= NAMED_MAX:
        version = waiting.pop()
        number = _number(state, version.origin)
        row = connection.execute(
            "SELECT header FROM _entgldb_oplog WHERE origin = ? AND seq = ? AND applied = ?",
            (number, version.seq, UNFIT),
        ).fetchone()
        older = None if row is None else decode(row[0])
        state.unfit -= connection.execute(
            "DELETE FROM _entgldb_quarantine WHERE origin = ? AND seq = ?", (number, version.seq)
        ).rowcount
        if older is not None and older.op != MERGE:
            waiting += [one for one in older.named if one not in named]
            named = dict.fromkeys(older.named, True) | named | {version: False}
            parent = older.parent if version == parent else parent
    seen = tuple(one for one, merged in named.items() if merged and one != parent)
    return header._replace(parent=parent, seen=seen)


def withdraw(connection: sqlite3.Connection, state: State, version: Version) -> Entry:
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
