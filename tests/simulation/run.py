"""One seed, one history: faults, healing, checks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from unittest.mock import patch

from entgldb.actors.session import outbox, progress
from entgldb.launch.testing.edges import Authority
from entgldb.launch.testing.network import Network
from entgldb.launch.testing.world import BrokenPromise, Clock, World, no_collector
from entgldb.messages.client import Report, Status
from entgldb.messages.errors import Reason
from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.messages.model import REMOTE_PEERS
from entgldb.messages.schema import Message
from tests.simulation.events import damage, operators, times
from tests.simulation.events.belonging import Belonging
from tests.simulation.events.clients import CLOUD, SECOND_CLOUD, Acknowledged, Client
from tests.simulation.events.conditions import CONDITIONAL, CONDITIONAL_SEEDS
from tests.simulation.events.faults import Faults
from tests.simulation.events.forgeries import FORGER, FORGER_SEEDS, Forgeries, believed
from tests.simulation.events.lies import LIAR_SEEDS, Lies
from tests.simulation.events.retention import Forgetting
from tests.simulation.events.tallies import TALLIES
from tests.simulation.watch import checks
from tests.simulation.watch.patience import Patience
from tests.simulation.watch.secrecy import Listener
from tests.simulation.world.disks import Disks
from tests.simulation.world.node import SimulatedNode
from tests.simulation.world.options import Options

FAULT_SECONDS = 12.0
FAULTS_MIN = 20
"""Beyond what happens to single frames,"""
ALL_FAULTS_MIN = 100
"""and with that."""
ACKNOWLEDGED_MIN = 200
FAULT_SECONDS_MAX = 90.0
ISLAND_SEEDS = 4
"""Every fourth seed looks at a partition that lasts: each part has one gateway."""
ISLAND_SECONDS_MAX = 60.0
MERGING_SEEDS = 2
"""Every second seed edits documents that merge; what is written before the rule is known replaces them."""
COUNTING_SEEDS = 10
COUNTING = 3
"""Every tenth seed also counts and changes sets."""
SECOND_CLOUD_SEEDS = 6
"""Every sixth seed, if it has a cloud at all, has another, which all nodes have in their configuration."""
LARGE_SEEDS = 64
"""Of so many seeds one has documents that merge and grow to some megabytes."""
EXPIRING_SEEDS = 8
EXPIRING = 5
"""Of so many seeds one has documents that expire, unless its clocks are wrong by more than these live."""
PICKY_SEEDS = 3
"""Every third seed has a node that cannot apply all that the others write."""


@dataclass
class Result:
    """The result of one seed."""

    seed: int
    options: Options
    violations: list[str]
    faults: Counter[str]
    injected: int
    """Faults beyond what happened to single frames."""
    acknowledged: int
    trace: str
    healed_in: float
    counts: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    lines: list[str] | None = None


def options_of(seed: int, random: Random) -> Options:
    """The options of a seed; they are the first that its source of chance is asked for."""
    return times.of_seed(seed, Options.draw(random))


class Answer:
    """Keeps the answer to one question."""

    def __init__(self) -> None:
        self.body: dict[str, object] | None = None

    def answer(self, message: Message) -> None:
        if isinstance(message, Report):
            self.body = message.body


class Run:
    """Everything that belongs to one seed."""

    def __init__(self, seed: int, *, keep_trace: bool = False, options: Options | None = None) -> None:
        self.world = world = World(seed, keep_trace=keep_trace)
        self.options = options or options_of(seed, world.random)
        self.network = Network(world)
        self.network.overhear = Listener(world)
        self.authority = Authority(world)
        self.watch = checks.Watch(world)
        self.acks = Acknowledged()
        self.lan = [self._node(f"lan-{number}", "lan", number) for number in range(1, self.options.lan + 1)]
        self.cloud = self._node(CLOUD, "cloud", 0) if self.options.cloud else None
        self.clouds = [] if self.cloud is None else [self.cloud, *self._second_cloud()]
        self.nodes = self.lan + self.clouds
        self._shape()
        self.belonging = Belonging(world, self.network, self.options, self.lan)
        self.clients = [
            Client(world, node, self.acks, keys=self.options.keys, think=self.options.think)
            for node in self.nodes
        ]
        for client in self.clients:
            client.wild_clocks = self.options.wild_clocks or self.options.bad_times
        if seed % MERGING_SEEDS == 1:
            for client in self.clients:
                client.merges = True
                client.large = seed % LARGE_SEEDS == 5
                client.counts = seed % COUNTING_SEEDS == COUNTING
        wrong_clocks = self.options.wild_clocks or self.options.bad_times
        for client in self.clients:
            client.expires = seed % EXPIRING_SEEDS == EXPIRING and not wrong_clocks
            # what is checked of a condition is whether a document was there, whatever the time
            client.conditional = seed % CONDITIONAL_SEEDS == CONDITIONAL and not client.expires
        if seed % PICKY_SEEDS == 0:
            self.world.random.choice(self.lan).picky = True
            for client in self.clients:
                client.unfit = True
        self.faults = Faults(
            world,
            self.network,
            self.nodes,
            self.clients,
            self.authority,
            self.options,
            self.watch.restarted,
            Disks(world, self.watch, whole=self.belonging.whole_disks),
        )
        self.forgetting = Forgetting(world, self.options, self.nodes)
        self.resets = times.Resets(world)
        self.lies = Lies(world, self.network, self.lan)
        self.forgeries = Forgeries(world, self.network, self.nodes)
        self.watch.members = self.remaining
        self.watch.rotates = self.belonging.happens

    def whole(self) -> Result:
        """Fault phase, heal phase, checks."""
        self._trouble()
        healed_in = self._heal()
        if self.belonging.at_rest(self.nodes):
            self._leave_out()
            self._settle()
        self._no_false_alarm()
        damage.at_rest(self.world, self.remaining(), self.options.bandwidth)
        believed(self.world, self.remaining())
        # a node may have told something of itself since
        self._settle()
        return self.finish(healed_in)

    def remaining(self) -> list[SimulatedNode]:
        """All but the one that was retired, and the one that was expelled."""
        return self.belonging.remaining(self.forgetting.remaining())

    def _no_false_alarm(self) -> None:
        """At rest nothing is missing, so nothing can be stuck."""
        for node in self.remaining():
            for actor in ("sync", "gateway"):
                told = (self._ask(node, actor) or {}).get("alarms")
                for alarm in told if isinstance(told, list) else []:
                    if alarm["code"] == progress.NO_PROGRESS:
                        self.world.violate(f"{node.name}: {alarm['text']}")

    def finish(self, healed_in: float = 0.0) -> Result:
        """The checks of the end, and what became of it all."""
        # before those that a roll-back or a retired node has taken with it are left out
        acknowledged, left = len(self.acks.writes), self.remaining()
        checks.final(self.world, left, self.watch, self.acks)
        counts: Counter[str] = Counter()
        for node in self.nodes:
            counts.update(node.all_counts())
        self._nobody_lied(counts)
        result = Result(
            self.world.seed,
            self.options,
            self.world.violations,
            self.world.faults,
            self.faults.injected,
            acknowledged,
            self.world.trace,
            healed_in,
            counts,
            self.world.reached,
            self.world.lines,
        )
        self.close()
        return result

    def _nobody_lied(self, counts: Counter[str]) -> None:
        """An entry is bad by a lie or damage alone; a log of which a disk has lost the end has branches."""
        bad = counts[Reason.BAD_ENTRY.value]
        lied = self.world.seed % FORGER_SEEDS == FORGER or self.world.faults["forgery"]
        excused = self.world.faults["damage"] or self.world.faults["roll-back"]
        if bad and not (lied or excused):
            self.world.violate(f"{bad} entries were bad, and nobody had lied")

    def close(self) -> None:
        """Give the memory back."""
        for node in self.nodes:
            node.crash()
            node.store.connection.close()
            node.snapshots.close()

    def _trouble(self) -> None:
        world = self.world
        self.belonging.begin()
        for node, client in zip(self.nodes, self.clients, strict=True):
            world.after(world.random.random(), node.start)
            client.begin()
        if self.cloud is not None:
            self._add_peer()
        if self.clients[0].merges:
            for at, rule in ((0.3, "merge"), (6.0, "lww"), (7.5, "merge")):
                lan = [client for client in self.clients if client.node.role == "lan"]
                world.after(at + world.random.random(), world.random.choice(lan).set_rule, rule)
        if self.clients[0].counts:
            world.after(0.3, next(c for c in self.clients if c.node.role == "lan").set_rule, "merge", TALLIES)
        if self.clients[0].expires:
            for at, life_ms in ((2.0, 1_000), (6.0, 0)):
                lan = next(client for client in self.clients if client.node.role == "lan")
                world.after(at, lan.set_expiry, life_ms, "orders")
        world.after(1.5, self.faults.begin)
        if world.seed % LIAR_SEEDS == 0:
            world.after(1.8, self.lies.begin)
        if world.seed % FORGER_SEEDS == FORGER:
            world.after(1.8, self.forgeries.begin)
        world.after(2.0, self.forgetting.begin)
        world.run(FAULT_SECONDS)
        world.run(FAULT_SECONDS_MAX - FAULT_SECONDS, self._enough)

    def _enough(self) -> bool:
        """Enough has gone wrong, and enough was promised."""
        # asked after every event: the sum over all kinds comes last
        return (
            self.faults.injected >= FAULTS_MIN
            and len(self.acks.writes) >= ACKNOWLEDGED_MIN
            and self.world.faults.total() >= ALL_FAULTS_MIN
        )

    def _heal(self) -> float:
        self.faults.heal()
        self.lies.over = True
        self.network.lies.clear()
        self.forgeries.end()
        self._leave_out()
        for client in self.clients:
            client.stopped = True
        # a node that has not heard yet that another is out may still be together with it
        if self.world.seed % ISLAND_SEEDS == 0 and len(self.remaining()) == len(self.nodes):
            self._islands()
        return self._settle()

    def _leave_out(self) -> None:
        """Nothing is asked any more of a node that belongs no more to the others."""
        left = self.remaining()
        self.lan = [node for node in self.lan if node in left]

    def _settle(self) -> float:
        world, began, why = self.world, self.world.time, "?"
        patience = Patience(self.remaining(), self.watch, self.options.bandwidth)
        while why and world.time - began < patience.seconds():
            world.run(1.0)
            why = self.unsettled()
        healed_in = world.time - began
        if why:
            world.violate(f"not settled {healed_in:.0f} s after all was healed: {why}")
        else:
            self.forgetting.quiet()
        return healed_in

    def unsettled(self) -> str:
        """A thing that is still to happen; empty when all is calm."""
        left = self.remaining()
        if any(client.waiting for client in self.clients if client.node in left):
            return "a client has no answer"
        # asking takes time, in which a link may open and bring more: vectors are looked at last
        if operators.retry_unfit(left):
            return "entries are in quarantine"
        ahead = self.resets.unsettled(left)
        if ahead:
            # a cloud can be reset once it has heard how much of its log others have
            if self.cloud is not None:
                self._peer_enabled()
            return ahead
        if self.forgetting.unsettled():
            return self.forgetting.unsettled()
        if any(node.store.next_expiry() for node in left):
            return "documents are still to expire"
        if why := self.belonging.settle(self.lan):
            return why
        looks = (self._lan_unsettled, self._gateway_unsettled, self._cloud_unsettled, self._lan_unsettled)
        return next((why for why in (look() for look in looks) if why), "")

    def _lan_unsettled(self) -> str:
        vectors = [node.log.vector() for node in self.lan]
        if any(vector != vectors[0] for vector in vectors):
            return "the vectors of the LAN differ"
        if any(node.log.held() for node in self.lan):
            return "entries are held"
        asked_for = {one for node in self.lan for one in node.log.unapplied(PAGE_ROWS_MAX)}
        if asked_for and asked_for - self.watch.lost(self.remaining()):
            return "entries are not supplied"
        return ""

    def _islands(self) -> None:
        """All is well but for one lasting partition."""
        names = [node.name for node in self.lan]
        cut = self.world.random.randrange(1, len(names))
        ways = {(a, b) for a in names[:cut] for b in names[cut:]}
        ways |= {(b, a) for a, b in ways}
        self.network.cuts |= ways
        self.world.fault("islands", f"{names[:cut]} {names[cut:]}")
        began, why = self.world.time, "?"
        while why and self.world.time - began < ISLAND_SECONDS_MAX:
            self.world.run(1.0)
            why = self._gateway_unsettled()
        if why:
            self.world.violate(f"{ISLAND_SECONDS_MAX:.0f} s after a partition: {why}")
        self.network.cuts -= ways

    def _gateway_unsettled(self) -> str:
        """In each connected component exactly one leads, and all know it."""
        for component in self.network.components(self.lan):
            why = self._component_unsettled(component)
            if why:
                return why
        return ""

    def _component_unsettled(self, component: list[SimulatedNode]) -> str:
        reports = [self._ask(node, "election") for node in component]
        if any(report is None for report in reports):
            return "an election actor does not answer"
        leaders = [n.name for n, r in zip(component, reports, strict=True) if r and r["is_gateway"]]
        if len(leaders) != 1:
            return f"gateways of {[node.name for node in component]}: {leaders}"
        believed = {str(report["gateway"]) for report in reports if report}
        return "" if believed == set(leaders) else f"{leaders} leads, {believed} is believed"

    def _cloud_unsettled(self) -> str:
        """The gateway, and only it, holds the link; the cloud has everything."""
        if self.cloud is None:
            return ""
        if not self._peer_enabled():
            return "the cloud peer is not enabled"
        looks = (self._one_cloud_unsettled(cloud) for cloud in self.clouds)
        return next((why for why in looks if why), "")

    def _one_cloud_unsettled(self, cloud: SimulatedNode) -> str:
        holders = []
        for node in self.lan:
            report = self._ask(node, "gateway")
            if report is None:
                return "a gateway actor does not answer"
            links = report["links"]
            assert isinstance(links, list)
            if any((link["node_id"], link["state"]) == (cloud.name, "connected") for link in links):
                holders.append(node.name)
        leader = self._ask(self.lan[0], "election")
        if leader is None or holders != [leader["gateway"]]:
            return f"the link to {cloud.name} is held by {holders}"
        # a member shows no links, so ask the network
        ends = [end for end in self.network.ends.values() if end.actor == "gateway"]
        open_ends = {end.place.name for end in ends if end.other is not None and end.other.place is cloud}
        if open_ends != set(holders):
            return f"links to {cloud.name} are open on {sorted(open_ends)}"
        same = cloud.log.vector() == self.lan[0].log.vector()
        return "" if same and not cloud.log.held() else f"the vector of {cloud.name} differs"

    def _peer_enabled(self) -> bool:
        """Enabled at last, whatever was switched before."""
        # one that belongs no more to the others may write, but it counts nowhere
        asked = next(client for client in self.clients if client.node is self.lan[0])
        body = asked.node.store.get(REMOTE_PEERS, CLOUD)
        if body is None or self.cloud is None:
            asked.put_peer(self.cloud.address if self.cloud else "", add=True, enabled=True)
            return False
        if b'"IsEnabled":true' in body.replace(b" ", b""):
            return True
        asked.put_peer("", add=False, enabled=True)
        return False

    def _ask(self, node: SimulatedNode, actor: str) -> dict[str, object] | None:
        answer = Answer()
        node.ask(actor, Status(), answer)
        self.world.run(0.05, lambda: answer.body is not None)
        return answer.body

    def _add_peer(self) -> None:
        """Added on some node soon after the start, as a user would."""
        lan = [client for client in self.clients if client.node.role == "lan"]
        client = self.world.random.choice(lan)
        if self.cloud is None or client.node.store.known(REMOTE_PEERS, CLOUD):
            return
        if client.node.up:
            client.put_peer(self.cloud.address, add=True, enabled=True)
        self.world.after(1.0, self._add_peer)

    def _node(self, name: str, role: str, number: int) -> SimulatedNode:
        clock = Clock(self.world, self.options.grain_ms)
        address = f"10.0.0.{number + 1}:{7000 + number}"
        node = SimulatedNode(
            name, role, address, self.world, self.network, self.authority, clock, self.watch.look
        )
        node.verify_interval = damage.interval_of(self.world.seed)
        return node

    def _second_cloud(self) -> list[SimulatedNode]:
        if self.world.seed % SECOND_CLOUD_SEEDS != 2:
            return []
        made = self._node(SECOND_CLOUD, "cloud", 90)
        for node in self.lan:
            node.initial_peers = (initial_peer(made),)
        return [made]

    def _shape(self) -> None:
        """Give each node of the LAN its seeds and its ways, by the shape of the net."""
        for i, one in enumerate(self.lan):
            seeds = []
            for j, two in enumerate(self.lan):
                if i == j:
                    continue
                near = self.options.shape == "mesh" or (
                    abs(i - j) == 1 if self.options.shape == "line" else 0 in (i, j)
                )
                if near:
                    seeds.append(two.address)
                else:
                    self.network.forbidden.add((one.name, two.name))
            one.seeds = tuple(seeds)


def broken(one: Run) -> str:
    """The first promise that a history breaks, which ends it there; empty: it keeps all of them."""
    one.world.ends_when_broken = True
    try:
        with no_collector(), patch.object(outbox, "ENTRIES_PER_BATCH_MAX", one.options.batch_entries):
            one.whole()
    except BrokenPromise as fault:
        one.close()
        return str(fault)
    return ""


def initial_peer(cloud: SimulatedNode) -> dict[str, object]:
    """A cloud peer as ``InitialRemotePeers`` has it."""
    return {
        "node_id": cloud.name,
        "type": 2,
        "address": cloud.address,
        "authority": "https://authority.example",
        "client_id": "cluster",
        "secret": "env:SECRET",
    }


def run(seed: int, *, keep_trace: bool = False, options: Options | None = None) -> Result:
    """Live through one seed."""
    one = Run(seed, keep_trace=keep_trace, options=options)
    with no_collector(), patch.object(outbox, "ENTRIES_PER_BATCH_MAX", one.options.batch_entries):
        return one.whole()
