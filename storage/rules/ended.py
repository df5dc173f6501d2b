"""That a log ends: said by the key of an entry in a later log of the same node, ``<origin>/<last seq>``."""

from __future__ import annotations

from entgldb.messages.model import ENDED, Origin, node_of
from entgldb.storage.rules.header import DELETE, Header, is_origin


def ending(origin: Origin, seq: int) -> str:
    """The key that says so."""
    return f"{origin}/{seq}"


def ended_by(header: Header) -> tuple[Origin, int] | None:
    """Which log an entry ends, and behind which seq; None for any other entry.

    A node may end its own logs and nobody else's.
    """
    if header.collection != ENDED or header.op == DELETE:
        return None
    end = read_ending(header.key)
    if end is None or node_of(end[0]) != node_of(header.origin) or end[0] == header.origin:
        return None
    return end


def read_ending(key: str) -> tuple[Origin, int] | None:
    """The log and its last seq that a key names; None where it is no such key."""
    origin, _, seq = key.rpartition("/")
    if is_origin(origin) and seq.isascii() and seq.isdigit() and len(seq) < 19:
        return origin, int(seq)
    return None
