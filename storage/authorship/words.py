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
from entgldb.messages.model import Origin, Version, node_of
from entgldb.storage.file.state import State
from entgldb.storage.rules.ended import any_log

_WORD: Final = "word:"
"""Names in ``_entgldb_meta`` begin with it, and go on with that of the log. The value is a list of the words
about it: (end, origin and seq of the entry that says so)."""
_RANGE: Final = (_WORD, "word;")
"""';' is the character after ':'."""
_FIRM: Final = ""
"""In place of an origin: of this word it is not known any more who has said it, and it stays."""
ROUNDS_MAX: Final = 64
"""So long a chain of words that take back one another is followed; of a longer one more words stay."""
_Word = tuple[int, Origin, int]
_Said = dict[Origin, list[_Word]]
"""Words by the log that each is about."""


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
    """Go no more by words that only entries behind the ends of their own logs have said.

    A word counts iff no word that counts ends the log of its writer before it, whatever the order of their
    names: where a second takes back the one that spoke against a first, the first counts.
    """
    rows = connection.execute(
        "SELECT name, value FROM _entgldb_meta WHERE name >= ? AND name < ?", _RANGE
    ).fetchall()
    said: _Said = {
        name.removeprefix(_WORD): [(end, by, seq) for end, by, seq in json.loads(value)]
        for name, value in rows
    }
    for origin, left in _counting(state, said).items():
        if left != said[origin]:
            _write(connection, origin, left)
            state.end_at(connection, origin, min(left)[0] if left else None)


def _counting(state: State, said: _Said) -> _Said:
    """The words that count, by the alternating fixpoint (Van Gelder 1993): those that nothing can speak
    against do, so those that they speak against do not, and so on. Of words in a circle all stay."""
    possible = said
    for _ in range(ROUNDS_MAX):
        sure = _standing(state, said, against=possible)
        left = _standing(state, possible, against=sure)
        if left == possible:
            break
        possible = left
    return possible


def _standing(state: State, said: _Said, *, against: _Said) -> _Said:
    """Those of ``said`` that count where all of ``against`` do."""
    return {origin: [word for word in told if _counts(state, against, word)] for origin, told in said.items()}


def _add(connection: sqlite3.Connection, origin: Origin, said: list[_Word], word: _Word) -> None:
    if word in said:
        return
    said.append(word)
    if len(said) > MEMBERS_MAX:
        said = [(min(said)[0], _FIRM, 0)]
    _write(connection, origin, said)


def _counts(state: State, said: _Said, word: _Word) -> bool:
    """An entry that is pruned cannot be taken out any more: every member had it."""
    _, origin, seq = word
    end, known = _end_of(state, said, origin), state.origins.get(origin)
    return end is None or seq <= end or (known is not None and seq <= known.floor)


def _end_of(state: State, said: _Said, origin: Origin) -> int | None:
    """As ``State.end_of``, where of each log of ``said`` these words alone count."""
    for log in (origin, any_log(node_of(origin))):
        told = said.get(log)
        end = state.ended.get(log) if told is None else min((end for end, *_ in told), default=None)
        if end is not None:
            return end
    return None


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
