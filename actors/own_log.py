"""A log has one writer, ever: what a node does when somebody else knows more of its own log than itself.

That happens after a roll-back that nobody told the node of (a restored disk image, a virtual machine's
snapshot, an fsync that lied), and when a copy of the node runs elsewhere.
"""

from __future__ import annotations

from typing import Protocol

from entgldb.actors.behaviour import WARNING, Context
from entgldb.actors.ports import OplogReader, Store
from entgldb.messages.client import Done
from entgldb.messages.incarnation import OwnLogSeen
from entgldb.messages.model import Origin, Vector
from entgldb.messages.schema import Message
from entgldb.storage.rules.incarnations import Why


def disputed(log: OplogReader, vector: Vector) -> OwnLogSeen | None:
    """What to tell the store when a peer's vector knows our own origin otherwise than our file does."""
    own = log.origin
    seq, digest = vector.get(own, (0, b""))
    return OwnLogSeen(own, seq, digest) if seq and log.disputes(own, seq, digest) else None


def went_back(before: Vector, now: Vector) -> bool:
    """Whether entries that we had told of are not here any more."""
    return any(seq > now.get(origin, (0, b""))[0] for origin, (seq, _) in before.items())


def forked(log: OplogReader, vector: Vector) -> list[tuple[Origin, int]]:
    """Entries to ask the peer for, because it has others at these places than we: proofs of a fork.

    Two branches of equal length would otherwise never meet: neither side lacks anything of the other.
    """
    mine = log.vector()
    places = [
        (origin, seq)
        for origin, (seq, digest) in vector.items()
        if 0 < seq <= mine.get(origin, (0, b""))[0] and mine[origin] != (seq, digest)
        if log.disputes(origin, seq, digest)
    ]
    known = log.quarantined() if places else set()
    return [(origin, seq) for origin, seq in places if origin not in known]


class Keeper(Protocol):
    """The part of StoreKeeper that is needed here."""

    store: Store


def judge(keeper: Keeper, seen: OwnLogSeen, ctx: Context) -> Message:
    """Go on as a new writer before the next write, if it is still so."""
    store = keeper.store
    if seen.origin == store.origin and store.disputes(seen.origin, seen.seq, seen.hash):
        begin_anew(store, Why.ROLLED_BACK, ctx)
    return Done()


def tell_of_beginning(store: Store, ctx: Context) -> None:
    """Log that the file was found to be a copy, or older than it had been."""
    if store.reborn is not None:
        ctx.log(WARNING, f"{store.reborn.value}: this node now writes as {store.origin}")


def after_applying(store: Store, ctx: Context) -> None:
    """Entries of our own origin have come from others: whatever else they have, we must not write it anew."""
    if store.disowned:
        begin_anew(store, Why.ROLLED_BACK, ctx)


def begin_anew(store: Store, why: Why, ctx: Context) -> None:
    """A new incarnation, within the transaction that runs."""
    old = store.origin
    new = store.reincarnate(ctx.random.randbytes(32), why, ctx.now_ms())
    ctx.log(WARNING, f"{why.value}: {old} is not continued, this node now writes as {new}")
