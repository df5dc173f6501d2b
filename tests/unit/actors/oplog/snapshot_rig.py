"""The taking side of a snapshot without a disk: oplog, the taking half of some sessions, their shelf."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256

from entgldb.actors.session.snapshot_taking import Ends, SnapshotTaking
from entgldb.messages import wire
from entgldb.messages.errors import EntglError, Reason
from entgldb.messages.limits import SNAPSHOT_BYTES_MAX
from entgldb.messages.local.snapshots import InstallSnapshot, SnapshotInstalled, SnapshotStaged
from entgldb.messages.schema import Message
from tests.support.fake_context import FakeContext
from tests.unit.actors.oplog.keeper_rig import oplog
from tests.unit.actors.session.list_log import ListLog

VECTOR = {"x/" + "1" * 32: (9, b"h")}


class Staged:
    """``ports.StagedSnapshot``: takes what comes, or raises."""

    def __init__(self) -> None:
        self.next = 0
        self.fault: EntglError | None = None
        self.dropped = False

    def add_chunk(self, number: int, payload: bytes, digest: bytes) -> None:
        if self.fault is not None:
            raise self.fault
        self.next = number + 1

    def finish(self, snapshot_id: str, *, whole: bool) -> str:
        return f"file:{snapshot_id}"

    def close(self) -> None:
        """It stays."""

    def drop(self) -> None:
        self.dropped = True


class Shelf:
    """``ports.SnapshotShelf`` for what comes in: keeps what was staged, as files do."""

    def __init__(self) -> None:
        self.staged: dict[str, Staged] = {}

    def freeze(self) -> None:
        raise AssertionError("nothing is given")

    def discard(self, snapshot_id: str) -> None:
        raise AssertionError("nothing is given")

    def stage(self, snapshot_id: str) -> Staged:
        found = self.staged.get(snapshot_id)
        if found is None or found.dropped:
            found = self.staged[snapshot_id] = Staged()
        return found

    def unstage(self) -> None:
        self.staged.clear()


class Disk:
    """``ports.Disk`` with as much room as a test says."""

    def __init__(self) -> None:
        self.free: int | None = None

    def free_bytes(self) -> int | None:
        return self.free


class Receiver:
    """Oplog, and the taking half of some sessions; ``settle`` hands over what they say to each other."""

    def __init__(self, *sessions: str, log: ListLog | None = None, cloud: bool = False) -> None:
        self.cloud = cloud
        self.ctx, self.shelf, self.disk = FakeContext(), Shelf(), Disk()
        self.log = log or ListLog()
        self.counts: Counter[Reason] = Counter()
        self.sent: dict[str, list[Message]] = {name: [] for name in sessions}
        self.merges: list[InstallSnapshot] = []
        self.started_anew()
        self.takers = {name: self._taker(name) for name in sessions}

    def started_anew(self) -> None:
        """Oplog begins a life; what is staged is on disk."""
        self.oplog = oplog(log=self.log, shelf=self.shelf, disk=self.disk)
        self.ctx.behaviour = self.oplog

    def _taker(self, name: str) -> SnapshotTaking:
        def send(message: Message) -> bool:
            self.sent[name].append(message)
            return True

        ends = Ends(f"sync:{name}", "sync", name, self.cloud)
        return SnapshotTaking(ends, self.log, send, lambda reason: self.counts.update([reason]))

    def settle(self) -> None:
        """Deliver messages until none is left."""
        while told := self.ctx.told:
            self.ctx.told = []
            for actor, message in told:
                if isinstance(message, InstallSnapshot):
                    self.merges.append(message)
                elif isinstance(message, SnapshotStaged):
                    self.takers[message.session.removeprefix("sync:")].staged(message, self.ctx)
                elif actor == "oplog":
                    self.oplog.handle(message, self.ctx)

    def offer(self, name: str, snapshot_id: str, chunks: int = 5, size: int = SNAPSHOT_BYTES_MAX) -> None:
        self.takers[name].offered(wire.SnapshotOffer(snapshot_id, VECTOR, chunks, 1, size), self.ctx)
        self.settle()

    def give(self, name: str, *, damaged: bool = False, size: int = 0) -> None:
        """Answer the oldest question for a chunk, once if it was asked again."""
        want = next(one for one in self.sent[name] if isinstance(one, wire.SnapshotWant))
        self.sent[name] = [one for one in self.sent[name] if one != want]
        payload = b"chunk %d" % want.chunk + bytes(size)
        chunk = wire.SnapshotChunk(want.id, want.chunk, payload, sha256(payload).digest())
        if damaged:
            chunk = wire.SnapshotChunk(want.id, want.chunk, payload + b"?", chunk.sha256)
        self.takers[name].came(chunk, self.ctx)
        self.settle()

    def give_all(self, name: str, chunks: int) -> None:
        for _ in range(chunks):
            self.give(name)

    def wanted(self, name: str) -> list[int]:
        """Chunks asked for and not given."""
        return [one.chunk for one in self.sent[name] if isinstance(one, wire.SnapshotWant)]

    def wait(self, seconds: float) -> None:
        """Heartbeats, one a second."""
        for _ in range(int(seconds)):
            self.ctx.run(1.0)
            for taker in self.takers.values():
                taker.beat(self.ctx)
            self.settle()

    def merged(self, refused: str = "") -> list[bool]:
        """The store is through with the last merge that was ordered."""
        last = self.merges[-1]
        done = SnapshotInstalled(last.session, last.id, {} if refused else VECTOR, refused)
        self.oplog.handle(done, self.ctx)
        return [taker.installed(done) for taker in self.takers.values()]
