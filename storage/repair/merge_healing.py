"""A branch of a forked log is taken out of documents that merge: for ``healing``.

Fields that the branch wrote go; values that it had overwritten come back from the log, as far as it has them.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from entgldb.messages.model import Version
from entgldb.storage.log.append import Batch
from entgldb.storage.log.rows import read_operation, read_row
from entgldb.storage.rules.header import PUT, Header, digest
from entgldb.storage.rules.merging.row import Loser, Operation, loser_of
from entgldb.storage.rules.merging.stored import Stored, Tip, save
from entgldb.storage.rules.merging.tree import Stamp, Tree, held, join, settle, without


def refold_merged(
    batch: Batch,
    place: tuple[str, str],
    logged: Sequence[tuple[Header, str | None]],
    dropped: frozenset[Stamp],
    settled: Set[Version],
) -> None:
    """The row of ``place`` anew, from what it has of others and from what is left of the log.

    ``dropped``: the stamps of the branch, and of the deletes that it was written over; ``settled``: versions
    that an entry which is pruned has named.
    """
    before = read_row(batch, *place)
    operations = [read_operation(header, text) for header, text in logged]
    stored = _folded(before, operations, dropped, settled)
    if before is not None:
        batch.state.documents -= before.live
    if stored is None:
        batch.bury(*place)
        return
    stored, losers = _judged(stored, operations)
    body, stamps = save(stored)
    # a document that stands as it was put keeps its writer's own text; what merges say is no document
    texts = {header.version: text for header, text in logged if header.op == PUT}
    if stamps is None and body is not None:
        body = texts.get(stored.newest.version) or body
    batch.state.documents += stored.live
    number = batch.state.origins[stored.newest.origin].number
    batch.connection.execute(
        "UPDATE _entgldb_documents SET body = ?, origin = ?, seq = ?, hlc = ?, lsn = ?, sha256 = ?,"
        " stamps = ?"
        " WHERE collection = ? AND key = ?",
        (
            body,
            number,
            stored.newest.seq,
            stored.newest.hlc,
            batch.state.next_lsn(),
            None if body is None else digest(body.encode()),
            stamps,
            *place,
        ),
    )
    for tip in {stored.newest, *stored.tips, *(one.tip for one in operations)}:
        batch.clear_conflict(tip.version)
    for loser in losers:
        batch.keep_loser(*place, loser)


def _folded(
    before: Stored | None,
    operations: Sequence[Operation],
    dropped: frozenset[Stamp],
    settled: Set[Version],
) -> Stored | None:
    """All that is left; of tips, those that nobody named."""
    tree: Tree = {} if before is None else without(before.tree, dropped)
    known: dict[Tip, bool] = {one.tip: not one.delete for one in operations}
    if before is not None:
        known |= dict.fromkeys(before.tips, True) | {before.newest: before.live}
    known = {
        tip: live
        for tip, live in known.items()
        if tip.stamp not in dropped or tip in {o.tip for o in operations}
    }
    if not known:
        return None
    for one in operations:
        tree = join(tree, one.tree)
    newest = max(known, key=lambda tip: tip.stamp)
    named = settled | {version for one in operations for version in one.named}
    tips = [tip for tip, live in known.items() if live and tip != newest and tip.version not in named]
    tips.sort(key=lambda tip: tip.stamp, reverse=True)
    return Stored(newest, known[newest], settle(tree), tuple(tips))


def _judged(stored: Stored, operations: Sequence[Operation]) -> tuple[Stored, list[Loser]]:
    """Of the tips, those of which something was overwritten are conflicts."""
    wrote = {one.tip: one.tree for one in operations}
    losers = [
        loser_of(wrote[tip], tip)
        for tip in stored.tips
        if tip in wrote and held(stored.tree, tip.stamp) < held(wrote[tip], tip.stamp)
    ]
    gone = {loser.tip for loser in losers}
    left = tuple(tip for tip in stored.tips if tip not in gone and held(stored.tree, tip.stamp))
    if not stored.live:
        losers += [loser_of(stored.tree, tip) for tip in left]
    return stored._replace(tips=left), losers
