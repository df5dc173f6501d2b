"""A database that was prepared in a folder of its own, with which its node goes on as a new writer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from entgldb.storage.rules.incarnations import Why
from entgldb.storage.store import Store


@contextmanager
def begun_anew(part: Path, node_id: str, why: Why, now_ms: int) -> Iterator[Store]:
    """The store in ``part``, closed in the end; its next start is not to ask where it comes from."""
    store = Store.open(part, node_id, now_ms)
    try:
        store.begin_anew(b"", why, now_ms)
        store.connection.execute("DELETE FROM _entgldb_meta WHERE name = 'mark'")
        yield store
    finally:
        store.close()
