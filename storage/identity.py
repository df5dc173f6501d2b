"""Who a database is: its node, its incarnation with a key pair, and the file's own id."""

from __future__ import annotations

import os
import sqlite3
from hashlib import sha256

from entgldb.messages.errors import ConfigError
from entgldb.messages.model import node_of


class Identity:
    """Minted once, in one transaction, when a database is created."""

    @staticmethod
    def ensure(connection: sqlite3.Connection, node_id: str) -> None:
        """Create the identity of a new file, or check that an old one is this node's."""
        row = connection.execute("SELECT value FROM _entgldb_meta WHERE name = 'origin'").fetchone()
        if row is None:
            Identity.create(connection, node_id, os.urandom(32), os.urandom(16).hex())
        elif node_of(row[0]) != node_id:
            raise ConfigError(
                f"the database belongs to node {node_of(row[0])}, not {node_id}",
                hint="use its node id, or another directory",
            )

    @staticmethod
    def create(connection: sqlite3.Connection, node_id: str, seed: bytes, file_id: str) -> None:
        """Store a new origin: ``seed`` is the Ed25519 private key (RFC 8032), 32 bytes.

        The incarnation is the first 16 bytes of the public key's SHA-256, so that authorship can be
        proved one day without a new format.
        """
        # cryptography takes long to import: only the process that owns a file pays for it
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        origin = f"{node_id}/{sha256(public).digest()[:16].hex()}"
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO _entgldb_meta VALUES (?, ?)",
            [("origin", origin), ("public_key", public), ("private_key", seed), ("file_id", file_id)],
        )
        connection.execute("INSERT INTO _entgldb_origins (name, seq, head) VALUES (?, 0, x'')", (origin,))
        connection.execute("COMMIT")
