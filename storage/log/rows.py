"""Rows of documents that merge: read, merged with one operation, written back."""

from __future__ import annotations

import json
from typing import Any, Final

from entgldb.messages.errors import TooLargeError
from entgldb.messages.limits import HISTORY_BYTES_MAX, MERGED_BYTES_MAX, ROW_BYTES_MAX
from entgldb.storage.log.append import Batch
from entgldb.storage.rules.clock import HLC_MAX
from entgldb.storage.rules.header import MERGE, PUT, Header
from entgldb.storage.rules.merging.changes import Change, as_read, difference, fresh, plant, whole
from entgldb.storage.rules.merging.row import (
    Merging,
    Operation,
    absorb,
    operation,
    put_operation,
    read_merging,
)
from entgldb.storage.rules.merging.stored import Stored, Tip, load, save
from entgldb.storage.rules.merging.tree import join, render, settle

_ROW: Final = (
    "SELECT o.name, d.seq, d.hlc, d.body, d.stamps, d.lsn FROM _entgldb_documents d"
    " JOIN _entgldb_origins o ON o.id = d.origin WHERE d.collection = ? AND d.key = ? AND d.hlc > 0"
)

_HISTORY: Final = "SELECT ifnull(length(stamps), 0) FROM _entgldb_documents WHERE collection = ? AND key = ?"


def read_row(batch: Batch, collection: str, key: str) -> Stored | None:
    """The row of a key, or None."""
    batch.flush()
    row = batch.connection.execute(_ROW, (collection, key)).fetchone()
    return None if row is None else load(Tip(*row[:3]), row[3], row[4])


def read_operation(header: Header, text: str | None) -> Operation:
    """An entry as the merge sees it; its text was checked."""
    tip = Tip(header.origin, header.seq, header.hlc)
    if header.op == MERGE:
        return operation(tip, header.named, read_merging(text or "", tip.stamp))
    return put_operation(tip, header.named, None if text is None else json.loads(text))


def composed(
    row: Stored | None,
    document: dict[str, Any] | None,
    *,
    fields: bool,
    collected_hlc: int = 0,
    read: dict[str, Any] | None = None,
) -> Merging:
    """The merge that writes ``document`` (None: deletes) over ``row``.

    ``fields``: only what differs; otherwise the document is written whole. ``collected_hlc``: where no row
    is, a tombstone as new as this may have been collected, and stand elsewhere with the fields it deleted.
    ``read``: what the writer had read and changed, which need not be what stands here now.
    """
    if not fields:
        return Merging(whole(document or {}), document is None)
    if document is None:
        return Merging({}, True)
    if row is not None and row.live and read is not None:
        return Merging(difference(read, document, as_read(read, row.tree)))
    if row is None:
        over = (collected_hlc, "~") if collected_hlc else None
        return Merging(fresh(document), over=over)
    if not row.live:
        return Merging(fresh(document), over=row.newest.stamp)
    return Merging(difference(row.document(), document, row.tree))


def with_change(row: Stored, change: Change) -> dict[str, Any]:
    """The document that a row would show after a change that is later than all that the row has."""
    return render(settle(join(row.tree, plant(change, (HLC_MAX, "~")))))


def merge_row(batch: Batch, header: Header, text: str | None, lsn: int, *, absent: bool = False) -> bool:
    """Merge one logged entry into its row, and keep and clear conflicts; whether it made a row too large.

    That is one beyond MERGED_BYTES_MAX, and larger than it was. Raises TooLargeError beyond ROW_BYTES_MAX.

    ``absent``: a version it names is not here, so that nobody can tell a concurrent write from a
    successor, and no conflict is kept.
    """
    one = read_operation(header, text)
    before = read_row(batch, header.collection, header.key)
    for version in one.named:
        batch.clear_conflict(version)
    superseded = before is not None and batch.has_successor(header.version)
    after = absorb(before, one, superseded=superseded)
    for tip in after.restored:
        batch.clear_conflict(tip.version)
    for loser in () if absent else after.losers:
        batch.keep_loser(header.collection, header.key, loser)
    return write_row(batch, header, text, after.stored, lsn)


def write_row(batch: Batch, header: Header, text: str | None, stored: Stored, lsn: int) -> bool:
    """Write what became of a row when the entry was merged into it, after ``flush``; as ``merge_row``."""
    row = batch.connection.execute(_ROW, (header.collection, header.key)).fetchone()
    newest = stored.newest
    body, stamps = save(stored)
    # a document that stands as it was put keeps its writer's own text, here as on every node
    if body is not None and stored.is_whole():
        body = row[3] if row is not None and newest == row[:3] else text if header.op == PUT else body
    was_live = row is not None and row[3] is not None
    size, before = _bytes(body, stamps), 0 if row is None else _bytes(row[3], row[4])
    if size > ROW_BYTES_MAX:
        raise TooLargeError(f"{size} bytes with the versions of its fields, {ROW_BYTES_MAX} allowed")
    if row is None or body != row[3] or newest != row[:3]:
        batch.write_merged(header, newest, body, stamps, lsn, was_live=was_live)
    elif stamps != row[4]:
        batch.write_merged(header, newest, body, stamps, row[5], was_live=was_live)
    return size > max(before, MERGED_BYTES_MAX)


def has_long_history(batch: Batch, collection: str, key: str) -> bool:
    """Whether the versions of a document's fields take more than HISTORY_BYTES_MAX."""
    batch.flush()
    row = batch.connection.execute(_HISTORY, (collection, key)).fetchone()
    return row is not None and row[0] > HISTORY_BYTES_MAX


def _bytes(body: str | None, stamps: bytes | None) -> int:
    return (0 if body is None else len(body.encode())) + (0 if stamps is None else len(stamps))
