"""One whole node: six behaviours, a real SQLite database in memory, a clock, and lives that end."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import ClassVar

from entgldb.actors.behaviour import Asker, Behaviour
from entgldb.actors.cluster_key import ClusterKeys
from entgldb.actors.election.behaviour import Bully
from entgldb.actors.gateway.behaviour import Gateway
from entgldb.actors.node.behaviour import NodeKeeper
from entgldb.actors.oplog.behaviour import OplogKeeper
from entgldb.actors.store.behaviour import StoreKeeper
from entgldb.actors.sync.behaviour import Sync
from entgldb.actors.tls.attestation import CaOfCluster
from entgldb.actors.tls.certificates import ca_keys, name_of
from entgldb.actors.tls.witness import CaWitness
from entgldb.launch.testing.edges import (
    Authority,
    VirtualChecker,
    VirtualDisk,
    VirtualProber,
    VirtualSecrets,
    VirtualTokens,
)
from entgldb.launch.testing.host import Host, Slot
from entgldb.launch.testing.keys import VirtualRing, held_by, keys_of, own_key
from entgldb.launch.testing.network import Network, VirtualLinks
from entgldb.launch.testing.shelf import SnapshotDisk, VirtualShelf
from entgldb.launch.testing.tenants import TenantDisks
from entgldb.launch.testing.world import Clock, World
from entgldb.messages import settings
from entgldb.messages.local.actors import Boot, Configure
from entgldb.messages.schema import Json, Message
from entgldb.storage.log.read import LogReader
from entgldb.storage.repair.copies import Fingerprints
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.store import Store


class Launcher:
    """The asker that boots a node; only a later word of it is a configuration read again."""

    def answer(self, message: Message) -> None:
        pass


class SimulatedNode:
    """A node with its disk; ``host`` is its present life, if any."""

    kind: ClassVar[type[Store]] = Store
    shelf: ClassVar[type[VirtualShelf]] = VirtualShelf

    def __init__(
        self,
        name: str,
        role: str,
        address: str,
        world: World,
        network: Network,
        authority: Authority,
        clock: Clock,
        word: str = "simulated cluster",
    ) -> None:
        """``word``: what its cluster is called here; a node of the cloud role has none."""
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
        self.verify_interval = 0.0
        self.word = "" if role == "cloud" else word
        self.taken: ClusterKeys | None = None
        """Its cluster keys, once it has taken another than the first."""
        self.stolen_by = ""
        """Another machine that goes by its name with a key of its own."""
        self.shared = False
        """A cloud node that serves any cluster."""
        self.tenants = ""
        """A cloud node that serves tenants: how these are named."""
        self.tenant_idle, self.tenants_open = 300.0, 200
        self.initial_peers: tuple[dict[str, Json], ...] = ()
        self.retention_hours = 24.0
        self.absence_hours = 720.0
        self.world = world
        self._network = network
        self._authority = authority
        self._opened = False
        self.snapshots = SnapshotDisk()
        self._reborn = False
        self.disk = VirtualDisk()
        self.tenant_disks = TenantDisks(self)
        self.store = self.kind.memory(name, world.random.randbytes(32), clock.now_ms(), self._attest)
        self.log = LogReader(self.store.connection)
        network.add(self)

    @property
    def origin(self) -> str:
        return self.store.origin

    @property
    def cluster(self) -> str:
        """The name of its cluster; empty where it has no key of one."""
        return name_of(keys_of(self)) if self.word else ""

    @property
    def _ca(self) -> CaOfCluster | None:
        return CaOfCluster(lambda: keys_of(self)) if self.word else None

    def full(self) -> bool:
        """Whether nothing more can be written on its disk."""
        return False

    def flushed(self, actor: str) -> None:
        """Called after each turn of an actor."""

    def store_began(self) -> None:
        """Called at each start of its store, before anything asks it."""

    def _attest(self, node_id: str, public_key: bytes) -> bytes:
        """A cloud node has no cluster key."""
        ca = self._ca
        return b"" if ca is None else ca.attest(node_id, public_key)

    def start(self) -> None:
        """Begin a life."""
        if self.up:
            return
        self.life += 1
        self.up = True
        self.host = Host(
            self.name,
            self.world,
            self.clock,
            self._build,
            on_flush=self.flushed,
            on_end=self._ended,
            on_crash=self.crash,
        )
        given = self._settings()
        self.host.boot(NodeKeeper(given))
        self.host.inject("node", Boot(given), Launcher())

    def forget_after(self, hours: float, absence_hours: float = 720.0) -> None:
        """Another retention, taken over while the node runs."""
        self.retention_hours, self.absence_hours = hours, absence_hours
        if self.host is not None:
            self.host.inject("node", Boot(self._settings()), Launcher())

    def crash(self, *, noticed: bool = True) -> None:
        """Lose everything that is not on disk; ``noticed``: the peers' links break at once."""
        if not self.up or self.host is None:
            return
        self.world.note(f"{self.name} crashes")
        self._network.lose_node(self, None, noticed=noticed)
        self.up = False
        self.host.end()
        self.host = None
        if self.store.connection.in_transaction:
            self.store.connection.execute("ROLLBACK")
        # the turn that died may have committed
        self.flushed("store")
        self.snapshots.crash()
        self.tenant_disks.crash()

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
        certified = self._network.certified and bool(self.word)
        secrets = VirtualSecrets(VirtualRing(self, self.world) if certified else None)
        ca = self._ca
        believed = self.log.authorities if ca is None else ca.authorities
        witness = CaWitness(believed, lambda: ca_keys(keys_of(self)) if ca is not None else ())
        if configure.store is not None:
            if self._opened:
                self.store = self.kind.reopen(self.store, self.clock.now_ms())
            self.store.incarnations.attest()
            self._opened = True
            self.store_began()
            if self._reborn:
                self._reborn = False
                entropy = self.world.random.randbytes(32)
                self.store.begin_anew(entropy, Why.ROLLED_BACK, self.clock.now_ms())
                self.world.reached["new incarnation at the start"] += 1
            keeper = StoreKeeper(configure.store, self.store, secrets, self.disk)
            return self.tenant_disks.stores(keeper, configure.store) if self.tenants else keeper
        if configure.oplog is not None:
            shelf = self.shelf(self.snapshots, self.store.connection, self.world, deliver, self.full)
            fingerprints = Fingerprints(self.store.connection)
            oplog = OplogKeeper(configure.oplog, self.log, fingerprints, shelf, self.disk)
            return self.tenant_disks.oplogs(oplog, configure.oplog, deliver) if self.tenants else oplog
        if configure.election is not None:
            return Bully(configure.election)
        if configure.sync is not None:
            checker = VirtualChecker(self.world, self._authority, self.clock.now_ms, deliver)
            if self.tenants:
                return self.tenant_disks.syncs(configure.sync, links, checker)
            checks = checker if self.role == "cloud" else None
            key = own_key(self) if certified else ""
            held = partial(held_by, self)
            return Sync(configure.sync, self.log, witness, links, checks, self.snapshots, key, held)
        assert configure.gateway is not None
        tokens = VirtualTokens(self._authority, deliver)
        prober = VirtualProber(self._authority, deliver, partial(self._network.reaches, self))
        return Gateway(
            configure.gateway, self.log, witness, links, tokens, secrets, prober, self.snapshots, ca
        )

    def _settings(self) -> settings.NodeSettings:
        name, role = self.name, self.role
        cluster = self.cluster
        return settings.NodeSettings(
            settings.StoreSettings(name, "", role, cluster, tenants=bool(self.tenants)),
            settings.OplogSettings(
                name,
                "",
                role=role,
                retention_hours=self.retention_hours,
                absence_limit=self.absence_hours,
                verify_interval=self.verify_interval,
                shared=self.shared,
                tenants=bool(self.tenants),
            ),
            settings.SyncSettings(
                name,
                "",
                role,
                cluster,
                self.address,
                seeds=self.seeds,
                discovery=False,
                live_push=self.live_push,
                shared=self.shared,
                tenants=self.tenants,
                tenant_idle=self.tenant_idle,
                tenants_open=self.tenants_open,
            ),
            settings.ElectionSettings(name, role, takeover_delay=4.0),
            settings.GatewaySettings(name, "", role, cluster, live_push=self.live_push),
            self.initial_peers,
        )
