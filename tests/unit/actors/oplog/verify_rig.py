"""Two nodes that verify: real stores in memory, the verifiers between them, messages carried by hand."""

from __future__ import annotations

from collections import Counter
from random import Random

from entgldb.actors.oplog.verifier import Verifier
from entgldb.actors.store.mending import mend
from entgldb.messages.client import RequestId, Write
from entgldb.messages.codec import decode
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import Tick
from entgldb.messages.local.verification import Repair, VerifyHeard, VerifyPeer, VerifySay
from entgldb.messages.model import Entry
from entgldb.messages.schema import Channel, Message
from entgldb.messages.wire import Copies, CopyPiece
from entgldb.storage.repair.copies import Fingerprints
from entgldb.storage.store import Store
from tests.support.fake_context import FakeContext

NOW = 1_790_000_000_000


class Side:
    """One node: its store and its verifier."""

    def __init__(self, name: str, *, cloud: bool = False) -> None:
        self.name = name
        self.cloud = cloud
        self.store = Store.memory(name, name.encode(), NOW)
        self.counts: Counter[str] = Counter()
        self.ctx = FakeContext()
        self.verifier = Verifier(self.store, Fingerprints(self.store.connection), self.count)
        self.sent: list[bytes] = []
        self._requests = 0

    def count(self, reason: Reason, times: int = 1) -> None:
        self.counts[reason.value] += times

    def meet(self, other: Side) -> None:
        self.verifier.on_verify_peer(VerifyPeer("sync", "sync:1", other.name, self.cloud, True), self.ctx)

    def write(self, *writes: Write, system: bool = False) -> list[Entry]:
        self._requests += 1
        first = self.store.last_lsn() + 1
        with self.store.group():
            self.store.write(RequestId(b"c" * 16, self._requests), writes, NOW, system=system)
        found, page = [], self.store.rows(first, 500)
        while page:
            found += [Entry(row.header, row.body) for row in page]
            page = self.store.rows(page[-1].lsn + 1, 500)
        return found

    def take(self, entries: list[Entry]) -> None:
        with self.store.group():
            assert not self.store.apply(entries, NOW).refused

    def sql(self, statement: str, *values: object) -> None:
        """Behind the store's back."""
        self.store.connection.execute(statement, values)

    def body(self, key: str) -> bytes | None:
        return self.store.get("users", key)

    def row(self) -> dict[str, object]:
        """The last run with the only peer."""
        return self.verifier.status()["peers"][0]  # type: ignore[no-any-return]  # JSON


class Pair:
    """Carries what both say until nobody has anything to say or to wait for."""

    def __init__(self, *, cloud: bool = False) -> None:
        self.one, self.two = Side("lan-1", cloud=cloud), Side("lan-2", cloud=cloud)
        self.one.meet(self.two)
        self.two.meet(self.one)
        self.bytes = 0
        self.shown = 0
        """Rows, and pieces of rows."""
        self.writing: Writing | None = None

    def write_both(self, *writes: Write) -> None:
        self.two.take(self.one.write(*writes))

    def run(self, *, repair: bool = True, fresh: bool = True, seconds: float = 60.0) -> dict[str, object]:
        self.one.verifier.begin("", self.one.ctx, fresh=fresh, repair=repair)
        self.carry(seconds)
        return self.one.row()

    def carry(self, seconds: float = 60.0) -> None:
        end = self.one.ctx.monotonic() + seconds
        while self._turn(self.one, self.two) | self._turn(self.two, self.one) or self._sleep(end):
            pass

    def _sleep(self, end: float) -> bool:
        due = [at for side in (self.one, self.two) if (at := side.ctx.next_timer()) is not None and at <= end]
        for side in (self.one, self.two):
            if due:
                side.ctx.behaviour = _Ticker(side)  # type: ignore[assignment]  # all it needs is handle and flush
                side.ctx.run(min(due) - side.ctx.monotonic())
        if self.writing is not None:
            self.writing.go_on(self.one.ctx.monotonic())
        return bool(due)

    def _turn(self, side: Side, other: Side) -> bool:
        told, side.ctx.told = side.ctx.told, []
        for actor, message in told:
            if isinstance(message, VerifySay):
                self.bytes += len(message.payload)
                frame = decode(message.payload, Channel.PEER).message
                self.shown += len(frame.copies) if isinstance(frame, Copies) else isinstance(frame, CopyPiece)
                other.verifier.on_verify_heard(VerifyHeard("sync:1", message.payload), other.ctx)
            elif isinstance(message, Repair):
                mend(side.store, message, side.count, side.ctx)
            else:
                assert actor == "oplog"
                side.verifier.on_repaired(message, side.ctx)  # type: ignore[arg-type]  # Repaired alone is left
        return bool(told)


class Writing:
    """Each second both write documents, which the other has a second later."""

    def __init__(self, pair: Pair, collection: str, keys: list[str]) -> None:
        self._sides = ((pair.one, pair.two), (pair.two, pair.one))
        self._collection, self._keys = collection, keys
        self._coming: list[tuple[Side, list[Entry]]] = []
        self._seconds = int(pair.one.ctx.monotonic())
        self._random = Random(1)

    def go_on(self, now: float) -> None:
        """What happens until ``now``."""
        while self._seconds < int(now):
            self._seconds += 1
            coming, self._coming = self._coming, []
            for side, entries in coming:
                side.take(entries)
            body = b'{"n":%d}' % self._seconds
            for writer, other in self._sides:
                keys = self._random.sample(self._keys, 10)
                self._coming.append((other, writer.write(*(Write(self._collection, k, body) for k in keys))))


class _Ticker:
    """Hands the timers of a context to the verifier."""

    def __init__(self, side: Side) -> None:
        self._side = side

    def handle(self, message: Message, ctx: FakeContext) -> None:
        assert isinstance(message, Tick)
        self._side.verifier.tick(message, ctx)

    def flush(self, ctx: FakeContext) -> None:
        pass
