"""The part of the store that changes who the node is as a writer, and which branch of a log stays."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import chain
from pathlib import Path

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError
from entgldb.messages.model import Entry, Origin, node_of
from entgldb.storage import healing, requests, salvaged
from entgldb.storage.batch import Batch
from entgldb.storage.identity import Identity, origin_of
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.rules.results import Outcome
from entgldb.storage.transaction import Transactions


class Incarnations(Transactions):
    """``reincarnate``, ``heal`` and what belongs to them of ``ports.Store``."""

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        super().__init__(connection)
        self.path = path
        self._reborn: Why | None = None

    def reincarnate(self, entropy: bytes, why: Why, now_ms: int) -> Origin:
        """Write under a new origin from now on, within the group that runs; the new origin.

        ``entropy``: 32 bytes nobody can guess; a store with a file adds its own.
        """
        self._need_group()
        self.state.own = Identity.reincarnate(self.connection, self._seed(entropy), why, now_ms)
        self.state.known(self.connection, self.state.own)
        self.state.disowned = False
        return self.state.own

    def begin_anew(self, entropy: bytes, why: Why, now_ms: int) -> None:
        """The file was found to be a copy, or older than it had been: write as somebody new."""
        with self.group():
            self.reincarnate(entropy, why, now_ms)
        self._reborn = why

    @property
    def reborn(self) -> Why | None:
        """Why the file got a new incarnation when it was opened, if it did."""
        return self._reborn

    @property
    def disowned(self) -> bool:
        """Whether others have continued our own log: ``write`` needs a new incarnation first."""
        return self.state.disowned

    def branch(self, origin: Origin, keep: str) -> tuple[int, bytes] | None:
        """An entry (seq, hash) of the branch ``ours`` or ``theirs`` of a quarantined origin."""
        return healing.branch(self.connection, origin, keep)

    def reissue_salvaged(self, now_ms: int) -> int:
        """Write again what a damaged file had and no peer has, once a peer has given what it has."""
        self._need_group()
        return salvaged.write_again(self, now_ms)

    def heal(self, origin: Origin, seq: int, kept: bytes, entropy: Callable[[], bytes], now_ms: int) -> int:
        """Let the branch with entry ``kept`` at ``seq`` stay; how many entries of another were taken out."""
        self._need_group()
        state = self.state
        first = healing.cut(self.connection, state, origin, seq, kept)
        if not first:
            healing.release(state, origin)
            return 0
        dropped = state.origins[origin].head.seq - first + 1
        healing.take_out(Batch(self.connection, state), origin, first)
        self._keep_as_lost(entropy, now_ms)
        return dropped

    def _keep_as_lost(self, entropy: Callable[[], bytes], now_ms: int) -> None:
        """What a branch had that nobody else has put there, as the log of a writer that always loses."""
        unseen = (
            one for one in healing.dropped(self.connection) if not healing.is_shown(self.connection, one)
        )
        first = next(unseen, None)
        if first is not None:
            name, _ = origin_of(node_of(self.state.own), self._seed(entropy()))
            for raw, body in healing.as_versions_that_lost(name, chain((first,), unseen)):
                self.apply([Entry(raw, body.encode())], now_ms)

    def write(
        self, request: RequestId, writes: Sequence[Write], now_ms: int, *, system: bool = False
    ) -> requests.Answer:
        """Write as this node."""
        raise NotImplementedError

    def apply(self, entries: Sequence[Entry], now_ms: int, *, cloud: bool = False) -> Outcome:
        """Take foreign entries in this order, each after its link in the chain was checked."""
        raise NotImplementedError

    def _seed(self, entropy: bytes) -> bytes:
        return sha256(entropy + (b"" if self.path is None else os.urandom(32))).digest()

    def _need_group(self) -> None:
        if not self.connection.in_transaction:
            raise EntglError("writing needs a group around it")
