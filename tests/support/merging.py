"""A staged snapshot merged, all steps at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from hashlib import sha256

from entgldb.storage.indexes import catalogue
from entgldb.storage.indexes.checking import faults
from entgldb.storage.indexes.tables import words
from entgldb.storage.rules.results import Installed
from entgldb.storage.store import Store

NEXT = tuple(f"_entgldb_next_{name}" for name in ("mark", "touched", "documents", "conflicts"))
"""Tables on PostgreSQL that are empty but for a merge."""


def install_whole(
    store: Store,
    staged: str,
    entropy: bytes,
    now_ms: int,
    *,
    cloud: bool,
    peer: str = "",
    ends: bool = True,
    between: Callable[[], None] = lambda: None,
) -> Installed:
    """Take every step, and those that remove what the merge leaves; ``between`` is called after each but the
    last."""
    while True:
        # none is drawn twice
        entropy = sha256(entropy).digest()
        done = store.install_step(staged, entropy, now_ms, cloud=cloud, peer=peer, ends=ends)
        if done is not None:
            break
        between()
    while store.tidy_merge():
        pass
    return done


def left_by_a_merge(store: Store) -> list[str]:
    """Names in the schema that a merge has made, or put out of use, and not removed."""
    if not isinstance(store.connection, sqlite3.Connection):
        return [name for name in NEXT if store.connection.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone()]
    known = {words(one.number) for one in catalogue.list_indexes(store.connection)}
    names = store.connection.execute(
        "SELECT name FROM sqlite_master WHERE substr(name, 1, 14) = '_entgldb_next_' OR"
        " name LIKE '_entgldb_text_%'"
    )
    return [name for (name,) in names if not name.startswith(tuple(known))]


def wrong_in_indexes(store: Store) -> list[str]:
    """All that the checks of indexes find; an index that is not built is wrong, too."""
    known = catalogue.list_indexes(store.connection)
    found = [f"{one.definition.name} is not built" for one in known if one.reached is not None]
    for one in known:
        found += faults(store.connection, one, lambda walked: None, still=True)
    return found
