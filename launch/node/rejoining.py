"""``rejoin``: a node that was retired comes back as a new writer."""

from __future__ import annotations

import os
import time
from pathlib import Path

from entgldb.launch.node.files import locked
from entgldb.messages.errors import NoNodeError
from entgldb.messages.model import Origin
from entgldb.storage.file.open import FILE
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.store import Store


def rejoin(directory: Path, node_id: str) -> Origin:
    """Mint a new incarnation in a directory that no node runs in; the new origin.

    Raises EntglError in-use while a node runs here, NoNodeError where none has run yet.
    """
    with locked(directory):
        if not (directory / FILE).exists():
            raise NoNodeError(f"no node has run in {directory} yet", hint=f"entgldb start -d {directory}")
        now_ms = time.time_ns() // 1_000_000
        store = Store.open(directory, node_id, now_ms)
        try:
            with store.group():
                return store.incarnations.reincarnate(os.urandom(32), Why.REJOINED, now_ms)
        finally:
            store.close()
