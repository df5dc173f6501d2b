"""Whether an index has what its documents say, and nothing else. Reads alone, in short statements.

Writes of a running node meanwhile are no fault: each statement compares rows and entries of one moment.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Final

from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.storage.indexes.catalogue import Index, list_indexes
from entgldb.storage.indexes.tables import WORDS, columns_of, range_of, selects, table, texts_of, words

TOLD_MAX: Final = 10
"""Faults of one index that are told one by one."""
_KEYS: Final = (
    "SELECT key FROM _entgldb_documents WHERE collection = ? AND key > ? AND body IS NOT NULL"
    " ORDER BY key LIMIT ?"
)
_LIVE: Final = "SELECT 1 FROM _entgldb_documents WHERE id = x.doc AND collection = ? AND body IS NOT NULL"

Walked = Callable[[int], None]
"""Called with the documents that were come past."""


def faults(connection: sqlite3.Connection, index: Index, walked: Walked, *, still: bool) -> Iterator[str]:
    """The faults of an index, TOLD_MAX at most.

    ``still``: nobody writes meanwhile; then an index of words is made a second time, and compared.
    """
    found = 0
    try:
        for text in _faults(connection, index, walked, still=still):
            yield text
            found += 1
            if found == TOLD_MAX:
                return
    except sqlite3.OperationalError:
        # it was dropped or is being built anew: what was found is of another one
        if index in list_indexes(connection):
            raise


def _faults(connection: sqlite3.Connection, index: Index, walked: Walked, *, still: bool) -> Iterator[str]:
    collection = index.definition.collection
    for after, last, count in _pages(connection, collection):
        yield from _of_range(connection, index, after, last)
        walked(count)
    yield from _strays(connection, index)
    if still and index.definition.text:
        yield from _other_words(connection, index)


def _pages(connection: sqlite3.Connection, collection: str) -> Iterator[tuple[str, str, int]]:
    """Ranges of keys: the key before, the last one, and how many there were."""
    after = ""
    while page := connection.execute(_KEYS, (collection, after, PAGE_ROWS_MAX)).fetchall():
        last: str = page[-1][0]
        yield after, last, len(page)
        after = last


def _of_range(connection: sqlite3.Connection, index: Index, after: str, last: str) -> Iterator[str]:
    wanted, there = _compared(index)
    for sql, text in (
        (f"{wanted} EXCEPT {there}", "does not stand in it as it is"),
        (f"{there} EXCEPT {wanted}", "has an entry that it should not have"),
    ):
        # each of the queries in it asks for the same range
        values = (after, last) * sql.count("d.key > ?")
        rows = connection.execute(f"SELECT DISTINCT doc FROM ({sql}) LIMIT {TOLD_MAX}", values).fetchall()  # noqa: S608 -- checked names
        for (number,) in rows:
            yield f"document {_key(connection, number)} {text}"


def _compared(index: Index) -> tuple[str, str]:
    """Two queries: the entries that a range of keys ought to have, and those that it has."""
    definition, rows = index.definition, range_of(index.definition)
    if definition.text:
        have = f"SELECT id AS doc FROM {words(index.number)}_docsize"  # noqa: S608 -- a number
        return f"SELECT d.id AS doc FROM {rows}", f"{have} WHERE id IN (SELECT d.id FROM {rows})"  # noqa: S608 -- checked names
    values = ", ".join(f"v{place}" for place in range(len(definition.paths)))
    named = f"doc, n, k, u, {values}"
    wanted = " UNION ALL ".join(selects(definition, rows))
    return (
        f"SELECT * FROM (WITH w({named}) AS ({wanted}) SELECT * FROM w)",  # noqa: S608 -- checked names
        f"SELECT {named} FROM {table(index.number)} WHERE doc IN (SELECT d.id FROM {rows})",  # noqa: S608 -- checked names
    )


def _strays(connection: sqlite3.Connection, index: Index) -> Iterator[str]:
    """Entries of what is no document of the collection."""
    name = f"{words(index.number)}_docsize" if index.definition.text else table(index.number)
    doc = "id" if index.definition.text else "doc"
    after = -1
    page = f"SELECT DISTINCT {doc} AS doc FROM {name} WHERE {doc} > ? ORDER BY {doc} LIMIT {PAGE_ROWS_MAX}"  # noqa: S608 -- a number
    stray = f"SELECT doc, NOT EXISTS ({_LIVE}) FROM ({page}) x"  # noqa: S608 -- constants
    while rows := connection.execute(stray, (index.definition.collection, after)).fetchall():
        after = rows[-1][0]
        for number, is_stray in rows:
            if is_stray:
                yield f"it has an entry of {_key(connection, number)}, which is no document any more"


def _other_words(connection: sqlite3.Connection, index: Index) -> Iterator[str]:
    """Words whose documents are not as many as they are in an index made now of the same documents."""
    definition, name = index.definition, words(index.number)
    columns = columns_of(definition)
    execute = connection.execute
    execute(f"CREATE VIRTUAL TABLE temp.again USING fts5({columns}, content='', tokenize='{WORDS}')")
    try:
        execute(f"CREATE VIRTUAL TABLE temp.now_words USING fts5vocab('main', '{name}', 'row')")
        execute("CREATE VIRTUAL TABLE temp.again_words USING fts5vocab('temp', 'again', 'row')")
        execute(
            f"INSERT INTO temp.again (rowid, {columns}) SELECT id, {texts_of(definition)}"  # noqa: S608 -- checked names
            " FROM _entgldb_documents WHERE collection = ? AND body IS NOT NULL AND json_valid(body)",
            (definition.collection,),
        )
        for one, other in (("now", "again"), ("again", "now")):
            yield from (
                f"the word {term!r:.80} stands in other documents than it tells"
                for (term,) in execute(
                    f"SELECT term FROM (SELECT * FROM temp.{one}_words"  # noqa: S608 -- constants
                    f" EXCEPT SELECT * FROM temp.{other}_words) LIMIT {TOLD_MAX}"
                ).fetchall()
            )
    finally:
        for made in ("now_words", "again_words", "again"):
            execute(f"DROP TABLE IF EXISTS temp.{made}")


def _key(connection: sqlite3.Connection, number: int) -> str:
    row = connection.execute("SELECT key FROM _entgldb_documents WHERE id = ?", (number,)).fetchone()
    return f"number {number}" if row is None else row[0]
