"""The entries that have said where logs end, as a cloud node keeps them.

A member says each word again that it has heard, so it goes by it for good. A cloud says nothing: there a word
counts iff an entry that says it is not behind the end of its own log. So a cloud comes to go by what the
members go by, also where it had heard a word that none of them has heard.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Final

from entgldb.messages.limits import MEMBERS_MAX, ORIGINS_MAX
from entgldb.messages.model import Origin, Version
from entgldb.storage.file.state import State

_WORD: Final = "word:"
"""Names in ``_entgldb_meta`` begin with it, and go on with that of the log. The value is a list of the words
about it: (end, origin and seq of the entry that says so)."""
_RANGE: Final = (_WORD, "word;")
"""';' is the character after ':'."""
_FIRM: Final = ""
"""In place of an origin: of this word it is not known any more who has said it, and it stays."""
_Word = tuple[int, Origin, int]


def note(connection: sqlite3.Connection, state: State, end: tuple[Origin, int], by: Version) -> None:
    """An entry says where a log ends; before ``State.end``."""
    origin, seq = end
    said = _read(connection, origin)
    if said is None:
        (count,) = connection.execute(
            "SELECT count(*) FROM _entgldb_meta WHERE name >= ? AND name < ?", _RANGE
        ).fetchone()
        if count >= ORIGINS_MAX:
            return
        said = [(state.ended[origin], _FIRM, 0)] if origin in state.ended else []
    _add(connection, origin, said, (seq, *by))


def keep(connection: sqlite3.Connection, origin: Origin, seq: int) -> None:
    """A snapshot says where a log ends: it may cover entries that say so, which are never seen here."""
    said = _read(connection, origin)
    if said is not None:
        _add(connection, origin, said, (seq, _FIRM, 0))


def take_back(connection: sqlite3.Connection, state: State) -> None:
    """Go no more by words that only entries behind the ends of their own logs have said."""
    rows = connection.execute(
        "SELECT name, value FROM _entgldb_meta WHERE name >= ? AND name < ?", _RANGE
    ).fetchall()
    for name, value in rows:
        said: list[_Word] = [(end, by, seq) for end, by, seq in json.loads(value)]
        left = [word for word in said if _counts(state, *word[1:])]
        if left != said:
            origin = name.removeprefix(_WORD)
            _write(connection, origin, left)
            state.end_at(connection, origin, min(left)[0] if left else None)


def _add(connection: sqlite3.Connection, origin: Origin, said: list[_Word], word: _Word) -> None:
    if word in said:
        return
    said.append(word)
    if len(said) > MEMBERS_MAX:
        said = [(min(said)[0], _FIRM, 0)]
    _write(connection, origin, said)


def _counts(state: State, origin: Origin, seq: int) -> bool:
    """An entry that is pruned cannot be taken out any more: every member had it."""
    end, known = state.end_of(origin), state.origins.get(origin)
    return end is None or seq <= end or (known is not None and seq <= known.floor)


def _read(connection: sqlite3.Connection, origin: Origin) -> list[_Word] | None:
    row = connection.execute("SELECT value FROM _entgldb_meta WHERE name = ?", (_WORD + origin,)).fetchone()
    return None if row is None else [(end, by, seq) for end, by, seq in json.loads(row[0])]


def _write(connection: sqlite3.Connection, origin: Origin, said: list[_Word]) -> None:
    if said:
        connection.execute(
            "INSERT OR REPLACE INTO _entgldb_meta VALUES (?, ?)", (_WORD + origin, json.dumps(said))
        )
    else:
        connection.execute("DELETE FROM _entgldb_meta WHERE name = ?", (_WORD + origin,))
