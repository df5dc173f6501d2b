"""One whole node: six behaviours, a real SQLite database in memory, a clock, and lives that end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from entgldb.actors.behaviour import Asker, Behaviour
from entgldb.actors.election.behaviour import Bully
from entgldb.actors.gateway.behaviour import Gateway
from entgldb.actors.node.behaviour import NodeKeeper
from entgldb.actors.oplog.behaviour import OplogKeeper
from entgldb.actors.store.behaviour import StoreKeeper
from entgldb.actors.sync.behaviour import Sync
from entgldb.actors.tls.witness import CaWitness
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.messages.local.actors import Boot, Configure
from entgldb.messages.model import REMOTE_PEERS
from entgldb.messages.schema import Json, Message
from entgldb.messages.settings import (
    ElectionSettings,
    GatewaySettings,
    NodeSettings,
    OplogSettings,
    StoreSettings,
    SyncSettings,
)
from entgldb.storage.file.state import State
from entgldb.storage.log.apply import Applier
from entgldb.storage.log.read import LogReader
from entgldb.storage.repair.copies import Fingerprints
from entgldb.storage.rules.header import Header
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.store import Store
from tests.simulation.watch.feed import Follower
from tests.simulation.world.edges import (
    Authority,
    VirtualChecker,
    VirtualDisk,
    VirtualProber,
    VirtualSecrets,
    VirtualTokens,
)
from tests.simulation.world.host import CrashNow, Host, Slot
from tests.simulation.world.network import Network, VirtualLinks
from tests.simulation.world.shelf import SnapshotDisk, VirtualShelf
from tests.simulation.world.world import Clock, World
from tests.support.keys import attests, ca, cluster

WORDS = {cluster(word): word for word in ("simulated cluster", "another simulated cluster")}
"""The clusters that nodes of a simulation belong to, by name."""
CLUSTER = cluster("simulated cluster")


UNFIT = '"unfit":'


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

    @contextmanager
    def group(self) -> Iterator[None]:
        with super().group():
            before = self._foreign() if self.fails_next else {}
            yield
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


class Launcher:
    """The asker that boots a node; only a later word of it is a configuration read again."""

    def answer(self, message: Message) -> None:
        pass


class SimulatedNode:
    """A node with its disk; ``host`` is its present life, if any."""

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
        self.name = name
        self.role = role
        self.address = address
        self.clock = clock
        self.up = False
        self.life = 0
        self.counts: Counter[str] = Counter()
        """The counts of the behaviours of ended lives."""
        self.host: Host | None = None
        self.seeds: tuple[str, ...] = ()
        self.live_push = True
        self.picky = False
        """Whether its release cannot merge some documents."""
        self.verify_interval = 0.0
        self.cluster = "" if role == "cloud" else CLUSTER
        self.shared = False
        """A cloud node that serves any cluster."""
        self.initial_peers: tuple[dict[str, Json], ...] = ()
        self.retention_hours = 24.0
        self.absence_hours = 720.0
        self._world = world
        self._network = network
        self._authority = authority
        self._on_commit = on_commit
        self._opened = False
        self.snapshots = SnapshotDisk()
        self._reborn = False
        self._looked: tuple[Store | None, int] = (None, 0)
        """The store in its present life, and how many rows it had written, at the last look."""
        self.followers = [Follower(name, collection, world) for collection in (None, REMOTE_PEERS)]
        self.disk = VirtualDisk()
        self.short_until = 0.0
        """Until then it may say that its disk is full, although there is room again: it looks every 2 s."""
        self.store = TornStore.memory(name, world.random.randbytes(32), clock.now_ms(), self._attest)
        self.log = LogReader(self.store.connection)
        network.add(self)

    @property
    def origin(self) -> str:
        return self.store.origin

    def _attest(self, node_id: str, public_key: bytes) -> bytes:
        """A cloud node has no cluster key."""
        return attests(WORDS[self.cluster])(node_id, public_key) if self.cluster else b""

    def start(self) -> None:
        """Begin a life."""
        if self.up:
            return
        self.life += 1
        self.up = True
        self.host = Host(
            self.name,
            self._world,
            self.clock,
            self._build,
            on_flush=self._flushed,
            on_end=self._ended,
            on_crash=self.crash,
        )
        settings = self._settings()
        self.host.boot(NodeKeeper(settings))
        self.host.inject("node", Boot(settings), Launcher())

    def forget_after(self, hours: float, absence_hours: float = 720.0) -> None:
        """Another retention, taken over while the node runs."""
        self.retention_hours, self.absence_hours = hours, absence_hours
        if self.host is not None:
            self.host.inject("node", Boot(self._settings()), Launcher())

    def crash(self, *, noticed: bool = True) -> None:
        """Lose everything that is not on disk; ``noticed``: the peers' links break at once."""
        if not self.up or self.host is None:
            return
        self._world.note(f"{self.name} crashes")
        self._network.lose_node(self, None, noticed=noticed)
        self.up = False
        self.host.end()
        self.host = None
        if self.store.connection.in_transaction:
            self.store.connection.execute("ROLLBACK")
        # the turn that died may have committed
        self._look_at_store()
        self.snapshots.crash()

    def image(self) -> bytes:
        """A copy of the disk, as far as it is committed."""
        store = self.store.connection
        if not store.in_transaction:
            return store.serialize()
        raise AssertionError("a copy inside a transaction")

    def roll_back(self, image: bytes, *, told: bool) -> None:
        """The disk becomes an older copy of itself; ``told``: a fingerprint beside it stayed as it was."""
        self.store.connection.deserialize(image)
        self.log = LogReader(self.store.connection)
        self._reborn = self._reborn or told

    def deliver(self, actor: str, message: Message) -> bool:
        """Hand a wire's message to an actor; False when it is not there."""
        return self.up and self.host is not None and self.host.inject(actor, message)

    def ask(self, actor: str, message: Message, asker: Asker) -> bool:
        """Hand a client's message to an actor."""
        return self.up and self.host is not None and self.host.inject(actor, message, asker)

    def all_counts(self) -> Counter[str]:
        """Reason -> times, over all lives."""
        total = Counter(self.counts)
        for slot in self.host.slots.values() if self.host is not None else ():
            if slot.behaviour is not None:
                total.update(slot.behaviour.counts)
        return total

    def _flushed(self, actor: str) -> None:
        if actor == "store":
            self._look_at_store()
        elif actor in ("sync", "gateway") and self.host is not None:
            owner = self.host.behaviour(actor)
            if isinstance(owner, Sync | Gateway) and any(
                len(session.inbox.stage) for session in owner.sessions
            ):
                self._world.reached["group across batches"] += 1

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
            self._world.violate(f"{self.name}: memory and file differ in {differing}")

    def _ended(self, slot: Slot) -> None:
        self._network.lose_node(self, slot.name, noticed=True)
        if slot.behaviour is not None:
            self.counts.update(slot.behaviour.counts)

    def _deliver_in(self, life: int, actor: str, message: Message) -> bool:
        """An answer to an earlier life goes nowhere."""
        return life == self.life and self.deliver(actor, message)

    def _build(self, name: str, configure: Configure) -> Behaviour:
        """Build one behaviour as ``actors.build`` does in production, with virtual edges."""
        deliver = partial(self._deliver_in, self.life)
        links = VirtualLinks(self._network, self, name)
        secrets = VirtualSecrets()
        witness = (
            CaWitness.of(ca(WORDS[self.cluster]).public_key)
            if self.cluster
            else CaWitness(self.log.authorities)
        )
        if configure.store is not None:
            if self._opened:
                self.store = TornStore.reopen(self.store, self.clock.now_ms())
            self.store.incarnations.attest()
            self._opened = True
            self.store.picky = self.picky
            if self._reborn:
                self._reborn = False
                entropy = self._world.random.randbytes(32)
                self.store.begin_anew(entropy, Why.ROLLED_BACK, self.clock.now_ms())
                self._world.reached["new incarnation at the start"] += 1
            return StoreKeeper(configure.store, self.store, secrets, self.disk)
        if configure.oplog is not None:
            shelf = VirtualShelf(
                self.snapshots, self.store.connection, self._world, deliver, lambda: self.store.full
            )
            return OplogKeeper(
                configure.oplog, self.log, Fingerprints(self.store.connection), shelf, self.disk
            )
        if configure.election is not None:
            return Bully(configure.election)
        if configure.sync is not None:
            checker = VirtualChecker(self._world, self._authority, self.clock.now_ms, deliver)
            checks = checker if self.role == "cloud" else None
            return Sync(configure.sync, self.log, witness, links, checks, self.snapshots)
        assert configure.gateway is not None
        tokens = VirtualTokens(self._authority, deliver)
        prober = VirtualProber(self._authority, deliver, partial(self._network.reaches, self))
        own = ca(WORDS[self.cluster]) if self.cluster else None
        return Gateway(
            configure.gateway, self.log, witness, links, tokens, secrets, prober, self.snapshots, own
        )

    def _settings(self) -> NodeSettings:
        name, role = self.name, self.role
        cluster = self.cluster
        return NodeSettings(
            StoreSettings(name, "", role, cluster),
            OplogSettings(
                name,
                "",
                role=role,
                retention_hours=self.retention_hours,
                absence_limit=self.absence_hours,
                verify_interval=self.verify_interval,
                shared=self.shared,
            ),
            SyncSettings(
                name,
                "",
                role,
                cluster,
                self.address,
                seeds=self.seeds,
                discovery=False,
                live_push=self.live_push,
                shared=self.shared,
            ),
            ElectionSettings(name, role, takeover_delay=4.0),
            GatewaySettings(name, "", role, cluster, live_push=self.live_push),
            self.initial_peers,
        )
