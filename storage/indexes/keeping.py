"""The indexes of a file as its writer keeps them."""

from __future__ import annotations

import sqlite3

from entgldb.messages.schema import Json
from entgldb.storage.indexes import catalogue
from entgldb.storage.indexes.building import build_step
from entgldb.storage.indexes.unique import Unique
from entgldb.storage.rules.indexing.definition import Definition


class Indexes:
    """Makes, drops and builds indexes; all of it inside a group."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Raises UnsupportedError where the file has an index of words and this SQLite has no FTS5."""
        catalogue.refuse_words_unknown(connection)
        self._connection = connection
        self.unique = Unique(connection)
        self._refused: list[str] = []
        """The indexes of ``_system_indexes`` that cannot be here, with the reason."""

    def create(self, definition: Definition, *, everywhere: bool = False) -> None:
        """Make one and take its first step, which builds that of a small collection; see
        ``catalogue.create``."""
        self.unique.forget()
        catalogue.create(self._connection, definition, everywhere=everywhere)
        build_step(self._connection)

    def drop(self, collection: str, name: str) -> bool:
        """Drop one; whether it is one of those that every node has. Raises NotFoundError."""
        index = catalogue.find(catalogue.list_indexes(self._connection), collection, name)
        self.unique.forget()
        catalogue.drop(self._connection, index)
        return index.everywhere

    def rebuild(self, collection: str, name: str) -> None:
        """Have one built again from nothing. Raises NotFoundError."""
        index = catalogue.find(catalogue.list_indexes(self._connection), collection, name)
        catalogue.begin_anew(self._connection, index)

    def tend(self, rows: int = 0) -> bool:
        """Follow what is wanted everywhere, and take one step of building, of so many documents; whether
        there is more to do."""
        refused = catalogue.follow_wishes(self._connection)
        self.unique.forget()
        self._refused = refused
        return build_step(self._connection, rows)

    def are_tended(self) -> bool:
        """Whether one is not built, or is one of those that every node has."""
        found = self._connection.execute(
            "SELECT 1 FROM _entgldb_indexes WHERE reached IS NOT NULL OR everywhere = 1 LIMIT 1"
        )
        return found.fetchone() is not None

    def status(self) -> dict[str, Json]:
        """Those under way, with the documents they have come past, and what was refused here."""
        known = catalogue.list_indexes(self._connection)
        building: list[Json] = [
            {"index": "/".join(one.definition.place), "walked": one.walked}
            for one in known
            if one.reached is not None
        ]
        return {"ready": len(known) - len(building), "building": building, "refused": list(self._refused)}
