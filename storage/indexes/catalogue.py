"""The indexes of a file: what there are, made, dropped, and brought in line with what the cluster wants."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import (
    EntglError,
    ExistsError,
    InvalidError,
    NotFoundError,
    TooLargeError,
    UnsupportedError,
)
from entgldb.messages.limits import INDEXES_MAX, INDEXES_PER_COLLECTION_MAX
from entgldb.messages.model import INDEXES
from entgldb.storage.indexes.tables import statements_to_create, statements_to_drop
from entgldb.storage.rules.indexing.definition import Definition, read_definition

ROWS: Final = (
    "SELECT number, definition, everywhere, reached, walked FROM _entgldb_indexes ORDER BY collection, name"
)
HAS_WORDS: Final = "SELECT 1 FROM pragma_module_list WHERE name = 'fts5'"
NUMBERS: Final = 1_000_000
"""Numbers of indexes; an index of words changes between two that lie so far apart (``beside``)."""
_WISHES: Final = (
    "SELECT key, body FROM _entgldb_documents WHERE collection = ? AND body IS NOT NULL ORDER BY key LIMIT ?"
)


class Index(NamedTuple):
    """An index of this file."""

    number: int
    definition: Definition
    everywhere: bool
    """A document of ``_system_indexes`` has it: every node has it."""
    reached: str | None
    """The key up to which documents stand in it; None where it is built."""
    walked: int
    """Documents that the building has come past."""


def list_indexes(connection: sqlite3.Connection) -> list[Index]:
    """All indexes, by collection and name."""
    return read_rows(connection.execute(ROWS).fetchall())


def read_rows(rows: Sequence[tuple[Any, ...]]) -> list[Index]:
    """The indexes that ROWS gave."""
    return [
        Index(number, read_definition(definition), bool(everywhere), reached, walked)
        for number, definition, everywhere, reached, walked in rows
    ]


def find(known: Sequence[Index], collection: str, name: str) -> Index:
    """One of some indexes. Raises NotFoundError with the names that there are."""
    here = [index for index in known if index.definition.collection == collection]
    for index in here:
        if index.definition.name == name:
            return index
    names = ", ".join(index.definition.name for index in here)
    raise NotFoundError(
        f"{collection} has no index {name!r:.80}", hint=f"it has {names}" if names else "it has none"
    )


def create(connection: sqlite3.Connection, definition: Definition, *, everywhere: bool = False) -> None:
    """Make an index, empty and to be built, unless it is there. Inside a transaction.

    Raises EntglError ``already-exists`` for another one of that name, TooLargeError beyond a limit,
    UnsupportedError for words where SQLite has no FTS5.
    """
    known = list_indexes(connection)
    for index in known:
        if index.definition == definition:
            if everywhere and not index.everywhere:
                connection.execute(
                    "UPDATE _entgldb_indexes SET everywhere = 1 WHERE number = ?", (index.number,)
                )
            return
        if index.definition.place == definition.place:
            raise ExistsError(
                f"{definition.collection} has another index {definition.name!r}, over"
                f" {', '.join(index.definition.paths)}",
                hint="drop that one first, or give this one another name",
            )
    _refuse_more(known, definition)
    if definition.text:
        refuse_without_words(connection.execute(HAS_WORDS).fetchall())
    (number,) = connection.execute(
        "SELECT ifnull(max(number % ?), 0) + 1 FROM _entgldb_indexes", (NUMBERS,)
    ).fetchone()
    connection.execute(
        "INSERT INTO _entgldb_indexes (number, collection, name, definition, everywhere, reached)"
        " VALUES (?, ?, ?, ?, ?, '')",
        (number, *definition.place, definition.to_json(), everywhere),
    )
    _make(connection, number, definition)


def drop(connection: sqlite3.Connection, index: Index) -> None:
    """An index and all that it has go. Inside a transaction."""
    for statement in statements_to_drop(index.number, index.definition):
        connection.execute(statement)
    connection.execute("DELETE FROM _entgldb_indexes WHERE number = ?", (index.number,))


def begin_anew(connection: sqlite3.Connection, index: Index) -> None:
    """Have an index built again from nothing. Inside a transaction."""
    for statement in statements_to_drop(index.number, index.definition):
        connection.execute(statement)
    connection.execute(
        "UPDATE _entgldb_indexes SET reached = '', walked = 0 WHERE number = ?", (index.number,)
    )
    _make(connection, index.number, index.definition)


def beside(number: int) -> int:
    """The number of an index of words that takes the place of one, and the reverse."""
    return number + NUMBERS if number < NUMBERS else number - NUMBERS


def begin_words_anew(connection: sqlite3.Connection, collection: str) -> None:
    """A row of the collection was not what was written: words of it may stand in an index for ever."""
    for index in list_indexes(connection):
        if index.definition.text and index.definition.collection == collection:
            begin_anew(connection, index)


def follow_wishes(connection: sqlite3.Connection) -> list[str]:
    """Make and drop what ``_system_indexes`` says; what of it cannot be here, with the reason.

    Inside a transaction.
    """
    refused, wanted = [], {}
    rows = connection.execute(_WISHES, (INDEXES, INDEXES_MAX + 1)).fetchall()
    if len(rows) > INDEXES_MAX:
        refused.append(f"more than INDEXES_MAX = {INDEXES_MAX} indexes are wanted everywhere")
    for key, body in rows[:INDEXES_MAX]:
        try:
            definition = read_definition(body)
            if "/".join(definition.place) != key:
                raise InvalidError("it is another one than its key says")
            wanted[definition.place] = definition
        except EntglError as fault:
            refused.append(f"index {key}: {fault.text}")
    for index in list_indexes(connection):
        if index.everywhere and wanted.get(index.definition.place) != index.definition:
            drop(connection, index)
    for definition in wanted.values():
        try:
            create(connection, definition, everywhere=True)
        except EntglError as fault:
            refused.append(f"index {'/'.join(definition.place)}: {fault.text}")
    return refused


def _refuse_more(known: Sequence[Index], definition: Definition) -> None:
    here = [index.definition for index in known if index.definition.collection == definition.collection]
    if len(known) >= INDEXES_MAX:
        raise TooLargeError(f"a node has at most INDEXES_MAX = {INDEXES_MAX} indexes", hint="drop one")
    if len(here) >= INDEXES_PER_COLLECTION_MAX:
        raise TooLargeError(
            f"a collection has at most INDEXES_PER_COLLECTION_MAX = {INDEXES_PER_COLLECTION_MAX} indexes",
            hint="drop one",
        )
    for other in here:
        if other.text and definition.text:
            raise ExistsError(
                f"{definition.collection} has an index of words, {other.name!r}, and can have one",
                hint="drop it first, and name all fields in the new one",
            )


def _make(connection: sqlite3.Connection, number: int, definition: Definition) -> None:
    for statement in statements_to_create(number, definition):
        connection.execute(statement)


def refuse_words_unknown(connection: sqlite3.Connection) -> None:
    """Raises UnsupportedError for a file with an index of words where this SQLite has no FTS5: no document of
    its collection could be written."""
    if any(index.definition.text for index in list_indexes(connection)):
        refuse_without_words(connection.execute(HAS_WORDS).fetchall())


def refuse_without_words(found: Sequence[tuple[Any, ...]]) -> None:
    """Raises UnsupportedError where HAS_WORDS found nothing: this SQLite has no FTS5."""
    if not found:
        raise UnsupportedError(
            f"SQLite {sqlite3.sqlite_version} of this Python has no FTS5, which an index of words needs",
            hint="use a Python whose SQLite has it; those of python.org have",
        )
