"""A staged snapshot merged, all steps at once."""

from __future__ import annotations

from collections.abc import Callable

from entgldb.storage.rules.results import Installed
from entgldb.storage.store import Store


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
        done = store.install_step(staged, entropy, now_ms, cloud=cloud, peer=peer, ends=ends)
        if done is not None:
            break
        between()
    while store.tidy_merge():
        pass
    return done


def left_by_a_merge(store: Store) -> list[str]:
    """Names in the schema that a merge has made, and not removed."""
    names = store.connection.execute(
        "SELECT name FROM sqlite_master WHERE substr(name, 1, 14) = '_entgldb_next_'"
    )
    return [name for (name,) in names]
