"""Somebody follows the change feed of every node, and has what the node shows, whatever happens to it."""

from __future__ import annotations

import json
from typing import Final
from zlib import crc32

from entgldb.launch.testing.world import World
from entgldb.messages.errors import TokenExpired
from entgldb.messages.schema import Json
from entgldb.storage.documents.query import Documents
from entgldb.storage.store import Store

Place = tuple[str, str]
LAGS: Final = (1, 3, 40)
"""Commits between two looks; each node's follower has its own."""
_SHOWN: Final = (
    "SELECT collection, key, body FROM _entgldb_documents WHERE body IS NOT NULL"
    " AND CASE WHEN ?1 IS NULL THEN substr(collection, 1, 8) <> '_system_' ELSE collection = ?1 END"
)


class Follower:
    """Keeps a copy of a node's documents by its change feed alone; a token outlives restarts."""

    def __init__(self, name: str, collection: str | None, world: World) -> None:
        self._name, self._collection, self._world = name, collection, world
        self._token: str | None = None
        self._has: dict[Place, dict[str, Json]] = {}
        self._commits = 0
        self._documents: Documents | None = None
        self._texts: dict[Place, tuple[str, dict[str, Json]]] = {}
        """The bodies that the last look saw, and what they say."""
        self.spoilt: set[Place] = set()
        """Rows that were damaged behind everybody's back: they are told when they are mended."""

    def committed(self, store: Store) -> None:
        """The node has committed: now and then it is time for a look."""
        self._commits += 1
        if self._commits % LAGS[crc32(self._name.encode()) % len(LAGS)] == 0:
            self.look(store)

    def begin_anew(self) -> None:
        """The disk went back in time: a token of the time after it tells nothing."""
        self._token, self._has = None, {}

    def look(self, store: Store) -> None:
        """Read what there is to be read, and compare."""
        if store.connection.in_transaction:
            return
        try:
            self._read(store)
        except TokenExpired:
            # as the error says: it begins anew, with nothing
            self._world.reached["feed begun anew"] += 1
            self._token, self._has = None, {}
            self._read(store)
        before, self._texts = self._texts, {}
        shown = {}
        for collection, key, body in store.connection.execute(_SHOWN, (self._collection,)):
            place = (collection, key)
            if place not in self.spoilt:
                known = before.get(place)
                document = known[1] if known is not None and known[0] == body else json.loads(body)
                self._texts[place] = (body, document)
                shown[place] = document
        has = {place: document for place, document in self._has.items() if place not in self.spoilt}
        for place in sorted(shown.keys() | has.keys()):
            if shown.get(place) != has.get(place):
                told, there = has.get(place), shown.get(place)
                self._world.violate(f"{self._name}: its feed has told {told} of {place}, it shows {there}")
                self._has = shown
                return

    def _read(self, store: Store) -> None:
        if self._documents is None:
            # as a client does that stays connected; the file is the same one in every life
            self._documents = Documents(store.connection)
        found, before = self._documents.changes(self._token, collection=self._collection), -1
        for change in found:
            at = int(change.token.rpartition(".")[2])
            if at <= before:
                self._world.violate(f"{self._name}: its feed told {at} after {before}")
            before = at
            place = (change.collection, change.key)
            if change.document is None:
                self._has.pop(place, None)
            else:
                self._has[place] = change.document
        self._token = found.token
