"""The node's identity as a writer, and the branch of a log that stays."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from entgldb.messages.limits import SIGNED_BYTES_MAX
from entgldb.messages.model import Author, Entry, Origin, Version, node_of
from entgldb.storage.authorship import authors
from entgldb.storage.authorship.authors import Attest
from entgldb.storage.authorship.identity import Identity, origin_of
from entgldb.storage.authorship.keys import Signer
from entgldb.storage.log.append import Batch
from entgldb.storage.log.transaction import Transaction
from entgldb.storage.repair import healing
from entgldb.storage.repair.applying import Applying
from entgldb.storage.repair.rewrite import Writer
from entgldb.storage.rules.authorship import head_statement
from entgldb.storage.rules.header import digest
from entgldb.storage.rules.incarnations import Why


class Healed(NamedTuple):
    """The result of healing a fork."""

    taken_out: int
    """Entries of the branch that went."""
    lost: Mapping[str, int]
    """Keys of which something could be kept nowhere, by the Reason."""


class Incarnations:
    """``reincarnate`` and ``heal`` of a store, within the group that runs."""

    def __init__(
        self, transaction: Transaction, applying: Applying, path: Path | None, attest: Attest
    ) -> None:
        self.attestation = attest
        self._transaction = transaction
        self._applying = applying
        self._path = path

    def reincarnate(self, entropy: bytes, why: Why, now_ms: int) -> Origin:
        """Write under a new origin from now on, within the group that runs; the new origin.

        ``entropy``: 32 bytes nobody can guess; a store with a file adds its own.
        """
        self._transaction.need_group()
        connection, state = self._transaction.connection, self._transaction.state
        self._transaction.signing.head(state)
        state.own = Identity.reincarnate(connection, self._seed(entropy), why, now_ms)
        state.known(connection, state.own)
        state.disowned = False
        authors.attest_own(connection, self.attestation)
        return state.own

    def attest(self) -> None:
        """At each start: have the key attested, and sign a log that an earlier release has left unsigned.

        Nearly always nothing is to be written, so there is no transaction around it.
        """
        authors.attest_own(self._transaction.connection, self.attestation)
        self._transaction.signing.head(self._transaction.state)

    def branch(self, origin: Origin, keep: str) -> tuple[int, bytes] | None:
        """An entry (seq, hash) of the branch ``ours`` or ``theirs`` of a forked origin."""
        return healing.branch(self._transaction.connection, origin, keep)

    def heal(
        self, origin: Origin, seq: int, kept: bytes, entropy: Callable[[], bytes], now_ms: int
    ) -> Healed:
        """Let the branch with entry ``kept`` at ``seq`` stay."""
        self._transaction.need_group()
        connection, state = self._transaction.connection, self._transaction.state
        first = healing.cut(connection, state, origin, seq, kept)
        if not first:
            healing.reopen(state, origin)
            return Healed(0, {})
        taken_out = state.origins[origin].head.seq - first + 1
        healing.take_out(Batch(connection, state), {origin: first})
        return Healed(taken_out, self.log_dropped(entropy, now_ms, whole=False))

    def log_dropped(self, entropy: Callable[[], bytes], now_ms: int, *, whole: bool) -> Counter[str]:
        """Log the documents of a dropped branch that nobody else has written, under a writer that always
        loses; of how many keys something is lost, by the Reason.

        ``whole``: all of the branch that stays is here. Where the key has no document then, its delete may be
        forgotten on some nodes: only with the stamp of a new write is the document shown by all.
        """
        connection, state = self._transaction.connection, self._transaction.state
        batch = Batch(connection, state)

        def unseen(*, lost: bool) -> Iterator[healing.Dropped]:
            for one in healing.dropped(connection):
                there = batch.current(*one[:2])
                beside = not whole or (there is not None and there.live)
                if beside is lost and not healing.is_shown(connection, one):
                    yield one

        rivals = unseen(lost=True)
        first = next(rivals, None)
        if first is not None:
            node_id, seed = node_of(state.own), self._seed(entropy())
            name, public = origin_of(node_id, seed)
            # made here: it is not to be taken for one that somebody brings, and left out for want of room
            state.known(connection, name)
            for entries in _signed(healing.as_versions_that_lost(name, chain((first,), rivals)), seed):
                self._applying.apply(entries, now_ms)
            authors.remember(connection, [Author(name, public, self.attestation(node_id, public))])
        writer = Writer(batch, state.own, now_ms)
        for one in unseen(lost=False):
            there = batch.current(one.collection, one.key)
            parent = None if there is None else Version(there.origin, there.seq)
            writer.write((one.collection, one.key), one.body, parent, expires=one.expires)
        writer.end()
        return healing.lost(connection)

    def _seed(self, entropy: bytes) -> bytes:
        return sha256(entropy + (b"" if self._path is None else os.urandom(32))).digest()


def _signed(log: Iterable[tuple[bytes, str]], seed: bytes) -> Iterator[list[Entry]]:
    """The entries of a log in runs, the last of each signed; few are in memory at a time."""
    signer, run, size = Signer(seed), list[Entry](), 0
    for raw, body in log:
        if size >= SIGNED_BYTES_MAX:
            yield _closed(run, signer)
            run, size = [], 0
        run.append(Entry(raw, body.encode()))
        size += len(raw) + len(body)
    if run:
        yield _closed(run, signer)


def _closed(run: list[Entry], signer: Signer) -> list[Entry]:
    last = run.pop()
    signature = signer.sign(head_statement(digest(last.header)))
    return [*run, Entry(last.header, last.body, signature)]
