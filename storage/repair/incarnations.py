"""The node's identity as a writer, and the branch of a log that stays."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from itertools import chain
from pathlib import Path

from entgldb.messages.model import Entry, Origin, node_of
from entgldb.storage.file.identity import Identity, origin_of
from entgldb.storage.log.append import Batch
from entgldb.storage.log.transaction import Transaction
from entgldb.storage.repair import healing
from entgldb.storage.repair.applying import Applying
from entgldb.storage.rules.incarnations import Why


class Incarnations:
    """``reincarnate`` and ``heal`` of ``ports.Store``, within the group that runs."""

    def __init__(self, transaction: Transaction, applying: Applying, path: Path | None) -> None:
        self._transaction = transaction
        self._applying = applying
        self._path = path

    def reincarnate(self, entropy: bytes, why: Why, now_ms: int) -> Origin:
        """Write under a new origin from now on, within the group that runs; the new origin.

        ``entropy``: 32 bytes nobody can guess; a store with a file adds its own.
        """
        self._transaction.need_group()
        connection, state = self._transaction.connection, self._transaction.state
        state.own = Identity.reincarnate(connection, self._seed(entropy), why, now_ms)
        state.known(connection, state.own)
        state.disowned = False
        return state.own

    def heal(self, origin: Origin, seq: int, kept: bytes, entropy: Callable[[], bytes], now_ms: int) -> int:
        """Let the branch with entry ``kept`` at ``seq`` stay; how many entries of another were taken out."""
        self._transaction.need_group()
        connection, state = self._transaction.connection, self._transaction.state
        first = healing.cut(connection, state, origin, seq, kept)
        if not first:
            healing.release(state, origin)
            return 0
        dropped = state.origins[origin].head.seq - first + 1
        healing.take_out(Batch(connection, state), origin, first)
        self._keep_as_lost(entropy, now_ms)
        return dropped

    def _keep_as_lost(self, entropy: Callable[[], bytes], now_ms: int) -> None:
        """Log the documents of a dropped branch that nobody else has written, under a writer that always
        loses."""
        connection = self._transaction.connection
        unseen = (one for one in healing.dropped(connection) if not healing.is_shown(connection, one))
        first = next(unseen, None)
        if first is not None:
            name, _ = origin_of(node_of(self._transaction.state.own), self._seed(entropy()))
            for raw, body in healing.as_versions_that_lost(name, chain((first,), unseen)):
                self._applying.apply([Entry(raw, body.encode())], now_ms)

    def _seed(self, entropy: bytes) -> bytes:
        return sha256(entropy + (b"" if self._path is None else os.urandom(32))).digest()
