"""Signing this node's own log: its last entry at the end of each commit, others inside a large one."""

from __future__ import annotations

import sqlite3

from entgldb.messages.limits import SIGNED_BYTES_MAX
from entgldb.messages.model import Origin
from entgldb.storage.authorship.keys import Signer
from entgldb.storage.file.state import State
from entgldb.storage.rules import clock
from entgldb.storage.rules.authorship import head_statement, leaps


class Signing:
    """Holds the private key of the origin that signed last."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._origin: Origin = ""
        self._signer: Signer | None = None

    def after_request(self, state: State) -> None:
        """Sign if much has been written since: whoever takes it has to keep it until the signature comes."""
        if state.unsigned >= SIGNED_BYTES_MAX:
            self.head(state)

    def before_request(self, state: State, now_ms: int) -> None:
        """Sign if its stamp will leap: somebody may take what is before it and hold it."""
        if state.unsigned and leaps(state.origins[state.own].head.hlc, clock.tick(state.clock, now_ms)):
            self.head(state)

    def before_commit(self, state: State) -> None:
        """Sign if anything has been written since."""
        if state.unsigned:
            self.head(state)

    def head(self, state: State) -> None:
        """Sign the last own entry. Before a key goes, too: nobody else could do it later."""
        head = state.origins[state.own].head
        if head.seq:
            self.at(state, head.seq, head.hash)
        state.unsigned = 0

    def at(self, state: State, seq: int, header_hash: bytes) -> None:
        """Sign an own entry that is in the log and has no signature."""
        signer = self._signer_of(state.own)
        if signer is not None:
            self._connection.execute(
                "UPDATE _entgldb_oplog SET signature = ? WHERE origin = ? AND seq = ? AND signature IS NULL",
                (signer.sign(head_statement(header_hash)), state.origins[state.own].number, seq),
            )

    def _signer_of(self, own: Origin) -> Signer | None:
        """None in the copy of a database, which has no key: it becomes another writer before it writes."""
        if self._signer is None or self._origin != own:
            row = self._connection.execute(
                "SELECT value FROM _entgldb_meta WHERE name = 'private_key'"
            ).fetchone()
            self._origin, self._signer = own, None if row is None else Signer(row[0])
        return self._signer
