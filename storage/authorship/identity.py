"""The identity of a database: its node, its incarnation with a key pair, and the file's own id."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Final

from entgldb.messages.errors import ConfigError, CorruptError, NotFoundError
from entgldb.messages.model import Origin, node_of
from entgldb.messages.schema import Json
from entgldb.storage.authorship.keys import public_of
from entgldb.storage.file.faults import HINT_DAMAGED, translating
from entgldb.storage.file.open import open_reader
from entgldb.storage.rules.authorship import incarnation
from entgldb.storage.rules.incarnations import Why

INCARNATIONS_TOLD_MAX: Final = 20
"""The number of latest incarnations that ``status`` tells."""

_GONE_BACK: Final = (Why.RESTORED, Why.CLONED, Why.ROLLED_BACK, Why.REBUILT, Why.LOST)
"""After these the file may not have what it had."""


class Identity:
    """Minted when a database is created, and anew whenever its log must not be continued."""

    @staticmethod
    def ensure(connection: sqlite3.Connection, node_id: str) -> None:
        """Create the identity of a new file, or check that an old one is this node's, with its own keys."""
        meta = dict(
            connection.execute(
                "SELECT name, value FROM _entgldb_meta WHERE name IN ('origin', 'public_key', 'private_key')"
            ).fetchall()
        )
        origin = meta.get("origin")
        if origin is None:
            Identity.create(connection, node_id, os.urandom(32), os.urandom(16).hex())
        elif node_of(origin) != node_id:
            raise ConfigError(
                f"the database belongs to node {node_of(origin)}, not {node_id}",
                hint="use its node id, or another directory",
            )
        # a copy has no private key: it becomes another writer before it writes
        elif "private_key" in meta and not _fit(origin, meta["public_key"], meta["private_key"]):
            raise CorruptError(
                f"the keys in the file are not those of {origin}: no peer would take what it signs",
                hint=HINT_DAMAGED,
            )

    @staticmethod
    def create(connection: sqlite3.Connection, node_id: str, seed: bytes, file_id: str) -> None:
        """Store a new origin: ``seed`` is the Ed25519 private key (RFC 8032), 32 bytes."""
        origin, public = origin_of(node_id, seed)
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO _entgldb_meta VALUES (?, ?)",
            [("origin", origin), ("public_key", public), ("private_key", seed), ("file_id", file_id)],
        )
        connection.execute("INSERT INTO _entgldb_origins (name, seq, head) VALUES (?, 0, x'')", (origin,))
        connection.execute("COMMIT")

    @staticmethod
    def reincarnate(connection: sqlite3.Connection, seed: bytes, why: Why, now_ms: int) -> Origin:
        """Go on as a new origin of the same node, within the transaction that runs; the new origin.

        The old one's log stays as it is and reads like that of any other writer. Its private key goes:
        a log has one writer, ever, and nobody writes that one any more.
        """
        row = connection.execute("SELECT value FROM _entgldb_meta WHERE name = 'origin'").fetchone()
        origin, public = origin_of(node_of(row[0]), seed)
        connection.executemany(
            "INSERT OR REPLACE INTO _entgldb_meta VALUES (?, ?)",
            [("origin", origin), ("public_key", public), ("private_key", seed)],
        )
        if why in _GONE_BACK:
            # numbers of rows may have been given before, to others: change tokens of that time expire
            connection.execute(
                "UPDATE _entgldb_meta SET value = ? WHERE name = 'file_id'",
                (sha256(b"file" + seed).hexdigest()[:32],),
            )
        connection.execute("INSERT INTO _entgldb_incarnations VALUES (?, ?, ?)", (origin, now_ms, why.value))
        return origin

    @staticmethod
    def history(connection: sqlite3.Connection) -> list[Json]:
        """When and why this file went on under a new origin, the latest first."""
        rows = connection.execute(
            "SELECT origin, at_ms, why FROM _entgldb_incarnations ORDER BY at_ms DESC, origin LIMIT ?",
            (INCARNATIONS_TOLD_MAX,),
        )
        return [{"origin": origin, "at_ms": at_ms, "why": why} for origin, at_ms, why in rows.fetchall()]


def owner_of(directory: Path) -> str:
    """The node id that the database in a directory was made with; empty where there is none.

    Raises ConfigError for a file of another program.
    """
    try:
        with closing(open_reader(directory)) as connection, translating(directory):
            row = connection.execute("SELECT value FROM _entgldb_meta WHERE name = 'origin'").fetchone()
    except NotFoundError:
        return ""
    return node_of(row[0])


def _fit(origin: Origin, public: bytes, seed: bytes) -> bool:
    """Whether an origin is made from these keys."""
    try:
        return origin_of(node_of(origin), seed) == (origin, public)
    except (TypeError, ValueError):
        return False


def origin_of(node_id: str, seed: bytes) -> tuple[Origin, bytes]:
    """The origin and the public key of an Ed25519 private key (RFC 8032), 32 bytes."""
    public = public_of(seed)
    return f"{node_id}/{incarnation(public)}", public
