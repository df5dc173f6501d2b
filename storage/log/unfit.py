"""The quarantine: entries that cannot be applied, set aside one by one with the reason, so that the rest
flows on.

Such an entry stands in the log as unapplied and is relayed like any other: another node may well be
able to apply it. The version that replaces it ends the matter.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from itertools import starmap
from typing import Final, NamedTuple

from entgldb.messages.errors import EntglError, InvalidError, NotFoundError, as_own
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
        self.fault = as_own(fault)


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
    if state.unfit_logged and header.op != MERGE:
        _end_older(connection, state, header)
    state.unfit_logged = True
    state.unfit += connection.execute(
        "INSERT OR IGNORE INTO _entgldb_quarantine"
        " (origin, seq, hlc, collection, key, header, body, reason, text, at_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (number, *header[1:5], entry.header, entry.body, fault.code.value, fault.text, now_ms),
    ).rowcount
    if state.unfit > QUARANTINE_KEPT_MAX:
        state.unfit -= connection.execute(
            "DELETE FROM _entgldb_quarantine WHERE id = (SELECT min(id) FROM _entgldb_quarantine)"
        ).rowcount


def note_named(connection: sqlite3.Connection, header: Header) -> None:
    """Note in ``temp.named`` which matters an entry that is to be taken out of the log may have ended."""
    connection.executemany(
        "INSERT OR IGNORE INTO temp.named VALUES (?, ?, ?, ?)",
        [(header.collection, header.key, *version) for version in header.named],
    )


def set_aside_again(connection: sqlite3.Connection, state: State) -> None:
    """Open the matters again that entries which have been taken out (``temp.named``) had ended, and none that
    stays ends. A matter that a person has dropped is opened, too: in the log the two look alike.

    The log is walked once, and only where one of these keys has an entry that cannot be applied.
    """
    places = set(
        connection.execute(
            "SELECT l.collection, l.key FROM _entgldb_oplog l CROSS JOIN temp.named n"
            " ON n.collection = l.collection AND n.key = l.key WHERE l.applied = 2"
        )
    )
    if not places:
        return
    unfit, stay = dict[Version, Header](), set[Version]()
    for collection, key, raw, applied in connection.execute(
        "SELECT collection, key, header, applied FROM _entgldb_oplog WHERE applied > ? ORDER BY lsn",
        (RECORDED,),
    ):
        if (collection, key) in places:
            header = decode(raw)
            stay |= header.named if header.op != MERGE else set()
            unfit |= {header.version: header} if applied == UNFIT else {}
    named = starmap(Version, connection.execute("SELECT origin, seq FROM temp.named"))
    open_again = _ended_by(named, unfit) - _ended_by(stay, unfit)
    for version, header in unfit.items():
        if version in open_again:
            _set_aside_again(connection, state, header)


def _ended_by(named: Iterable[Version], unfit: Mapping[Version, Header]) -> set[Version]:
    """The entries of ``unfit`` that an entry ends which names these: a merge is ended with what it names."""
    waiting, found = [one for one in named if one in unfit], set[Version]()
    while waiting:
        version = waiting.pop()
        found.add(version)
        if unfit[version].op == MERGE:
            waiting += [one for one in unfit[version].named if one in unfit and one not in found]
    return found


def _set_aside_again(connection: sqlite3.Connection, state: State, header: Header) -> None:
    number = _number(state, header.origin)
    raw, body = connection.execute(
        "SELECT header, body FROM _entgldb_oplog WHERE origin = ? AND seq = ?", (number, header.seq)
    ).fetchone()
    body = body.encode() if isinstance(body, str) else body
    fault = InvalidError("what had replaced it was taken out: try it again")
    set_aside(connection, state, header, Entry(raw, body), fault, state.shown_ms)


def _end_older(connection: sqlite3.Connection, state: State, header: Header) -> None:
    """A put or a delete ends the matter of what it replaces, though it is set aside itself.

    An older one has ended what was behind it: a long row of them costs each no more than the last.
    """
    waiting, seen = list(header.named), set(header.named)
    while waiting and len(seen) <= NAMED_MAX:
        version = waiting.pop()
        number = _number(state, version.origin)
        state.unfit -= connection.execute(
            "DELETE FROM _entgldb_quarantine WHERE origin = ? AND seq = ?", (number, version.seq)
        ).rowcount
        older = _logged(connection, number, version.seq)
        if older is not None and older.op == MERGE:
            waiting += [one for one in older.named if one not in seen]
            seen |= older.named


def _logged(connection: sqlite3.Connection, number: int, seq: int) -> Header | None:
    """An entry of the log that is, or was, in quarantine."""
    row = connection.execute(
        "SELECT header FROM _entgldb_oplog WHERE origin = ? AND seq = ? AND applied = ?", (number, seq, UNFIT)
    ).fetchone()
    return None if row is None else decode(row[0])


def replace_unfit(
    connection: sqlite3.Connection, state: State, header: Header
) -> tuple[Header, frozenset[Version]]:
    """An entry with all that it replaces where it names unfit ones, and those of them that are still to come.

    The unfit one was never merged: what it had replaced is what its successor meets here. A put or a delete
    ends the matter of the unfit one. A merge does not: it is to be added to what it was made from. A merely
    later, concurrent entry does not either: elsewhere the two are a conflict, and are to be here in the end.
    """
    if not state.unfit_logged:
        return header, frozenset()
    ends = header.op != MERGE
    named, unfit = dict.fromkeys(header.named), dict[Version, Version | None]()
    waiting = list(named)
    while waiting and len(named) <= NAMED_MAX:
        version = waiting.pop()
        number = _number(state, version.origin)
        if ends:
            state.unfit -= connection.execute(
                "DELETE FROM _entgldb_quarantine WHERE origin = ? AND seq = ?", (number, version.seq)
            ).rowcount
        older = _logged(connection, number, version.seq)
        if older is not None:
            unfit[version] = older.parent
            waiting += [one for one in older.named if one not in named]
            named = dict.fromkeys(older.named) | named
    if not ends:
        return header._replace(seen=tuple(one for one in named if one != header.parent)), frozenset(unfit)
    parent, left = header.parent, [one for one in named if one not in unfit]
    while parent in unfit:
        parent = unfit.pop(parent)
    return header._replace(parent=parent, seen=tuple(one for one in left if one != parent)), frozenset()


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
