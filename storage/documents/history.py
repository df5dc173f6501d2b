"""The versions of one document, newest first, as far as the log still has them."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from entgldb.messages.model import Version
from entgldb.messages.schema import Json
from entgldb.storage.log.rows import read_operation
from entgldb.storage.rules.clock import ms_of
from entgldb.storage.rules.header import DELETE, MERGE, Header, decode
from entgldb.storage.rules.merging.row import absorb, read_merging
from entgldb.storage.rules.merging.stored import Stored, Tip, load

VERSIONS_MAX: Final = 10_000
"""Versions that are looked for; older ones are ``beyond-limit``."""


class Past(NamedTuple):
    """One version of a document."""

    version: Version
    parent: Version | None
    op: str
    """``put`` or ``delete`` of the whole document, ``merge`` of some fields, ``merge-delete``."""
    at_ms: int
    document: dict[str, Json] | None
    """The document after it, all versions older than it included. None: deleted, or too much is missing."""
    change: dict[str, Json] | None
    """The fields that a merge wrote: ``.name``, ``#`` an element, ``-`` removed."""
    state: str
    """``current``, ``expired`` (and nothing newer), ``merged`` (beside it), ``conflict`` or ``replaced``."""


class Ending(NamedTuple):
    """An end of the logged history: a version that is named and is not here."""

    version: Version
    reason: str
    """``pruned``, ``not-here``, ``no-body`` or ``beyond-limit``."""


class History(NamedTuple):
    """The versions of one document in the log."""

    versions: list[Past]
    endings: list[Ending]
    """Empty when the history is whole."""


def history(connection: sqlite3.Connection, collection: str, key: str) -> History:
    """Everything that led to a document, or to its tombstone, from the log of this node."""
    states = _states(connection, collection, key)
    found, endings = _walk(connection, states)
    told = list(_told(connection, found, states, whole=not endings))
    return History(told[::-1], endings)


def newest_live(
    connection: sqlite3.Connection, collection: str, key: str
) -> tuple[dict[str, Any] | None, list[Ending]]:
    """The newest document that the log can still tell, and the ends of its history.

    One body is in memory; where all were written whole, the one that counts alone is read.
    """
    states = _states(connection, collection, key)
    found, endings = _walk(connection, states)
    if all(header.op != MERGE for header in found):
        found = [header for header in found if header.op != DELETE][-1:]
    newest = None
    for past in _told(connection, found, states, whole=not endings):
        newest = newest if past.document is None else past.document
    return newest, endings


def _states(connection: sqlite3.Connection, collection: str, key: str) -> dict[Version, str]:
    """The versions from which all others of a document can be found: they stand, or are a conflict."""
    row = connection.execute(
        "SELECT o.name, d.seq, d.hlc, ifnull(d.expires, 0), d.body, d.stamps FROM _entgldb_documents d"
        " JOIN _entgldb_origins o ON o.id = d.origin WHERE d.collection = ? AND d.key = ?",
        (collection, key),
    ).fetchone()
    lost = connection.execute(
        "SELECT o.name, c.seq FROM _entgldb_conflicts c JOIN _entgldb_origins o ON o.id = c.origin"
        " WHERE c.collection = ? AND c.key = ?",
        (collection, key),
    ).fetchall()
    states = {Version(*version): "conflict" for version in lost}
    if row is not None:
        stored = load(Tip(*row[:4]), row[4], row[5])
        states |= dict.fromkeys((tip.version for tip in stored.tips), "merged")
        states[stored.newest.version] = "expired" if stored.hidden else "current"
    return states


def _walk(connection: sqlite3.Connection, first: Iterable[Version]) -> tuple[list[Header], list[Ending]]:
    """All logged versions that lead to the given ones, the oldest first, and those that are missing."""
    waiting, seen = deque(first), set(first)
    found, endings = list[Header](), list[Ending]()
    while waiting:
        version = waiting.popleft()
        header, reason = _look_up(connection, version)
        if header is not None and len(found) == VERSIONS_MAX:
            header, reason = None, "beyond-limit"
        if header is None:
            endings.append(Ending(version, reason))
            continue
        found.append(header)
        for older in sorted(header.named):
            if older not in seen:
                seen.add(older)
                waiting.append(older)
    return sorted(found, key=lambda one: (one.hlc, one.origin)), endings


def _look_up(connection: sqlite3.Connection, version: Version) -> tuple[Header | None, str]:
    row = connection.execute(
        "SELECT o.floor, l.header, l.body IS NULL, l.applied FROM _entgldb_origins o"
        " LEFT JOIN _entgldb_oplog l ON l.origin = o.id AND l.seq = ? WHERE o.name = ?",
        (version.seq, version.origin),
    ).fetchone()
    if row is None or row[1] is None:
        return None, "pruned" if row is not None and version.seq <= row[0] else "not-here"
    header = decode(row[1])
    if row[3] != 1 or (row[2] and header.op != DELETE):
        return None, "no-body"
    return header, ""


def _text(connection: sqlite3.Connection, header: Header) -> str | None:
    row = connection.execute(
        "SELECT l.body FROM _entgldb_oplog l JOIN _entgldb_origins o ON o.id = l.origin"
        " WHERE o.name = ? AND l.seq = ?",
        header.version,
    ).fetchone()
    return None if row is None else row[0]


def _told(
    connection: sqlite3.Connection, found: Iterable[Header], states: Mapping[Version, str], *, whole: bool
) -> Iterator[Past]:
    """Each version with its document, the oldest first."""
    row: Stored | None = None
    for header in found:
        text = _text(connection, header)
        if text is None and header.op != DELETE:
            # pruned since it was found: the history begins behind it
            row, whole = None, False
            continue
        one = read_operation(header, text)
        row = absorb(row, one).stored
        # a version that is missing below a document that was written whole does not matter
        whole = whole or one.row.fields is None
        op = "delete" if header.op == DELETE else "put"
        change = None
        if header.op == MERGE:
            op = "merge" if one.row.live else "merge-delete"
            change = read_merging(text or "", one.row.newest.stamp).change
        document = row.document() if whole and one.row.live else None
        state = states.get(header.version, "replaced")
        yield Past(header.version, header.parent, op, ms_of(header.hlc), document, change, state)
