"""``explain``: how a query is answered, in words, and which index would help."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from entgldb.messages.schema import Json
from entgldb.storage.documents.finding import Finder
from entgldb.storage.rules.field_path import parse_path
from entgldb.storage.rules.filtering.cursor import names
from entgldb.storage.rules.filtering.nodes import Compared, Equal, Every, Field, Node, Part, Pattern, Some
from entgldb.storage.rules.filtering.parser import parse_filter
from entgldb.storage.rules.filtering.values import fold

Measured = tuple[str, int, int]


class Plan(NamedTuple):
    """How a query is answered now. ``str`` of it says all of it in words."""

    indexes: tuple[str, ...]
    """Names of the indexes that find the documents."""
    read: int
    """Documents that are looked at, in an index or as a whole."""
    found: int
    """Documents that match."""
    documents: int
    """Documents of the collection."""
    sorted: bool
    """Whether the documents found are sorted, rather than read in order."""
    missing: tuple[str, ...]
    """Paths whose indexes would help."""
    text: str

    def __str__(self) -> str:
        return self.text


def explain(
    finder: Finder,
    collection: str,
    filter: Mapping[str, Any] | None,
    sort: str | Sequence[str] | None,
    collation: str | None,
) -> Plan:
    """Answer a query and say how that was done. Raises as ``Finder.pages``."""

    def answer(connection: sqlite3.Connection) -> Plan:
        asked = finder.question(collection, filter, sort, collation=collation)
        # SQLite asks in its own order, but for this
        source = f"{asked.way.source} AND CASE WHEN entgldb_seen(id) THEN {asked.beyond} END"
        sql = f"SELECT id FROM {source} ORDER BY {asked.order}"  # noqa: S608 -- compiled
        steps, read, found = _measured(connection, sql, asked.values)
        documents = finder.count(collection, None, None)
        known = finder.indexes(collection)
        used = asked.indexes()
        sorts = "TEMP B-TREE" in steps
        first = {index.definition.paths[0].removeprefix("-") for index in known if not index.definition.text}
        missing = _missing(filter, names(sort), collation, first) if not used else ()
        text = _words(collection, used, read, found, documents, names(sort) if sorts else (), missing)
        return Plan(used, read, found, documents, sorts, missing, text)

    return finder.steadily(answer)


def outline(
    finder: Finder,
    collection: str,
    filter: Mapping[str, Any] | None,
    sort: str | Sequence[str] | None,
    collation: str | None,
) -> dict[str, Json]:
    """How a query would be answered, without doing so: ``indexes``, ``steps`` of SQLite, ``missing``."""

    def answer(connection: sqlite3.Connection) -> dict[str, Json]:
        asked = finder.question(collection, filter, sort, collation=collation)
        sql = f"EXPLAIN QUERY PLAN SELECT id FROM {asked.source} ORDER BY {asked.order}"  # noqa: S608 -- compiled
        steps: list[Json] = [row[3] for row in connection.execute(sql, asked.values)]
        used = asked.indexes()
        missing = _missing(filter, names(sort), collation, set()) if not used else ()
        return {"indexes": list(used), "steps": steps, "missing": list(missing)}

    return finder.steadily(answer)


def _measured(connection: sqlite3.Connection, sql: str, values: tuple[Any, ...]) -> Measured:
    """The steps of a statement, how many documents it looked at, how many it found."""
    twice: set[int] = set()
    read = 0

    def see(number: int) -> int:
        nonlocal read
        if number not in twice:
            read += 1
        if several:
            twice.add(number)
        return 1

    connection.create_function("entgldb_seen", 1, see)
    steps = " / ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values))
    # only alternatives find a document by two indexes
    several = "MULTI-INDEX OR" in steps
    found = sum(1 for _ in connection.execute(sql, values))
    return steps, read, found


def _missing(
    filter: Mapping[str, Any] | None, sort: Sequence[str], collation: str | None, there: set[str]
) -> tuple[str, ...]:
    """The indexes that would find the documents, or else give them in order."""
    wanted = _helping(parse_filter(filter, collation))
    if not wanted and sort and collation is None:
        wanted = [parse_path(sort[0].removeprefix("-"))]
    return tuple(dict.fromkeys(path for path in map(".".join, wanted) if path not in there))


def _helping(node: Node) -> list[tuple[str, ...]]:
    """The paths whose indexes would serve a condition; none where no index would."""
    if isinstance(node, Every):
        equal = [one for one in node.nodes if isinstance(one, Field) and isinstance(one.test, Equal)]
        return next(filter(None, map(_helping, [*equal, *node.nodes])), [])
    if isinstance(node, Some):
        each = [_helping(one) for one in node.nodes]
        return [path for paths in each for path in paths] if all(each) else []
    return [node.parts] if isinstance(node, Field) and _is_served(node) else []


def _is_served(node: Field) -> bool:
    test = node.test
    if isinstance(test, (Equal, Compared)):
        return test.collate is not fold
    if isinstance(test, Pattern):
        return bool(test.regex.prefix)
    return isinstance(test, Part) and test.first and test.collate is not fold


def _words(
    collection: str,
    used: Sequence[str],
    read: int,
    found: int,
    documents: int,
    sort: Sequence[str],
    missing: Sequence[str],
) -> str:
    by = f"by the index on {' and on '.join(used)}" if used else "without an index"
    text = f"{read:,} of {documents:,} documents are looked at, {by}; {found:,} match."
    if sort:
        text += f" They are sorted by {', '.join(sort)}."
    if missing:
        help = " && ".join(f"entgldb index create {collection} {path}" for path in missing)
        text += f" {'An index' if len(missing) == 1 else 'Indexes'} would help: {help}"
    return text
