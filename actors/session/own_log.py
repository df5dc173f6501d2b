"""A log has one writer, ever: the rule for a node of whose own log somebody else knows more than itself.

That happens after a roll-back that nobody told the node of (a restored disk image, a virtual machine's
snapshot, an fsync that lied), and when a copy of the node runs elsewhere. A vector alone, which anybody can
invent, changes nothing: the entries prove it. Those that we lack come by themselves, those that differ from
ours are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from entgldb.actors.behaviour import WARNING, Context
from entgldb.actors.ports import LogReader, Store
from entgldb.messages.errors import ProtocolError
from entgldb.messages.model import SYSTEM_PREFIX, Author, Entry, Origin, Vector
from entgldb.storage.rules.header import decode
from entgldb.storage.rules.incarnations import Why


def went_back(before: Vector, now: Vector) -> bool:
    """Whether entries that we had told of are not here any more."""
    return any(seq > now.get(origin, (0, b""))[0] for origin, (seq, _) in before.items())


def forked(log: LogReader, vector: Vector) -> list[tuple[Origin, int]]:
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
    known = log.forked() if places else set()
    return [(origin, seq) for origin, seq in places if origin not in known]


def of_own(entries: Iterable[Entry], own: Origin) -> tuple[Entry, ...]:
    """The entries of our own log among those that a cloud has supplied: all that it may supply."""
    return tuple(entry for entry in for_cloud(entries) if decode(entry.header).origin == own)


def for_cloud(entries: Iterable[Entry]) -> list[Entry]:
    """Entries of no system collection; an entry that cannot be read is none of them."""
    found = []
    for entry in entries:
        with suppress(ProtocolError):
            if not decode(entry.header).collection.startswith(SYSTEM_PREFIX):
                found.append(entry)
    return found


def authors_of(log: LogReader, origins: Iterable[Origin]) -> tuple[Author, ...]:
    """The authors of logs, as far as our file has them."""
    found = [log.author(origin) for origin in origins]
    return tuple(author for author in found if author is not None)


def tell_of_beginning(store: Store, ctx: Context) -> None:
    """Log that the file was found to be a copy, or older than it had been, or not to be there, or that nobody
    has looked it over."""
    if store.unchecked:
        ctx.log(
            WARNING,
            "the machine stopped while the database was open, which is too large to be looked over at a"
            " start: entgldb verify does it while the node runs",
        )
    if store.reborn is Why.LOST:
        ctx.log(
            WARNING, "the database had vanished: this node has begun empty, and has what its peers give it"
        )
    if store.reborn is not None:
        ctx.log(WARNING, f"{store.reborn.value}: this node now writes as {store.origin}")


def after_applying(store: Store, ctx: Context) -> None:
    """Entries of our own origin have come from others: whatever else they have, we must not write it anew."""
    if store.disowned:
        begin_anew(store, Why.ROLLED_BACK, ctx)


def begin_anew(store: Store, why: Why, ctx: Context) -> None:
    """A new incarnation, within the transaction that runs."""
    old = store.origin
    new = store.incarnations.reincarnate(ctx.random.randbytes(32), why, ctx.now_ms())
    ctx.log(WARNING, f"{why.value}: {old} is not continued, this node now writes as {new}")
