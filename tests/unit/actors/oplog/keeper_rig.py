"""An OplogKeeper around what a test cares for; all else is empty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from entgldb.actors.oplog.behaviour import OplogKeeper
from entgldb.actors.ports import Disk, LogReader, SnapshotShelf, StagedSnapshot
from entgldb.messages.model import Place, Vector
from entgldb.messages.settings import OplogSettings
from entgldb.messages.wire import Copy
from entgldb.storage.rules.results import Walked
from entgldb.storage.store import Store

SETTINGS = OplogSettings("n", "/nowhere")


class NoDocuments:
    """``ports.Fingerprints`` of an empty node."""

    def walk(self, after: int) -> Sequence[Walked]:
        return ()

    def copies(self, places: Iterable[Place]) -> Iterator[Copy]:
        return iter(())

    def waiting(self) -> list[Place]:
        return []

    def coming(self, theirs: Vector) -> set[Place]:
        return set()


class NoShelf:
    """``ports.SnapshotShelf`` where no snapshot is to come or go."""

    def freeze(self) -> None:
        raise AssertionError("no snapshot is wanted")

    def discard(self, snapshot_id: str) -> None:
        raise AssertionError("no snapshot is there")

    def stage(self, snapshot_id: str) -> StagedSnapshot:
        raise AssertionError("no snapshot comes in")

    def unstage(self) -> None:
        """Nothing is."""


class SomeDisk:
    """``ports.Disk`` of which nothing is known."""

    def free_bytes(self) -> int | None:
        return None


def oplog(
    settings: OplogSettings = SETTINGS,
    *,
    log: LogReader | None = None,
    shelf: SnapshotShelf | None = None,
    disk: Disk | None = None,
) -> OplogKeeper:
    return OplogKeeper(
        settings,
        log or Store.memory("n", b"n", 0),
        NoDocuments(),
        shelf or NoShelf(),
        disk or SomeDisk(),
    )
