"""The bytes that signatures are made of, and what of a signature needs no key.

An origin signs the hash of a header: the chain covers all that came before. The cluster's CA signs who has
which key. Each kind of statement begins with a word of its own, so that none can be taken for another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final, Protocol

import msgpack

from entgldb.messages.limits import BATCH_BYTES_MAX, DRIFT_MS_MAX, PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from entgldb.messages.model import Author, Origin, incarnation_of
from entgldb.storage.rules import clock

_HEAD: Final = b"entgldb head 1\x00"
_AUTHOR: Final = b"entgldb author 1\x00"
_GUEST: Final = b"entgldb guest 1\x00"
_SUCCESSOR: Final = b"entgldb successor 1\x00"
GUEST_MARK: Final = b"\x01"
"""It stands behind the signature in the attestation of a guest."""


def incarnation(public_key: bytes) -> str:
    """The incarnation that is made from a key."""
    return sha256(public_key).digest()[:16].hex()


def cluster_of(ca_key: bytes) -> str:
    """The name of a cluster: made of the CA's public key, it tells clusters apart and gives nothing away."""
    return sha256(ca_key).hexdigest()[:16]


def head_statement(header_hash: bytes) -> bytes:
    """An origin signs this to say that its log is its own up to the entry whose header has this SHA-256."""
    return _HEAD + header_hash


def author_statement(cluster: str, node_id: str, public_key: bytes, *, guest: bool = False) -> bytes:
    """The CA of a cluster signs this to say that the node writes with this key.

    ``guest``: a node of another cluster, by the word of a cloud that both share.
    """
    packed: bytes = msgpack.packb([cluster, node_id, public_key])
    return (_GUEST if guest else _AUTHOR) + packed


def successor_statement(cluster: str, ca_key: bytes) -> bytes:
    """A CA of a cluster signs this to say that the cluster has a new key, whose CA has this public key."""
    packed: bytes = msgpack.packb([cluster, ca_key])
    return _SUCCESSOR + packed


def is_guest(author: Author) -> bool:
    """Whether a writer is of another cluster."""
    return len(author.attestation) > SIGNATURE_BYTES


def fits(author: Author) -> bool:
    """Whether the origin is made from the key."""
    key = author.public_key
    return len(key) == PUBLIC_KEY_BYTES and incarnation_of(author.origin) == incarnation(key)


class Provable(Protocol):
    """An entry among those that wait for a proof."""

    @property
    def origin(self) -> Origin: ...

    @property
    def size(self) -> int: ...

    @property
    def hlc(self) -> int: ...

    @property
    def closes(self) -> bool:
        """Whether it is signed, where a transaction ends."""


def leaps(before: int, hlc: int, bound: int | None = None) -> bool:
    """Whether somebody may hold for long an entry stamped ``hlc``, and take the one ``before`` it.

    ``bound``: the greatest stamp that this node takes.
    """
    held_here = bound is not None and before <= bound < hlc
    return held_here or hlc - before > clock.from_ms(DRIFT_MS_MAX)


def before_leaps(links: Sequence[Provable], bound: int) -> list[int]:
    """The places of signatures that a relay is to keep, though later ones prove as much.

    Another node may hold what comes behind one, or the log may be given its end there: who then has applied
    what comes before could prove none of it, and so relay nothing that was written after it. A log that is
    held here may be given its end anywhere in what is held.
    """
    found: list[int] = []
    tails: dict[Origin, int] = {}
    for place, one in enumerate(links):
        before = tails.get(one.origin)
        if before is not None and links[before].closes and leaps(links[before].hlc, one.hlc, bound):
            found.append(before)
        if one.closes and one.hlc > bound:
            found.append(place)
        tails[one.origin] = place
    return found


def worth_checking(links: Iterable[Provable], bound: int) -> list[int]:
    """The places up to which entries are to be proven, each origin by the last of its signatures before it.

    That is the last place at which no origin is without one, because it proves all before it. And those
    places without which a relay would have to send too much before the next, or could prove nothing of what
    it has applied: the last before an entry that will be held, its stamp being beyond ``bound``.
    """
    found: list[int] = []
    unproven: set[Origin] = set()
    ahead: set[Origin] = set()
    candidate, size, upto = None, 0, 0
    for place, one in enumerate(links):
        turns = one.hlc > bound and one.origin not in ahead
        if turns:
            ahead.add(one.origin)
        if candidate is not None and (turns or size + one.size > BATCH_BYTES_MAX):
            found.append(candidate)
            candidate, size = None, size - upto
        size += one.size
        if one.closes:
            unproven.discard(one.origin)
        else:
            unproven.add(one.origin)
        if not unproven:
            candidate, upto = place, size
    return found if candidate is None else [*found, candidate]
