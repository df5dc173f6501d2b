"""The floor of W1, W6 and W8: the cost of a program that keeps documents and a log in SQLite, no more.

Fixed, so that the ratios of different releases can be compared: stdlib ``json`` and ``sqlite3``, one
process, WAL, ``synchronous=FULL``, ``UNIQUE(collection, key)``, two rows for every document (itself and its
entry in a log), and for each entry one msgpack and one SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgpack

from entgldb.client.writes import PART_DOCUMENTS
from entgldb.launch.bench.sides import COLLECTION, IN_FLIGHT, INDEXED, QUERY_ROWS, Side

_TABLES: Final = """
    CREATE TABLE documents (
        id INTEGER PRIMARY KEY, collection TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL,
        UNIQUE (collection, key)
    );
    CREATE TABLE log (seq INTEGER PRIMARY KEY, hash BLOB NOT NULL, entry BLOB NOT NULL);
"""
_FIELD: Final = f"json_extract(body, '$.{INDEXED}')"
_QUERY: Final = f"SELECT key, body FROM documents WHERE collection = ? AND {_FIELD} = ? ORDER BY key LIMIT ?"  # noqa: S608 -- constants


class Floor(Side):
    """The file of the floor."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__()
        self._execute = connection.execute
        self._execute("PRAGMA journal_mode = WAL")
        self._execute("PRAGMA synchronous = FULL")
        connection.executescript(_TABLES)

    def put(self, name: str, fields: dict[str, Any]) -> object:
        return self.put_many([(name, fields)])

    def put_many(self, documents: Sequence[tuple[str, dict[str, Any]]]) -> int:
        return self._put_parts(documents, PART_DOCUMENTS)

    def put_in_flight(self, documents: Sequence[tuple[str, dict[str, Any]]]) -> object:
        return self._put_parts(documents, IN_FLIGHT)

    def _put_parts(self, documents: Sequence[tuple[str, dict[str, Any]]], size: int) -> int:
        for start in range(0, len(documents), size):
            self._commit(documents[start : start + size])
        return len(documents)

    def _commit(self, documents: Sequence[tuple[str, dict[str, Any]]]) -> None:
        execute = self._execute
        execute("BEGIN IMMEDIATE")
        for name, fields in documents:
            body = _body(fields)
            entry = msgpack.packb((COLLECTION, name, body))
            execute("INSERT INTO log (hash, entry) VALUES (?, ?)", (hashlib.sha256(entry).digest(), entry))
            execute(
                "INSERT INTO documents (collection, key, body) VALUES (?, ?, ?)"
                " ON CONFLICT (collection, key) DO UPDATE SET body = excluded.body",
                (COLLECTION, name, body.decode()),
            )
        execute("COMMIT")

    def log(self) -> list[tuple[str, dict[str, Any]]]:
        """Every document that was written, in that order."""
        entries = map(msgpack.unpackb, (entry for (entry,) in self._execute("SELECT entry FROM log")))
        return [(name, json.loads(body)) for _, name, body in entries]

    def index(self) -> None:
        self._execute(f"CREATE INDEX by_field ON documents (collection, {_FIELD}, key)")

    def get(self, name: str) -> object:
        sql = "SELECT body FROM documents WHERE collection = ? AND key = ?"
        row = self._execute(sql, (COLLECTION, name)).fetchone()
        return json.loads(row[0])

    def query(self, group: int) -> Sequence[object]:
        rows = self._execute(_QUERY, (COLLECTION, group, QUERY_ROWS)).fetchall()
        return [(name, json.loads(body)) for name, body in rows]


@contextmanager
def floor(file: Path, documents: int = 0) -> Iterator[Floor]:
    """The floor with so many documents, in a file on the same disk as the nodes."""
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        side = Floor(connection)
        if documents:
            side.fill(documents)
        yield side
    finally:
        connection.close()


def _body(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
