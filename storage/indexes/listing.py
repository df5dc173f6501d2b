"""The indexes of a node, as readers ask for them."""

from __future__ import annotations

import json
import sqlite3
from typing import Any, NamedTuple

from entgldb.storage.indexes.catalogue import find, list_indexes
from entgldb.storage.indexes.unique import Shared, shared

_DOCUMENTS = "SELECT count(*) FROM _entgldb_documents WHERE collection = ?"


class IndexInfo(NamedTuple):
    """An index of this node."""

    collection: str
    name: str
    paths: list[str]
    """``-`` before one: its values fall."""
    unique: bool
    where: dict[str, Any] | None
    """Only documents that match this filter are in it; None: all are."""
    text: bool
    """It has the words of the fields, for ``$text``."""
    everywhere: bool
    """Every node has it."""
    ready: bool
    """False while it is being built: until then no query uses it."""
    walked: int
    """Documents that the building has come past."""
    documents: int
    """Documents, and deleted ones, that there are to come past."""


def indexes(connection: sqlite3.Connection, collection: str | None = None) -> list[IndexInfo]:
    """All indexes, or those of one collection, by collection and name."""
    found = []
    for index in list_indexes(connection):
        one = index.definition
        if collection in (None, one.collection):
            ready = index.reached is None
            # while one is built people want to know how far it is; the count of a million takes its time
            count = index.walked if ready else connection.execute(_DOCUMENTS, (one.collection,)).fetchone()[0]
            where = json.loads(one.where) if one.where else None
            found.append(
                IndexInfo(
                    one.collection,
                    one.name,
                    list(one.paths),
                    one.unique,
                    where,
                    one.text,
                    index.everywhere,
                    ready,
                    index.walked,
                    count,
                )
            )
    return found


def shared_values(connection: sqlite3.Connection, collection: str, name: str) -> list[Shared]:
    """Values of a unique index that several documents have. Raises NotFoundError."""
    return shared(connection, find(list_indexes(connection), collection, name))
