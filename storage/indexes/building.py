"""Building indexes in bounded steps, each a transaction of its own: writes go on in between.

A step takes in the next documents by key. Documents written meanwhile come in by the triggers, before or
behind the place that the building has reached; a crash goes on there.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from entgldb.messages.limits import INDEX_STEP_BYTES, INDEX_STEP_ROWS
from entgldb.storage.indexes.tables import statements_to_fill
from entgldb.storage.rules.indexing.definition import read_definition

_UNDER_WAY: Final = (
    "SELECT number, definition, reached FROM _entgldb_indexes WHERE reached IS NOT NULL"
    " ORDER BY number LIMIT 1"
)
_NEXT: Final = (
    "SELECT key, ifnull(length(body), 0) FROM _entgldb_documents WHERE collection = ? AND key > ?"
    " ORDER BY key LIMIT ?"
)


def build_step(connection: sqlite3.Connection, rows: int = 0) -> bool:
    """Take the next documents into the oldest index that is not built; whether more is to be done.

    ``rows``: so many at most; 0: as many as a step may have.
    """
    row = connection.execute(_UNDER_WAY).fetchone()
    if row is None:
        return False
    number, text, reached = row
    definition = read_definition(text)
    last, walked, more = _step(
        connection, definition.collection, reached, min(rows or INDEX_STEP_ROWS, INDEX_STEP_ROWS)
    )
    for statement in statements_to_fill(number, definition) if walked else ():
        connection.execute(statement, (reached, last))
    connection.execute(
        "UPDATE _entgldb_indexes SET reached = ?, walked = walked + ? WHERE number = ?",
        (last if more else None, walked, number),
    )
    return more or connection.execute(_UNDER_WAY).fetchone() is not None


def _step(connection: sqlite3.Connection, collection: str, reached: str, rows: int) -> tuple[str, int, bool]:
    """The last key of the next step, its documents, and whether more may follow."""
    walked = size = 0
    with_bytes = connection.execute(_NEXT, (collection, reached, rows))
    for key, length in with_bytes:
        reached, walked, size = key, walked + 1, size + length
        if size >= INDEX_STEP_BYTES:
            with_bytes.close()
            return reached, walked, True
    return reached, walked, walked == rows
