"""Values that only one document may have: a write of this node that repeats one is refused.

Entries of other nodes are applied all the same, or nodes would differ: a value that stands twice is listed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import ExistsError
from entgldb.messages.model import Place
from entgldb.storage.indexes.catalogue import Index, list_indexes
from entgldb.storage.indexes.tables import table

SHARED_MAX: Final = 1000
"""Values that stand more than once of which one listing tells."""
SHARERS_MAX: Final = 100
"""Documents of one such value of which it tells."""
_DOC: Final = "SELECT id FROM _entgldb_documents WHERE collection = ? AND key = ?"


class Shared(NamedTuple):
    """A value of a unique index that several documents have."""

    values: list[Any]
    """Of each field of it."""
    keys: list[str]
    """The documents, by key; SHARERS_MAX at most."""


class Unique:
    """The unique indexes of a file, for its writer."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[str, list[Index]] | None = None

    def forget(self) -> None:
        """Indexes were made or dropped, or that was undone."""
        self._known = None

    def watched(self, places: Iterable[Place]) -> list[Place]:
        """Those of some places whose collection has a unique index."""
        known = self._by_collection()
        return [place for place in places if place[0] in known] if known else []

    @contextmanager
    def guarded(self, places: Sequence[Place]) -> Iterator[None]:
        """Within it these documents are written. Raises ExistsError for a value that was not theirs before
        and is another one's."""
        before = frozenset(one for one, _ in self._shared(places))
        yield
        for (number, key, values), other in self._shared(places):
            if (number, key, values) not in before:
                index = next(
                    one for some in self._by_collection().values() for one in some if one.number == number
                )
                collection, name = index.definition.place
                shown = ", ".join(json.dumps(one, ensure_ascii=False) for one in json.loads(values))
                raise ExistsError(
                    f"{collection}/{other} has {', '.join(index.definition.paths)} = {shown:.200} already,"
                    f" and the index {name} is unique",
                    hint=f"give {collection}/{key} another value, or drop the index",
                )

    def _by_collection(self) -> dict[str, list[Index]]:
        if self._known is None:
            self._known = {}
            for index in list_indexes(self._connection):
                if index.definition.unique:
                    self._known.setdefault(index.definition.collection, []).append(index)
        return self._known

    def _shared(self, places: Sequence[Place]) -> Iterator[tuple[tuple[int, str, str], str]]:
        """Number, key and value of what documents share, and the key of another one that has it."""
        known = self._by_collection()
        for collection, key in dict.fromkeys(places):
            for index in known.get(collection, ()):
                name = table(index.number)
                for values, other in self._connection.execute(
                    f"SELECT a.u, b.k FROM {name} a JOIN {name} b ON b.u = a.u AND b.doc <> a.doc"  # noqa: S608 -- a number
                    f" WHERE a.doc = ({_DOC}) AND a.u IS NOT NULL",
                    (collection, key),
                ):
                    yield (index.number, key, values), other


def shared(connection: sqlite3.Connection, index: Index) -> list[Shared]:
    """The values that stand more than once in a unique index, SHARED_MAX at most."""
    if not index.definition.unique:
        return []
    name = table(index.number)
    found = []
    for (values,) in connection.execute(
        f"SELECT u FROM {name} WHERE u IS NOT NULL GROUP BY u HAVING count(DISTINCT doc) > 1 LIMIT ?",  # noqa: S608 -- a number
        (SHARED_MAX,),
    ).fetchall():
        keys = connection.execute(
            f"SELECT DISTINCT k FROM {name} WHERE u = ? ORDER BY k LIMIT ?",  # noqa: S608 -- a number
            (values, SHARERS_MAX),
        )
        found.append(Shared(json.loads(values), [key for (key,) in keys]))
    return found
