"""Verification between the actors of one node. Tags 160-169, local like those of ``local.py``."""

from __future__ import annotations

from entgldb.messages.model import Vector
from entgldb.messages.schema import Message, message
from entgldb.messages.wire import Copy


@message(160)
class VerifyPeer(Message):
    """Sync or gateway to oplog: a session is open to a node that knows verification."""

    owner: str
    """``sync`` or ``gateway``."""
    session: str
    node_id: str
    cloud: bool
    """System collections stay out of it."""
    begins: bool
    """This side begins the runs that come by themselves."""


@message(161)
class VerifyHeard(Message):
    """Sync or gateway to oplog: the peer said this (an encoded wire message)."""

    session: str
    payload: bytes


@message(162)
class VerifySay(Message):
    """Oplog to sync or gateway: say this to the peer."""

    session: str
    payload: bytes


@message(163)
class Repair(Message):
    """Oplog to store: the peer shows these rows; replace ours that are wrong by rule. Answer: Repaired."""

    session: str
    answer: bool
    """The peer's rows of places that we had shown ours of."""
    vector: Vector
    copies: tuple[Copy, ...]
    absent: tuple[tuple[str, str], ...]
    """Collection and key of rows of ours that the peer has not got."""
    write: bool
    """False: only say what would be done."""
    pieces: tuple[bytes, ...] = ()
    """One more copy, too large for a field, as ``rules.large_copies`` takes it apart."""


@message(164)
class Repaired(Message):
    """Store to oplog: one decision a row, in the order of Repair: its copies, then what is absent there."""

    session: str
    answer: bool
    places: tuple[tuple[str, str], ...]
    decisions: tuple[str, ...]
    refused: str = ""
    """The Reason for which nothing could be written."""


@message(166)
class TellPeers(Message):
    """Oplog to sync and gateway, after its start: say VerifyPeer for every open session."""
