"""A file made as small as it can be, all steps at once."""

from __future__ import annotations

from entgldb.storage.store import Store


def compacted(store: Store) -> tuple[int, int]:
    """Take every step; the bytes of the file before and after."""
    before, after, more = store.compact_step()
    while more:
        _, after, more = store.compact_step()
    return before, after
