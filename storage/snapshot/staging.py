"""Receiving a snapshot: its chunks become rows of a file of their own, one transaction each.

A process that dies leaves whole chunks; the next one goes on behind the last. Nothing of it is seen until
``install`` merges it into the node's file.
"""

from __future__ import annotations

import sqlite3
from hashlib import sha256
from typing import Final

from entgldb.messages.errors import ProtocolError
from entgldb.messages.limits import CHUNK_BYTES_MAX, ROW_BYTES_MAX
from entgldb.storage.rules.comparing import chunks
from entgldb.storage.rules.comparing.chunks import DOCUMENTS, Preface
from entgldb.storage.rules.merging.collection_rule import BY_FIELD, LWW

TABLES: Final = """
CREATE TABLE IF NOT EXISTS chunks (number INTEGER PRIMARY KEY, sha256 BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS pieces (remaining INTEGER PRIMARY KEY, piece BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS head (payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS documents (
    id INTEGER PRIMARY KEY, collection TEXT NOT NULL, key TEXT NOT NULL, body TEXT,
    origin INTEGER NOT NULL, seq INTEGER NOT NULL, hlc INTEGER NOT NULL, sha256 BLOB, stamps BLOB,
    expires INTEGER
);
CREATE TABLE IF NOT EXISTS conflicts (
    id INTEGER PRIMARY KEY, collection TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL,
    origin INTEGER NOT NULL, seq INTEGER NOT NULL, hlc INTEGER NOT NULL, rule TEXT NOT NULL,
    expires INTEGER
);
"""
KEYS: Final = (
    "CREATE UNIQUE INDEX IF NOT EXISTS documents_key ON documents (collection, key);"
    "CREATE INDEX IF NOT EXISTS conflicts_key ON conflicts (collection, key)"
)
"""Made when all rows are there."""
_LAST: Final = (
    "SELECT max(ifnull((SELECT max(id) FROM documents), 0), ifnull((SELECT max(id) FROM conflicts), 0))"
)


class Staging:
    """One snapshot under way. The connection is in autocommit mode."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        for statement in TABLES.split(";"):
            if statement.strip():
                connection.execute(statement)
        self.next: int = connection.execute("SELECT ifnull(max(number), -1) + 1 FROM chunks").fetchone()[0]
        self._head = read_head(connection) if self.next else Preface((), 0, system=False)

    def add_chunk(self, number: int, payload: bytes, digest: bytes) -> None:
        """The next chunk. Raises ProtocolError where it is not the one its digest names, or is malformed."""
        if number != self.next:
            raise ProtocolError(f"chunk {number} of a snapshot where {self.next} is next")
        if sha256(payload).digest() != digest:
            raise ProtocolError(f"chunk {number} of a snapshot is not what its digest says")
        head = chunks.decode_preface(payload) if number == 0 else None
        self.connection.execute("BEGIN")
        try:
            if head is not None:
                self.connection.execute("INSERT INTO head VALUES (?)", (payload,))
            else:
                self._take_rows(payload)
            self.connection.execute("INSERT INTO chunks VALUES (?, ?)", (number, digest))
            self.connection.execute("COMMIT")
        except BaseException as fault:
            self.connection.execute("ROLLBACK")
            if isinstance(fault, sqlite3.IntegrityError):
                raise ProtocolError(f"chunk {number} of a snapshot repeats a row") from fault
            raise
        self.next = number + 1
        if head is not None:
            self._head = head

    def finish(self, snapshot_id: str, *, whole: bool) -> None:
        """All chunks are here: make it ready to be merged. Raises ProtocolError where they are not one.

        ``whole``: with the chunks that are only for members of the cluster, so that the id can be checked.
        """
        self._need_no_pieces()
        digests = self.connection.execute("SELECT sha256 FROM chunks ORDER BY number")
        if chunks.snapshot_id(digest for (digest,) in digests) != snapshot_id and whole:
            raise ProtocolError(f"the chunks that came are not those of snapshot {snapshot_id}")
        try:
            for statement in KEYS.split(";"):
                self.connection.execute(statement)
        except sqlite3.IntegrityError:
            raise ProtocolError(f"snapshot {snapshot_id} has a key twice") from None

    def _take_rows(self, payload: bytes) -> None:
        """Rows, or a piece of them; the last piece brings them all."""
        found = chunks.decode_piece(payload)
        if found is None:
            self._need_no_pieces()
            self._insert(*chunks.decode_rows(payload, self._head))
            return
        left, piece = found
        execute = self.connection.execute
        rows, size, least = execute(
            "SELECT count(*), ifnull(sum(length(piece)), 0), min(remaining) FROM pieces"
        ).fetchone()
        if (rows and left != least - 1) or size + len(piece) > ROW_BYTES_MAX + CHUNK_BYTES_MAX:
            raise ProtocolError("pieces of a snapshot's rows that do not follow each other, or too many")
        execute("INSERT INTO pieces VALUES (?, ?)", (left, piece))
        if not left:
            whole = b"".join(one for (one,) in execute("SELECT piece FROM pieces ORDER BY remaining DESC"))
            execute("DELETE FROM pieces")
            self._insert(*chunks.decode_rows(whole, self._head))

    def _need_no_pieces(self) -> None:
        if self.connection.execute("SELECT 1 FROM pieces LIMIT 1").fetchone() is not None:
            raise ProtocolError("the pieces of a snapshot's rows end too early")

    def _insert(self, taken: chunks.Rows, texts: list[str | None]) -> None:
        # the change feed's numbers come of them: a gap would never be filled, and their end be reached
        (last,) = self.connection.execute(_LAST).fetchone()
        if taken.first != last + 1:
            raise ProtocolError(f"row {taken.first} of a snapshot where {last + 1} is next")
        numbered = zip(range(taken.first, taken.first + len(taken.rows)), taken.rows, texts, strict=True)
        if taken.kind == DOCUMENTS:
            self.connection.executemany(
                "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (n, *r[:2], text, *r[3:6], None if r[2] is None else sha256(r[2]).digest(), *r[6:])
                    for n, r, text in numbered
                ],
            )
        else:
            self.connection.executemany(
                "INSERT INTO conflicts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (n, *r[:2], text, *r[3:6], LWW if r[6] is None else BY_FIELD, r[7])
                    for n, r, text in numbered
                ],
            )


def read_head(connection: sqlite3.Connection, schema: str = "main") -> Preface:
    """Chunk 0 of what is staged."""
    row = connection.execute(f"SELECT payload FROM {schema}.head").fetchone()  # noqa: S608 -- a constant
    return chunks.decode_preface(row[0])
