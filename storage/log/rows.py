"""Rows of documents: read, merged with one operation, written back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from entgldb.messages.client import FieldOperation
from entgldb.messages.errors import TooLargeError
from entgldb.messages.limits import HISTORY_BYTES_MAX, MERGED_BYTES_MAX, ROW_BYTES_MAX
from entgldb.messages.model import Origin
from entgldb.storage.log.append import Batch
from entgldb.storage.rules.clock import HLC_MAX
from entgldb.storage.rules.header import MERGE, Header
from entgldb.storage.rules.merging.accumulating import carried_out, continued
from entgldb.storage.rules.merging.changes import (
    as_read,
    difference,
    edits_absent,
    fresh,
    joined,
    plant,
    whole,
)
from entgldb.storage.rules.merging.row import (
    Merging,
    Operation,
    absorb,
    goes_whole,
    operation,
    put_operation,
    read_merging,
)
from entgldb.storage.rules.merging.stored import Stored, Tip, load, save
from entgldb.storage.rules.merging.tree import FieldChange, Stamp, render, settle, text_of, union
from entgldb.storage.rules.updating.accumulate import split
from entgldb.storage.rules.updating.apply import apply
from entgldb.storage.rules.updating.parse import Update

_ROW: Final = (
    "SELECT o.name, d.seq, d.hlc, ifnull(d.expires, 0), d.body, d.stamps, d.lsn FROM _entgldb_documents d"
    " JOIN _entgldb_origins o ON o.id = d.origin WHERE d.collection = ? AND d.key = ? AND d.hlc > 0"
)

AND_ITSELF: Final = "~"
"""Behind an origin, it makes a stamp that comes right after the one of that origin."""
_HISTORY: Final = "SELECT ifnull(length(stamps), 0) FROM _entgldb_documents WHERE collection = ? AND key = ?"


def read_row(batch: Batch, collection: str, key: str) -> Stored | None:
    row = _raw(batch, (collection, key))
    return None if row is None else _loaded(row)


def read_operation(header: Header, text: str | None) -> Operation:
    """An entry as the merge sees it; its text was checked."""
    tip = Tip(header.origin, header.seq, header.hlc, header.expires)
    if header.op == MERGE:
        return operation(tip, header.named, read_merging(text or "", tip.stamp))
    return put_operation(tip, header.named, text)


def composed(
    row: Stored | None,
    document: dict[str, Any] | None,
    *,
    fields: bool,
    origin: Origin,
    collected_hlc: int = 0,
    read: dict[str, Any] | None = None,
) -> Merging:
    """The merge by which ``origin`` writes ``document`` (None: deletes) over ``row``.

    ``fields``: only what differs; otherwise the document is written whole. ``collected_hlc``: where no row
    is, a tombstone as new as this may have been collected, and stand elsewhere with the fields it deleted.
    ``read``: what the writer had read and changed, which need not be what stands here now.
    """
    if not fields:
        return Merging(whole(document or {}), document is None)
    if document is None:
        return Merging({}, True)
    if row is None or not row.shown:
        return Merging(fresh(document), over=_over(row, collected_hlc))
    change = (
        difference(row.document(), document, row.tree)
        if read is None
        else difference(read, document, as_read(read, row.tree))
    )
    return Merging(continued(change, row.tree, origin))


def accumulated(
    row: Stored | None, operations: Sequence[FieldOperation], origin: Origin, collected_hlc: int
) -> Merging:
    """The merge by which ``origin`` increments counters and changes sets. Raises InvalidError."""
    if row is None or not row.shown:
        return Merging(carried_out(operations, {}), over=_over(row, collected_hlc))
    change = carried_out(operations, row.tree)
    if goes_whole(row):
        # nothing of it would be left below the change once it has expired
        return Merging(whole(with_change(row, change)))
    return Merging(continued(change, row.tree, origin))


def updated(row: Stored | None, update: Update, origin: Origin, collected_hlc: int, *, anew: bool) -> Merging:
    """The merge by which ``origin`` updates a document. Raises InvalidError.

    ``anew``: write the document whole, to shed the versions of all that it ever had, unless the update does
    nothing but accumulate: that adds next to none, and counters and sets would lose their writers.
    """
    stands = row is not None and row.shown
    tree = row.tree if row is not None and stands else {}
    before = render(tree)
    fields, operations = split(update, before)
    # the values of a tree are shared: they are not to be changed in place
    after: dict[str, Any] = json.loads(text_of(before))
    apply(fields, after)
    change = joined(difference(before, after, tree), carried_out(operations, tree))
    if row is None or not stands:
        return Merging(change, over=_over(row, collected_hlc))
    if (anew and fields) or goes_whole(row):
        return Merging(whole(with_change(row, change)))
    return Merging(continued(change, tree, origin))


def _over(row: Stored | None, collected_hlc: int) -> Stamp | None:
    """The delete that a document is written over which stands nowhere."""
    if row is not None:
        # what has expired is gone with its own leaves
        return (row.newest.hlc, row.newest.origin + AND_ITSELF) if row.hidden else row.newest.stamp
    return (collected_hlc, "~") if collected_hlc else None


def with_change(row: Stored, change: FieldChange) -> dict[str, Any]:
    """The document that a row would show after a change that is later than all that the row has."""
    return render(settle(union(row.tree, plant(change, (HLC_MAX, "~")))))


def with_edit(row: Stored, read: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """The document of a row, to be written whole, with what a writer changed in the one that it had read.

    A field in which that edits an element that is gone is as the writer has it: below a whole document no
    edit waits for its element.
    """
    tree = row.tree
    change = difference(read, document, as_read(read, tree))
    own = {
        name: value
        for name, value in document.items()
        if edits_absent(change.get(f".{name}"), tree.get(f".{name}"))
    }
    return with_change(row, change) | own


def merge_row(batch: Batch, header: Header, text: str | None, lsn: int) -> bool:
    """Merge one logged entry into its row, and keep and clear conflicts; whether it made a row too large.

    That is one beyond MERGED_BYTES_MAX, and larger than it was. Raises TooLargeError beyond ROW_BYTES_MAX.
    """
    one, place = read_operation(header, text), (header.collection, header.key)
    # rows of the log may wait for those of the next entries
    batch.settle(place)
    row = batch.connection.execute(_ROW, place).fetchone()
    before = None if row is None else _loaded(row)
    for version in one.named:
        batch.clear_conflict(place, version)
    superseded = before is not None and batch.has_successor(header.version)
    after = absorb(before, one, superseded=superseded, time_ms=batch.state.time_ms)
    for tip in after.restored:
        batch.clear_conflict(place, tip.version)
    for loser in after.losers:
        batch.keep_loser(*place, loser)
    return _write(batch, place, row, after.stored, lsn)


def write_row(
    batch: Batch, place: tuple[str, str], stored: Stored, lsn: int, *, bounded: bool = True
) -> bool:
    """Write what became of a row; as ``merge_row``.

    ``lsn`` is its new place in change feeds, if anything else shows now. ``bounded``: raise where it is too
    large.
    """
    return _write(batch, place, _raw(batch, place), stored, lsn, bounded=bounded)


def _loaded(row: Any) -> Stored:
    return load(Tip(*row[:4]), row[4], row[5])


def _raw(batch: Batch, place: tuple[str, str]) -> Any:
    batch.flush()
    return batch.connection.execute(_ROW, place).fetchone()


def _write(
    batch: Batch, place: tuple[str, str], row: Any, stored: Stored, lsn: int, *, bounded: bool = True
) -> bool:
    body, stamps = save(stored, hidden=stored.is_past(batch.state.time_ms))
    size, before = _bytes(body, stamps), 0 if row is None else _bytes(*row[4:6])
    if bounded and size > ROW_BYTES_MAX:
        raise TooLargeError(f"{size} bytes with the versions of its fields, {ROW_BYTES_MAX} allowed")
    was_live = row is not None and row[4] is not None
    same = row is not None and body == row[4] and stored.newest == row[:4]
    if not same or stamps != row[5]:
        batch.write(place, stored.newest, (body, stamps), row[6] if same else lsn, was_live=was_live)
    return size > max(before, MERGED_BYTES_MAX)


def has_long_history(batch: Batch, collection: str, key: str) -> bool:
    """Whether the versions of a document's fields take more than HISTORY_BYTES_MAX."""
    batch.flush()
    row = batch.connection.execute(_HISTORY, (collection, key)).fetchone()
    return row is not None and row[0] > HISTORY_BYTES_MAX


def _bytes(body: str | None, stamps: bytes | None) -> int:
    return (0 if body is None else len(body.encode())) + (0 if stamps is None else len(stamps))
