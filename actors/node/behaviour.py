"""NodeActor: the children, their restarts, their configuration, and what they must be told again.

The store starts first, because it makes the file that all others read. After a restart of a child, the node
repeats all that the child needs to serve: its slice, the peer list, who is gateway.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

from entgldb.actors.alarms import Alarms, gathered
from entgldb.actors.behaviour import ERROR, INFO, WARNING, Asker, Behaviour, Caller, Context, refuse
from entgldb.actors.node.collector import Collector
from entgldb.actors.node.configuration import configure, pause_in_words, static_peers
from entgldb.actors.node.history import Outcomes
from entgldb.actors.node.initial import InitialPeers
from entgldb.actors.node.log_level import LEVELS, LOG_LEVEL, LogLevel
from entgldb.actors.node.reloading import merge
from entgldb.actors.node.supervision import (
    ABOVE,
    HANG_SECONDS,
    RESTARTS_MAX,
    RESTARTS_SECONDS,
    Above,
    Child,
)
from entgldb.messages.administration import Event, Happened, SetLogLevel
from entgldb.messages.client import Done, Refused, Reload, Report, Status, Stop, WhoIs
from entgldb.messages.codec import encode
from entgldb.messages.errors import EntglError, ErrorCode, Reason
from entgldb.messages.local.actors import (
    Addresses,
    Boot,
    ChildExited,
    Configure,
    ElectionOutcome,
    HttpState,
    KnownPeers,
    PeerDown,
    PeerUp,
    Ready,
    Reconfigure,
    RemotePeersChanged,
    Restart,
    SessionEnded,
    StaticPeers,
    StopNow,
    Stopped,
    Tick,
    Well,
)
from entgldb.messages.local.members import KeyShown, NodesChanged, NoteSelf
from entgldb.messages.local.pauses import PausesChanged
from entgldb.messages.local.snapshots import StoreBegan
from entgldb.messages.schema import Json, Message
from entgldb.messages.settings import NodeSettings

CHILDREN: Final = ("store", "oplog", "sync", "election", "gateway")
HAVE_LINKS: Final = ("sync", "gateway", "election")
"""Those who have links, or decide who shall."""
LOOK_SECONDS: Final = 2.0
"""Between looks at whether the children move."""
WELL_SECONDS: Final = 10.0
"""Between two words to the launcher that all serve."""
ALONE_AFTER: Final = 10.0
"""Seconds after which a node without seeds and remembered peers takes itself for the first."""
STATUS_TIMEOUT: Final = 2.0
STOP_PATIENCE: Final = 0.6
"""Seconds the children have to close their links, and then the store its file."""


class NodeKeeper(Behaviour):
    """Supervisor of the other five."""

    name = "node"

    def __init__(self, settings: NodeSettings) -> None:
        super().__init__()
        self.settings = settings
        self.level = LEVELS[settings.log_level]
        self.identity: dict[str, Json] = {}
        """Filled by the host: pid and address of this actor."""
        self.children = {name: Child() for name in CHILDREN}
        self._boot: Asker | None = None
        self._reported = False
        self._reloads: list[Asker] = []
        self._started = False
        self._stopping = False
        self._fault: Refused | None = None
        self._outcomes = Outcomes()
        self._log_level = LogLevel()
        self._peers: tuple[dict[str, Json], ...] | None = None
        self._static: dict[str, str] = {}
        self._nodes = NodesChanged(())
        self._key = ""
        self._pauses = PausesChanged(())
        self._known: dict[str, str] = {}
        self._peers_up: list[str] = []
        self._initial = InitialPeers()
        self.parts = (self._initial,)
        self._collectors: dict[int, Collector] = {}
        self._numbers = 0
        self._alarms = Alarms()
        self._http: HttpState | None = None
        self._above = {name: Above() for name in ABOVE}

    # --- children ------------------------------------------------------------------------------

    def start(self, ctx: Context) -> None:
        self._spawn("store", ctx)
        ctx.after(ALONE_AFTER, Tick("alone"))
        ctx.after(LOOK_SECONDS, Tick("look"))
        ctx.after(WELL_SECONDS, Tick("well"))

    def on_boot(self, message: Boot, ctx: Context) -> None:
        """The first is answered when all serve; a later one brings a configuration read again."""
        if self._boot is None:
            self._boot = ctx.asker
            self._report_start(ctx)
            return
        told = self._apply_settings(message.settings, ctx)
        while self._reloads:
            ctx.answer(self._reloads.pop(0), told)
        ctx.answer(ctx.asker, self._ready())

    def on_ready(self, message: Ready, ctx: Context) -> None:
        self.children[message.name].serves(message.pid, message.facts, ctx.monotonic())
        self._tell_addresses(ctx)
        if message.name == "store":
            self._store_ready(ctx)
        self._repeat(message.name, ctx)
        self._report_start(ctx)

    def on_refused(self, message: Refused, ctx: Context) -> None:
        """A child could not be built, or the launcher could not read the configuration again."""
        ctx.log(ERROR, f"{message.code}: {message.text}")
        if self._reloads:
            while self._reloads:
                ctx.answer(self._reloads.pop(0), message)
        elif not self._reported:
            self._fault = message
            self._report_start(ctx)

    def on_child_exited(self, message: ChildExited, ctx: Context) -> None:
        child = self.children[message.name]
        delay = child.died(ctx.monotonic())
        if self._stopping:
            return
        ctx.log(WARNING, f"{message.name} died; starting it again in {delay:.2f} s")
        self._tell_addresses(ctx)
        if message.name == "sync":
            self._forget_peers(ctx)
        ctx.after(delay, Restart(message.name))

    def on_restart(self, message: Restart, ctx: Context) -> None:
        if self._stopping:
            return
        if message.name in ("sync", "gateway"):
            # the others have read its messages by now: they forget the sessions that died with it
            for keeper in ("oplog", "store"):
                ctx.tell(keeper, SessionEnded(message.name))
        self._spawn(message.name, ctx)

    def _look(self, ctx: Context) -> None:
        """End whoever hangs: the host then tells its death, as any other; and say what is not well."""
        ctx.after(LOOK_SECONDS, Tick("look"))
        now = ctx.monotonic()
        for name, child in self.children.items():
            why = "" if self._stopping else child.hangs(ctx.look(name), now)
            if why:
                ctx.log(ERROR, f"{name} {why}: it is ended and started anew")
                self.count(Reason.HUNG)
                ctx.kill(name)
            died = (
                f"{name} died more than {RESTARTS_MAX} times in {RESTARTS_SECONDS:.0f} s; it is started again"
                " all the same, and the others go on: log/entgldb.log tells why it died"
            )
            self._alarm("degraded", name, died if child.degraded else "", ctx)
            # not logged while it lasts: the log is likely to be on the disk that does not answer
            waits = f"{name} has been waiting for {child.waits_for} for {child.still(now):.0f} s"
            self._alarm("held-up", name, waits if child.waits_for else "", ctx)
        for name, above in self._above.items():
            stopped = above.stopped_for(ctx.look(name), now)
            text = f"{name} has been stopped for {stopped:.0f} s: {ABOVE[name]}; kill -CONT wakes it"
            self._alarm("held-up", name, text if stopped >= HANG_SECONDS else "", ctx)

    def _say_well(self, ctx: Context) -> None:
        """A child that waits for the disk, or is in a step it has named, is well: nobody restarts it."""
        ctx.after(WELL_SECONDS, Tick("well"))
        if all(child.up or child.waits_for for child in self.children.values()):
            ctx.tell("launcher", Well())

    def _alarm(self, code: str, name: str, text: str, ctx: Context) -> None:
        if text:
            self._alarms.sound(code, name, text, ctx.now_ms())
        elif self._alarms.clear(code, name):
            ctx.log(INFO, f"{name} is no longer {code}")

    def _spawn(self, name: str, ctx: Context) -> None:
        self.children[name].begin(ctx.monotonic())
        ctx.spawn(name)
        ctx.tell(name, self._slice(name))

    def _store_ready(self, ctx: Context) -> None:
        known = self.children["store"].facts.get("known_peers")
        self._known = known if isinstance(known, dict) else {}
        if not self._started:
            self._started = True
            for name in CHILDREN[1:]:
                self._spawn(name, ctx)
        else:
            ctx.tell("oplog", StoreBegan())
            if self._peers_up:
                # what peers had it write may have died with it
                ctx.tell("store", NoteSelf(self._key))

    def _repeat(self, name: str, ctx: Context) -> None:
        """Tell a child that has just started what the others already know."""
        if name in HAVE_LINKS:
            ctx.tell(name, self._pauses)
        if name == "sync":
            ctx.tell("sync", StaticPeers(self._static))
            ctx.tell("sync", self._nodes)
            ctx.tell("sync", KnownPeers(self._known))
        elif name == "gateway":
            self._reconfigure("restart", ctx)
        elif name == "election":
            for node_id in self._peers_up:
                ctx.tell("election", PeerUp(node_id))
            # The gateway answers every Reconfigure with its fitness, which election has forgotten.
            self._reconfigure("restart", ctx)

    def _report_start(self, ctx: Context) -> None:
        if self._boot is None or self._reported:
            return
        if self._fault is not None:
            ctx.answer(self._boot, self._fault)
            self._reported = True
        elif all(child.up for child in self.children.values()):
            ctx.answer(self._boot, self._ready())
            self._reported = True

    def _ready(self) -> Ready:
        facts: dict[str, Json] = {**self.identity}
        for name in ("store", "sync"):
            known = self.children[name].facts
            facts |= {key: known[key] for key in known.keys() - {"address", "known_peers"}}
        pid = self.identity.get("pid")
        return Ready("node", pid if isinstance(pid, int) else 0, facts)

    def _tell_addresses(self, ctx: Context) -> None:
        addresses = self._addresses()
        for name, child in self.children.items():
            if child.up:
                ctx.tell(name, addresses)

    def _addresses(self) -> Addresses:
        handles = {name: _handle(name, child.facts) for name, child in self.children.items() if child.up}
        pids = {name: child.pid for name, child in self.children.items() if child.up}
        pid = self.identity.get("pid")
        if isinstance(pid, int):
            pids["node"] = pid
        return Addresses({**handles, "node": _handle("node", self.identity)}, pids)

    def _apply_settings(self, read: NodeSettings, ctx: Context) -> Report:
        """Take over the settings that can change in a running node; tell those that changed and those that
        wait for a restart."""
        before = {name: self._slice(name) for name in CHILDREN}
        self.settings, changed, restart_needed = merge(self.settings, read)
        self.level = LEVELS[self._log_level.now(self.settings.log_level)]
        for name, child in self.children.items():
            if child.up and self._slice(name) != before[name]:
                ctx.tell(name, self._slice(name))
        if "InitialRemotePeers" in changed:
            self._initial.changed(self.settings, ctx)
        told = f"changed {changed}, restart needed for {restart_needed}"
        ctx.log(INFO, f"reload: {told}")
        ctx.tell("store", Happened(Event.NODE.value, "reload", told))
        return Report({"changed": changed, "restart_needed": restart_needed})

    def _slice(self, name: str) -> Configure:
        return replace(configure(self.settings, name), log_level=self._log_level.now(self.settings.log_level))

    def on_set_log_level(self, message: SetLogLevel, ctx: Context) -> None:
        try:
            self._log_level.order(message, ctx)
        except EntglError as fault:
            refuse(ctx, fault)
            return
        self._relevel(ctx)
        ctx.answer(ctx.asker, Report(self._log_level.report(self.settings.log_level, ctx)))

    def _relevel(self, ctx: Context) -> None:
        """Every actor logs by the level that counts now."""
        level = self._log_level.now(self.settings.log_level)
        self.level = LEVELS[level]
        ctx.log(INFO, f"the log has level {level}")
        for name, child in self.children.items():
            if child.up:
                ctx.tell(name, self._slice(name))

    # --- who is gateway, which peers ------------------------------------------------------------

    def on_election_outcome(self, message: ElectionOutcome, ctx: Context) -> None:
        if self._outcomes.note(message, ctx.now_ms()):
            ctx.log(INFO, f"gateway {message.gateway or 'nobody'}, epoch {message.epoch}: {message.why}")
            self._reconfigure("election", ctx)

    def on_remote_peers_changed(self, message: RemotePeersChanged, ctx: Context) -> None:
        if message.peers == self._peers:
            return
        self._peers = message.peers
        static = static_peers(message.peers, self.count, ctx)
        if static != self._static:
            self._static = static
            ctx.tell("sync", StaticPeers(static))
        self._reconfigure("peers", ctx)

    def on_nodes_changed(self, message: NodesChanged, ctx: Context) -> None:
        self._nodes = message
        ctx.tell("sync", message)

    def on_key_shown(self, message: KeyShown, ctx: Context) -> None:
        self._key = message.key

    def on_pauses_changed(self, message: PausesChanged, ctx: Context) -> None:
        for what in {one.what for one in (*message.pauses, *self._pauses.pauses)}:
            self._alarm("paused", what, pause_in_words(message.holds(what)), ctx)
        self._pauses = message
        for name in HAVE_LINKS:
            ctx.tell(name, message)

    def on_peer_up(self, message: PeerUp, ctx: Context) -> None:
        # said again for every peer: the store may have been dead, or its disk full
        ctx.tell("store", NoteSelf(self._key))
        if message.node_id not in self._peers_up:
            self._peers_up.append(message.node_id)
        self._initial.peer_up(ctx)

    def on_peer_down(self, message: PeerDown, ctx: Context) -> None:
        if message.node_id in self._peers_up:
            self._peers_up.remove(message.node_id)

    def _reconfigure(self, cause: str, ctx: Context) -> None:
        """Nothing before the list of peers is known: an empty one would close links for nothing."""
        if self._peers is not None:
            outcome = self._outcomes.present
            ctx.tell("gateway", Reconfigure(outcome.gateway, outcome.epoch, self._peers, cause))

    def _forget_peers(self, ctx: Context) -> None:
        """The links died with sync; it will say PeerUp anew for each."""
        for node_id in self._peers_up:
            ctx.tell("election", PeerDown(node_id, Reason.STOPPING.value))
        self._peers_up.clear()

    def on_tick(self, message: Tick, ctx: Context) -> None:
        if message.what == "look":
            self._look(ctx)
        elif message.what == "well":
            self._say_well(ctx)
        elif message.what == "alone":
            if not self.settings.sync.seeds and not self._known and not self._peers_up:
                ctx.tell("store", NoteSelf(self._key))
                self._initial.begin(self.settings, ctx)
        elif message.what == "synced":
            self._ask_synced(ctx)
        elif message.what == "initial":
            if not self._stopping:
                self._initial.tick(message, self.settings, ctx)
        elif message.what == LOG_LEVEL:
            if self._log_level.over(message):
                self._relevel(ctx)
        elif message.what == "collect":
            collector = self._collectors.pop(message.generation, None)
            if collector is not None:
                collector.finish()

    def _ask_synced(self, ctx: Context) -> None:
        def judge(answers: dict[str, Message | None], ctx: Context) -> None:
            self._initial.judge(answers.get("sync"), self.settings, ctx)

        if self._initial.early and not self._stopping:
            self._collect({"sync": Status()}, judge, ctx)

    # --- administration ------------------------------------------------------------------------------

    def on_who_is(self, message: WhoIs, ctx: Context) -> None:
        ctx.answer(ctx.asker, self._addresses())

    def on_status(self, message: Status, ctx: Context) -> None:
        asker = ctx.asker
        up = {name: Status() for name, child in self.children.items() if child.up}
        self._collect(up, lambda answers, ctx: ctx.answer(asker, self._report(answers, ctx)), ctx)

    def _report(self, answers: dict[str, Message | None], ctx: Context) -> Report:
        body: dict[str, Json] = {
            "node_id": self.settings.store.node_id,
            "role": self.settings.store.role,
            "restarts": {name: child.restarts for name, child in self.children.items()},
            "pids": dict(self._addresses().pids),
            "counts": dict(self.counts),
            "gateways": self._outcomes.report(),
            "log": self._log_level.report(self.settings.log_level, ctx),
        }
        for name in CHILDREN:
            answer = answers.get(name)
            body[name] = answer.body if isinstance(answer, Report) else None
        told = [a.body for a in answers.values() if isinstance(a, Report)]
        body["alarms"] = gathered([{"alarms": self._alarms.report()}, *told])
        if (http := self._http) is not None:
            body["http"] = {"url": http.url, "state": http.state, "restarts": http.restarts}
        body["state"] = "degraded" if any(child.degraded for child in self.children.values()) else "ok"
        return Report(body)

    def on_http_state(self, message: HttpState, ctx: Context) -> None:
        self._http = message
        self._alarm("http-down", "http", message.trouble, ctx)

    def on_reload(self, message: Reload, ctx: Context) -> None:
        """The launcher reads the file and sends Boot again, or Refused."""
        if not self.settings.config_file:
            refuse(ctx, EntglError("this node was started without a file", code=ErrorCode.CONFIG))
            return
        if ctx.asker is not None:
            self._reloads.append(ctx.asker)
        ctx.tell("launcher", Reload())

    def on_stop(self, message: Stop, ctx: Context) -> None:
        """Links first, then the store, so that what has arrived is still committed."""
        ctx.answer(ctx.asker, Done())
        if self._stopping:
            return
        self._stopping = True
        ctx.tell("store", Happened(Event.NODE.value, "stop", "begun"))
        first = {name: StopNow() for name in CHILDREN[1:] if self.children[name].up}
        self._collect(first, lambda _, ctx: self._stop_store(ctx), ctx, STOP_PATIENCE)

    def _stop_store(self, ctx: Context) -> None:
        last = {"store": StopNow()} if self.children["store"].up else {}
        self._collect(last, lambda _, ctx: ctx.tell("launcher", Stopped("node")), ctx, STOP_PATIENCE)

    def _collect(
        self,
        questions: dict[str, Status] | dict[str, StopNow],
        done: Collector.Callback,
        ctx: Context,
        timeout: float = STATUS_TIMEOUT,
    ) -> None:
        """Ask several children; ``done`` once, when all have answered or ``timeout`` has passed."""
        self._numbers += 1
        collector = Collector(set(questions), done, ctx)
        self._collectors[self._numbers] = collector
        ctx.after(timeout, Tick("collect", self._numbers))
        before = ctx.asker
        for name, question in questions.items():
            ctx.asker = Caller(partial(collector.answered, name))
            ctx.forward(name, encode(question))
        ctx.asker = before
        if not questions:
            collector.finish()


def _handle(name: str, facts: dict[str, Json]) -> bytes:
    """The handle of an actor: the address that its host put into its facts, or its name where a host needs
    no more."""
    return str(facts.get("address", name)).encode()
