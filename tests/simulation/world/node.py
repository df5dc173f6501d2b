"""The nodes of the simulation: their disks and releases fail, and each commit of theirs is looked at."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest.mock import patch

from entgldb.actors.gateway.behaviour import Gateway
from entgldb.actors.sync.behaviour import Sync
from entgldb.launch.testing import node as testing
from entgldb.launch.testing.edges import Authority
from entgldb.launch.testing.host import CrashNow
from entgldb.launch.testing.network import Network
from entgldb.launch.testing.shelf import VirtualShelf
from entgldb.launch.testing.world import Clock, World
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.messages.model import REMOTE_PEERS
from entgldb.storage.file.state import State
from entgldb.storage.log import prune
from entgldb.storage.log.apply import Applier
from entgldb.storage.rules.header import Header
from entgldb.storage.rules.results import Installed, Lasted
from entgldb.storage.snapshot import steps
from entgldb.storage.store import Store
from tests.simulation.watch import oracle
from tests.simulation.watch.feed import Follower

UNFIT = '"unfit":'
MERGED_AT_ONCE = 5
"""Keys of one step of merging a snapshot."""


class PickyApplier(Applier):
    """Fails in the middle of the merge of some documents."""

    def merge(self, header: Header, text: str | None, lsn: int) -> None:
        super().merge(header, text, lsn)
        if text is not None and UNFIT in text:
            raise ValueError("this release cannot merge it")


class TornStore(Store):
    """The real store, whose power can go right before or right after a COMMIT, and whose disk can be full."""

    trap = ""
    full = False
    fails_next = False
    """Whether the next transaction that takes in foreign entries fails."""
    failed = 0
    """How many have."""

    @property
    def picky(self) -> bool:
        """Whether it is of a release that cannot merge a document which says so."""
        return self.applying.kind is PickyApplier

    @picky.setter
    def picky(self, on: bool) -> None:
        self.applying.kind = PickyApplier if on else Applier

    def _foreign(self) -> dict[str, tuple[int, bytes]]:
        return {origin: mark for origin, mark in self.vector().items() if origin != self.origin}

    def install_step(self, *given: Any, **named: Any) -> Installed | None:
        # few documents are here: all that may come between the steps of a merge shall come
        small = patch.multiple(steps, STEP_ROWS=MERGED_AT_ONCE, AT_ONCE_BYTES=0, LOG_ROWS_LEFT=0)
        with small, patch.object(prune, "STEP_ROWS", MERGED_AT_ONCE):
            return super().install_step(*given, **named)

    @contextmanager
    def group(self, clock: Callable[[], float] | None = None) -> Iterator[Lasted]:
        with super().group(clock) as lasted:
            before = self._foreign() if self.fails_next else {}
            yield lasted
            if self.fails_next and self._foreign() != before:
                self.fails_next = False
                self.failed += 1
                raise EntglError("I/O error", code=ErrorCode.DISK_ERROR)
            if self.full:
                raise EntglError("database or disk is full", code=ErrorCode.DISK_FULL)
            if self.trap == "before":
                raise CrashNow
        if self.trap == "after":
            raise CrashNow


class WatchedShelf(VirtualShelf):
    """A shelf that looks at what a snapshot is made of."""

    def look(self, source: sqlite3.Connection) -> None:
        if oracle.quarantined(source):
            self._world.violate("a snapshot was made beside entries in quarantine")


class SimulatedNode(testing.SimulatedNode):
    """A node that is watched."""

    kind: ClassVar[type[Store]] = TornStore
    shelf: ClassVar[type[VirtualShelf]] = WatchedShelf
    store: TornStore

    def __init__(
        self,
        name: str,
        role: str,
        address: str,
        world: World,
        network: Network,
        authority: Authority,
        clock: Clock,
        on_commit: Callable[[SimulatedNode], None],
    ) -> None:
        self.picky = False
        """Whether its release cannot merge some documents."""
        self.short_until = 0.0
        """Until then it may say that its disk is full, although there is room again: it looks every 2 s."""
        self.followers = [Follower(name, collection, world) for collection in (None, REMOTE_PEERS)]
        self._on_commit = on_commit
        self._looked: tuple[Store | None, int] = (None, 0)
        """The store in its present life, and how many rows it had written, at the last look."""
        super().__init__(name, role, address, world, network, authority, clock)

    def full(self) -> bool:
        return self.store.full

    def store_began(self) -> None:
        self.store.picky = self.picky

    def flushed(self, actor: str) -> None:
        if actor == "store":
            self._look_at_store()
        elif actor in ("sync", "gateway") and self.host is not None:
            owner = self.host.behaviour(actor)
            if isinstance(owner, Sync | Gateway) and any(
                len(session.inbox.stage) for session in owner.sessions
            ):
                self.world.reached["group across batches"] += 1

    def _look_at_store(self) -> None:
        """Check what was committed; a flush that wrote no row since the last look shows nothing new."""
        looked, self._looked = self._looked, (self.store, self.store.connection.total_changes)
        if self._looked == looked and not self.store.connection.in_transaction:
            return
        self._on_commit(self)
        self._compare_memory()
        for follower in self.followers:
            follower.committed(self.store)

    def _compare_memory(self) -> None:
        """The one writer remembers the same state that the next start would read."""
        state = self.store.state
        if self.store.connection.in_transaction:
            return
        found = State.load(self.store.connection)
        # known of the present life alone: a dispute, and entries in quarantine that are pruned by now
        found.disowned = state.disowned
        found.unfit_logged |= state.unfit_logged
        # time goes on without a commit; what is not written of it yet is only lost
        found.lived_ms = max(found.lived_ms, state.lived_ms)
        found.shown_ms = max(found.shown_ms, state.shown_ms)
        if found != state:
            differing = [name for name in State.__slots__ if getattr(found, name) != getattr(state, name)]
            self.world.violate(f"{self.name}: memory and file differ in {differing}")
