"""Mistakes about time: what ages by a wall clock, and what a node believes of the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from entgldb.actors.oplog.retention import Retention
from entgldb.storage.file.state import State
from entgldb.storage.log import members
from entgldb.storage.log.transaction import Age


@contextmanager
def age_by_the_wall_clock() -> Iterator[None]:
    """Data that is kept for a time is as old as the wall clock says."""

    def live(self: Age, seconds: float, shown_ms: int, believed_ms: int) -> None:
        self._lived_ms = self._shown_ms = max(self._lived_ms, shown_ms)
        self._believed_ms = believed_ms

    with (
        patch.object(Age, "live", live),
        patch.object(Retention, "_lived_ms", lambda self, ctx: ctx.now_ms()),
    ):
        yield


@contextmanager
def own_clock_alone() -> Iterator[None]:
    """An entry stamped ahead of a node's own wall clock is held, whatever most clocks have shown."""
    with patch.object(members, "known_ms", lambda connection, state, now_ms: now_ms):
        yield


@contextmanager
def end_forgotten() -> Iterator[None]:
    """A node that holds entries behind the end of a log keeps them."""
    with patch.object(State, "end", lambda self, connection, origin, seq: None):
        yield
