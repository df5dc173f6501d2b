"""Sync, oplog and store of a node on real TLS, real SQLite and the real clock, without their processes."""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

from entgldb.actors.behaviour import Behaviour
from entgldb.actors.host.timers import Timers
from entgldb.actors.side_loop import SideLoop
from entgldb.actors.store.behaviour import StoreKeeper
from entgldb.actors.sync.behaviour import Sync
from entgldb.actors.tls.attestation import CaOfCluster
from entgldb.actors.tls.identity import LanIdentity
from entgldb.actors.tls.links import TlsLinks
from entgldb.actors.tls.witness import CaWitness
from entgldb.messages import client
from entgldb.messages.schema import Message
from entgldb.messages.secret import Secret
from entgldb.messages.settings import OplogSettings, StoreSettings, SyncSettings
from entgldb.storage.log.read import LogReader
from entgldb.storage.store import Store
from tests.support.fake_context import FakeAsker, FakeContext
from tests.support.no_snapshots import NoSnapshots
from tests.unit.actors.oplog.keeper_rig import oplog as oplog_of
from tests.unit.actors.store.test_store_keeper import FakeSecrets

KEY = Secret(bytes(range(32)))


class LiveContext(FakeContext):
    """The context of one actor. A message to an actor that is not here goes nowhere."""

    def __init__(self, node: LiveNode, seed: int) -> None:
        super().__init__()
        self.random = Random(seed)
        self.timers: Timers[Message] = Timers()
        self._node = node

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def tell(self, actor: str, message: Message) -> None:
        self._node.inbox.append((actor, message))

    def after(self, seconds: float, message: Message) -> None:
        self.timers.add(self.monotonic() + seconds, message)


class LiveNode:
    """``turn`` does what the hosts of the three actors would do now."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        seeds: tuple[str, ...] = (),
        listens: bool = True,
        interval: float = 0.1,
    ) -> None:
        """``interval``: seconds between two heartbeats; every other one brings the vector."""
        folder.mkdir()
        (folder / "cluster.key").write_bytes(KEY.reveal())
        listen = "127.0.0.1:0" if listens else ""
        self.name = name
        self.loop = SideLoop(name)
        identity = LanIdentity.load(folder, folder / "cluster.key", name, None)
        self.links = TlsLinks(self.loop, lan=identity, listen=listen)
        ca = CaOfCluster.of(KEY)
        self.store = Store.memory(name, name.encode(), time.time_ns() // 1_000_000, ca.attest)
        log = LogReader(self.store.connection)
        settings = SyncSettings(
            name,
            "",
            "lan",
            "c",
            listen,
            seeds,
            False,
            sync_interval=2 * interval,
            heartbeat_interval=interval,
        )
        self.sync = Sync(settings, log, CaWitness.of(ca.public_key), self.links, None, NoSnapshots())
        oplog = oplog_of(OplogSettings(name, ""), log=log)
        keeper = StoreKeeper(StoreSettings(name, "", "lan", "c"), self.store, FakeSecrets())
        self.inbox: deque[tuple[str, Message]] = deque()
        self._actors: dict[str, tuple[Behaviour, LiveContext]] = {
            actor.name: (actor, LiveContext(self, seed))
            for seed, actor in enumerate((self.sync, oplog, keeper))
        }
        self._writes = 0
        self.loop.start()
        for actor, ctx in self._actors.values():
            actor.start(ctx)

    @property
    def connected(self) -> bool:
        return bool(self.sync._peers)

    def turn(self) -> None:
        """Handle all that has arrived and all timers that are due."""
        self.inbox.extend(("sync", message) for _, message in self.loop.drain())
        for name, (_, ctx) in self._actors.items():
            self.inbox.extend((name, due) for due in ctx.timers.pop_due(time.monotonic()))
        while self.inbox:
            for _ in range(len(self.inbox)):
                name, message = self.inbox.popleft()
                if name in self._actors:
                    actor, ctx = self._actors[name]
                    actor.handle(message, ctx)
            for actor, ctx in self._actors.values():
                actor.flush(ctx)

    def due_in(self) -> float:
        """Seconds until the next timer."""
        first = min(ctx.timers.next() for _, ctx in self._actors.values())
        return max(0.0, first - time.monotonic())

    def put(self, *bodies: bytes) -> None:
        """One commit for each, acknowledged."""
        keeper, ctx = self._actors["store"]
        for body in bodies:
            self._writes += 1
            asker = ctx.asker = FakeAsker()
            write = client.Write("notes", f"{self.name}-{self._writes}", body)
            keeper.handle(client.Commit(client.RequestId(bytes(16), self._writes), (write,)), ctx)
            ctx.asker = None
            keeper.flush(ctx)
            assert isinstance(asker.answers[0], client.CommitDone), asker.answers

    def contents(self) -> tuple[object, ...]:
        """Equal on two nodes that hold the same history and documents; each entry counts once."""
        return self.store.vector(), self.store.status()["oplog_entries"], self.store.documents("notes")

    def reasons(self) -> int:
        """How many drops, delays and refusals of links ``status`` shows."""
        own = {"relay-delay", "window-full", "duplicate", "out-of-order", "gap"}
        return sum(times for reason, times in self.sync.counts.items() if reason not in own)

    def stop(self) -> None:
        self.loop.stop()
        self.store.close()


def until(nodes: Iterable[LiveNode], done: Callable[[], object], seconds: float = 15.0) -> float:
    """Let the nodes run until ``done``; the seconds it took."""
    nodes = list(nodes)
    begun = time.monotonic()
    while not done():
        told = [(node.name, node.connected, dict(node.sync.counts), node.store.status()) for node in nodes]
        assert time.monotonic() < begun + seconds, told
        select.select([node.loop for node in nodes], [], [], min(0.05, *(node.due_in() for node in nodes)))
        for node in nodes:
            node.turn()
    return time.monotonic() - begun


def equal(one: LiveNode, other: LiveNode) -> bool:
    return one.contents() == other.contents()
