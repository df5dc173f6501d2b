"""Signing this node's own log: its last entry at the end of each commit, others inside a large one."""

from __future__ import annotations

import sqlite3

from entgldb.messages.limits import SIGNED_BYTES_MAX
from entgldb.messages.model import Origin
from entgldb.storage.authorship.keys import Signer
from entgldb.storage.file.state import SEQ, SIGNATURE, State
from entgldb.storage.rules import clock
from entgldb.storage.rules.authorship import head_statement, leaps


class Signing:
    """Holds the private key of the origin that signed last."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._origin: Origin = ""
        self._signer: Signer | None = None

    def after_request(self, state: State) -> bool:
        """Sign if much has been written since: whoever takes it has to keep it until the signature comes."""
        much = state.unsigned >= SIGNED_BYTES_MAX
        if much:
            self.head(state)
        return much

    def needed_before(self, state: State, now_ms: int) -> bool:
        """Whether the stamp of a request will leap: somebody may take what is before it and hold it."""
        return state.unsigned > 0 and leaps(
            state.origins[state.own].head.hlc, clock.tick(state.clock, now_ms)
        )

    def before_commit(self, state: State) -> None:
        """Sign if anything has been written since."""
        if state.unsigned:
            self.head(state)

    def head(self, state: State) -> None:
        """Sign the last own entry. Before a key goes, too: nobody else could do it later."""
        head, row = state.origins[state.own].head, state.unsigned_row
        if row is not None and row[SEQ] == head.seq:
            row[SIGNATURE] = self._signature(state, head.hash)
        elif head.seq:
            self.at(state, head.seq, head.hash)
        state.unsigned = 0

    def at(self, state: State, seq: int, header_hash: bytes) -> None:
        """Sign an own entry that is in the file and has no signature."""
        signature = self._signature(state, header_hash)
        if signature is not None:
            self._connection.execute(
                "UPDATE _entgldb_oplog SET signature = ? WHERE origin = ? AND seq = ? AND signature IS NULL",
                (signature, state.origins[state.own].number, seq),
            )

    def _signature(self, state: State, header_hash: bytes) -> bytes | None:
        """None without a key."""
        signer = self._signer_of(state.own)
        return None if signer is None else signer.sign(head_statement(header_hash))

    def _signer_of(self, own: Origin) -> Signer | None:
        """None in the copy of a database, which has no key: it becomes another writer before it writes."""
        if self._signer is None or self._origin != own:
            row = self._connection.execute(
                "SELECT value FROM _entgldb_meta WHERE name = 'private_key'"
            ).fetchone()
            self._origin, self._signer = own, None if row is None else Signer(row[0])
        return self._signer
