"""The election of the gateway: the Bully algorithm with epochs (H. Garcia-Molina, Elections in a Distributed
Computing System, IEEE Transactions on Computers C-31, 1982).

A claim is (epoch, rank, beat). Its gateway alone counts the beat up; every heartbeat of every node
carries the newest claim it knows, so a node follows a gateway it sees only through others. Of two
claims the higher epoch wins, then the better rank. A claim whose beat stands still is dead.
Correctness never rests on leadership: two gateways are waste, not damage.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from entgldb.actors.auditing import Auditing
from entgldb.actors.behaviour import Behaviour, Context
from entgldb.actors.election.rivalry import Rivalry
from entgldb.actors.election.standings import compared, ranking
from entgldb.actors.session.claims import Claims, Verdict
from entgldb.messages import codec
from entgldb.messages.administration import Event
from entgldb.messages.client import Done, Report, StandDown, Status
from entgldb.messages.errors import ProtocolError, Reason, UnknownMessage
from entgldb.messages.local.actors import (
    ClaimHeard,
    ClaimToSend,
    Configure,
    ElectionOutcome,
    Fitness,
    FromPeer,
    PeerDown,
    PeerUp,
    StopNow,
    Stopped,
    Tick,
    ToPeer,
)
from entgldb.messages.local.pauses import PausesChanged
from entgldb.messages.schema import Channel, Message
from entgldb.messages.settings import ElectionSettings
from entgldb.messages.wire import Alive, Claim, Coordinator, Election, Rank, Standing

CLAIM_SECONDS: Final = 1.0
START_WAIT_SECONDS: Final = 1.0
"""How long a new node listens for claims before it elects; up to half as much again by chance."""
ALIVE_WAIT_SECONDS: Final = 0.5
COORDINATOR_WAIT_SECONDS: Final = 2.0
LOST_LINK_SECONDS: Final = 1.5
"""How long a gateway may be silent once the direct link to it is gone."""
CLOSED_LINK_SECONDS: Final = 0.8
"""The same where its side has closed the link without a word: mostly its process has ended. A sync actor that
is started again is back by then."""
STAND_DOWN_SECONDS_MAX: Final = 30 * 86_400.0

STARTING, IDLE, ELECTING, FOLLOWING, LEADING = "starting", "idle", "electing", "following", "leading"
PENDING: Final = "pending"
"""A better node has said that it is alive; it should lead soon."""


class Bully(Behaviour):
    """One node's part in the election. In the cloud role it takes no part."""

    name = "election"

    def __init__(self, settings: ElectionSettings) -> None:
        super().__init__()
        self.settings = settings
        self.state = IDLE
        self.claims = Claims(settings.node_id)
        self._fitness = Fitness(0)
        self._peers: set[str] = set()
        self._heard_at = self._announced_at = 0.0
        self._suspect_at: float | None = None
        self._rivalry = Rivalry()
        self._stood_down = False
        self._paused = False
        """An operator has paused the links to clouds: this node would lead for nothing."""
        self._generations: dict[str, int] = {}
        self._outcome: tuple[int, str] | None = None
        self._audit = Auditing()
        self._why = ""
        """The cause of the election that is under way, or was the last."""
        self._standings: dict[str, Standing] = {}
        """Of peers, as they have told."""
        self._told: Standing | None = None

    # --- what the outside says ---------------------------------------------------------------

    def start(self, ctx: Context) -> None:
        """Listen for claims first: a node that joins must not disturb a gateway that lives."""
        if self._elects_nobody:
            return
        self._why = "this node has started, and heard of no gateway"
        self._enter(STARTING, START_WAIT_SECONDS * (1 + ctx.random.random() / 2), ctx)
        self._told = self._standing
        # sync may tell on a claim of an earlier life of ours, and take what others say of it for known
        ctx.tell("sync", ClaimToSend(None, False))

    def flush(self, ctx: Context) -> None:
        """Peers hear of a changed rank, so that each can say why this node does not lead."""
        if self._standing != self._told and not self._elects_nobody:
            self._told = self._standing
            self._to_peer("", self._told, ctx)

    def on_configure(self, message: Configure, ctx: Context) -> None:
        """New settings on Reload; a changed priority changes the rank."""
        if message.election is not None:
            self.settings = message.election
            self._rank_changed(ctx)

    def on_fitness(self, message: Fitness, ctx: Context) -> None:
        if message != self._fitness:
            self._fitness = message
            self.claims.connected, self.claims.troubles = message.connected, message.troubles
            self._rank_changed(ctx)

    def on_peer_up(self, message: PeerUp, ctx: Context) -> None:
        """A new peer hears at once who leads."""
        self._peers.add(message.node_id)
        if self._told is not None:
            self._to_peer(message.node_id, self._told, ctx)
        if self.claims.current is None:
            return
        if self.claims.current.gateway == message.node_id:
            self._suspect_at = None
        if self.state == LEADING:
            self._to_peer(message.node_id, Coordinator(self.claims.current), ctx)
        else:
            ctx.tell("sync", ClaimToSend(self.claims.current, True))

    def on_peer_down(self, message: PeerDown, ctx: Context) -> None:
        """The gateway's own link is gone: unless another node still hears its beat, it is soon expired."""
        self._peers.discard(message.node_id)
        self._standings.pop(message.node_id, None)
        if self._follows(message.node_id) and self._suspect_at is None:
            closed = message.reason == Reason.PEER_CLOSED.value
            self._suspect_at = ctx.monotonic() + (CLOSED_LINK_SECONDS if closed else LOST_LINK_SECONDS)
            self._watch(ctx)

    def on_claim_heard(self, message: ClaimHeard, ctx: Context) -> None:
        if self._elects_nobody:
            return
        self._peers.add(message.node_id)
        verdict = self._consider(message.claim, ctx)
        on_its_way = ctx.monotonic() - self._announced_at <= CLAIM_SECONDS
        if message.differs and verdict in (Verdict.OLD, Verdict.NEWER_BEAT) and not on_its_way:
            # our last word was lost: sync would carry the claim before for ever
            self._announce(ctx, now=False)

    def on_from_peer(self, message: FromPeer, ctx: Context) -> None:
        """One election frame. A frame that cannot be read, or speaks for another node, is counted and
        dropped."""
        if self._elects_nobody:
            return
        try:
            decoded = codec.decode(message.payload, Channel.PEER)
        except UnknownMessage:
            self.count(Reason.UNKNOWN_MESSAGE)
            return
        except ProtocolError:
            self.count(Reason.MALFORMED)
            return
        if decoded.trailing:
            self.count(Reason.TRAILING_FIELD)
        self._peers.add(message.node_id)
        self._hear(message.node_id, decoded.message, ctx)

    def on_stand_down(self, message: StandDown, ctx: Context) -> None:
        """Do not lead for some seconds; 0 ends an earlier order."""
        self._stood_down = message.seconds > 0
        self._rivalry.forget()
        if self._stood_down:
            self.count(Reason.STOOD_DOWN)
            self._arm("stand", min(message.seconds, STAND_DOWN_SECONDS_MAX), ctx)
            self._give_up("it was told to stand down", ctx)
        elif self.state == IDLE:
            self._elect("this node may lead again", ctx)
        ctx.answer(ctx.asker, Done())

    def on_pauses_changed(self, message: PausesChanged, ctx: Context) -> None:
        """A gateway whose cloud links are paused hands over at once; the others go on."""
        before, self._paused = self._paused, message.holds("cloud") is not None
        if self._paused and not before:
            self._rivalry.forget()
            self._give_up("its cloud sync was paused", ctx)
        elif before and not self._paused and self.state == IDLE:
            self._elect("this node may lead again", ctx)

    def on_status(self, message: Status, ctx: Context) -> None:
        candidates = self._peers | ({self.settings.node_id} if self._eligible else set())
        known: dict[str, Standing | None] = {name: self._standings.get(name) for name in self._peers}
        if not self._elects_nobody:
            known[self.settings.node_id] = self._standing
        if self.claims.gateway:
            known.setdefault(self.claims.gateway)
        body = {
            "gateway": self.claims.gateway or None,
            "epoch": self.claims.epoch,
            "is_gateway": self.state == LEADING,
            "connected": list(self.claims.current.connected) if self.claims.current else [],
            "troubles": dict(self.claims.current.troubles) if self.claims.current else {},
            "candidates": sorted(candidates),
            "ranking": ranking(known, self.claims.current),
            "state": self.state,
            "priority": self.settings.priority,
            "counts": dict(self.counts),
        }
        ctx.answer(ctx.asker, Report(body))

    def on_stop_now(self, message: StopNow, ctx: Context) -> None:
        """The others learn at once that this node leads no more."""
        if self.state == LEADING:
            self._resign("this node was stopped", ctx)
        self._stood_down = True
        self._told = self._standing  # no order to stand down, and the links close
        self._enter(IDLE, 0, ctx)
        ctx.answer(ctx.asker, Stopped(self.name))

    def on_tick(self, message: Tick, ctx: Context) -> None:
        if self._generations.get(message.what) != message.generation:
            return
        if message.what == "beat":
            self._beat(ctx)
        elif message.what == "phase":
            self._phase_over(ctx)
        elif message.what == "watch":
            self._watch(ctx)
        elif message.what == "stand":
            self._stood_down = False
            if self.state == IDLE:
                self._elect("this node may lead again", ctx)

    # --- the three messages of the algorithm ---------------------------------------------------

    def _hear(self, sender: str, message: Message, ctx: Context) -> None:
        if isinstance(message, Election) and message.rank.node_id == sender:
            self._hear_election(sender, message, ctx)
        elif isinstance(message, Coordinator) and message.claim.gateway == sender:
            self._consider(message.claim, ctx)
        elif isinstance(message, Standing) and message.rank.node_id == sender:
            self._standings[sender] = message
        elif isinstance(message, Alive) and self.claims.see_epoch(message.epoch):
            if self.state == ELECTING:
                self._enter(PENDING, COORDINATOR_WAIT_SECONDS, ctx)
        else:
            self.count(Reason.MALFORMED)

    def _hear_election(self, sender: str, message: Election, ctx: Context) -> None:
        if self.state == LEADING:
            self._answer_as_leader(sender, message, ctx)
            return
        why = f"{sender} has asked for an election"
        if self._follows(sender):
            why = f"{sender} leads no more, by its own word"
            # a gateway that asks for an election leads no more
            self._drop_claim(why, ctx)
        if not self._eligible or message.rank.better(self._rank):
            if self.claims.current is None and self.state in (IDLE, FOLLOWING):
                self._enter(PENDING, COORDINATOR_WAIT_SECONDS, ctx)
            return
        self._to_peer(sender, Alive(self.claims.epoch_seen), ctx)
        if self.claims.current is not None and not self._stale(ctx):
            ctx.tell("sync", ClaimToSend(self.claims.current, True))
        elif self.state not in (ELECTING, PENDING):
            self._drop_claim(why, ctx)
            self._elect(why, ctx)

    def _answer_as_leader(self, sender: str, message: Election, ctx: Context) -> None:
        """A better node that knows of us and asks for a higher epoch is taking over: let it."""
        # counted up because the sender may have taken this claim for dead at its present beat
        claim = self.claims.count_up(self._rank)
        if message.epoch <= claim.epoch or not message.rank.better(claim.rank):
            self._to_peer(sender, Coordinator(claim), ctx)

    def _consider(self, claim: Claim, ctx: Context) -> Verdict:
        """Follow ``claim``, take its newer beat, or leave it."""
        verdict = self.claims.judge(claim)
        if verdict is Verdict.OUTBIDS:
            self._follow(claim, ctx)
        elif verdict is Verdict.NEWER_BEAT:
            self._refresh(claim, ctx)
        elif verdict is Verdict.ECHO:
            self._hear_echo(ctx)
        elif verdict is Verdict.MALFORMED:
            self.count(Reason.MALFORMED)
        elif verdict is not Verdict.OLD:
            self.count(Reason.STALE_EPOCH)
        return verdict

    def _hear_echo(self, ctx: Context) -> None:
        """A claim of an earlier life of this node: only a newer epoch outbids it."""
        mine = self.claims.current
        if self.state == LEADING and mine is not None and self.claims.epoch_seen > mine.epoch:
            self._why = "others told of a claim of an earlier life of this node"
            self._lead(self.claims.next_epoch(), ctx)

    # --- changes of state ------------------------------------------------------------------------

    def _elect(self, why: str, ctx: Context) -> None:
        self._why = why
        if not self._eligible:
            self._enter(FOLLOWING if self.claims.current else IDLE, 0, ctx)
            return
        self._enter(ELECTING, ALIVE_WAIT_SECONDS, ctx)
        self._to_peer("", Election(self.claims.next_epoch(), self._rank), ctx)

    def _lead(self, epoch: int, ctx: Context) -> None:
        """Claim ``epoch``. The beat begins at the wall clock's seconds, above any beat of an earlier life."""
        beat = max(0, ctx.now_ms() // 1000)
        self.claims.current = Claim(epoch, self._rank, beat, self.claims.connected, self.claims.troubles)
        self.claims.see_epoch(epoch)
        self._enter(LEADING, 0, ctx)
        self._arm("beat", CLAIM_SECONDS, ctx)
        self._to_peer("", Coordinator(self.claims.current), ctx)
        self._announce(ctx, now=True)

    def _follow(self, claim: Claim, ctx: Context) -> None:
        starting = self.state == STARTING
        self._why = self._outbids(claim)
        self.claims.current = claim
        self._heard_at, self._suspect_at = ctx.monotonic(), None
        self._rivalry.forget()
        if not starting:
            self._enter(FOLLOWING, 0, ctx)
        self._announce(ctx, now=True)
        self._watch(ctx)

    def _refresh(self, claim: Claim, ctx: Context) -> None:
        """The gateway lives, as sync knows already. How fit it is may have changed, or this node."""
        self.claims.current = claim
        self._heard_at, self._suspect_at = ctx.monotonic(), None
        if self.state == FOLLOWING:
            mine = self._rank if self._eligible else None
            if self._rivalry.wins(mine, claim.rank, self.settings.takeover_delay, ctx):
                self._elect(_took_over(self._rank, claim.rank), ctx)
            self._rivalry.prove(mine, claim.rank, ctx)

    def _drop_claim(self, why: str, ctx: Context) -> None:
        """Take the present claim for dead."""
        if self.claims.current is not None:
            self._why = why
            self.claims.bury()
            self._suspect_at = None
            self._rivalry.forget()
            self._announce(ctx, now=False)

    def _give_up(self, why: str, ctx: Context) -> None:
        """Lead no more, stand no more; a node that is fit shall elect at once."""
        if self.state == LEADING:
            self._resign(why, ctx)
        if self.state != FOLLOWING:
            self._enter(FOLLOWING if self.claims.current else IDLE, 0, ctx)

    def _resign(self, why: str, ctx: Context) -> None:
        self._enter(IDLE, 0, ctx)
        self._drop_claim(why, ctx)
        self._to_peer("", Election(self.claims.epoch_seen, replace(self._rank, resolvable=-1, reach=-1)), ctx)

    def _rank_changed(self, ctx: Context) -> None:
        if self.state == LEADING:
            self.claims.count_up(self._rank)
            self._announce(ctx, now=True)

    # --- time ------------------------------------------------------------------------------------

    def _beat(self, ctx: Context) -> None:
        if self.state == LEADING:
            self._arm("beat", CLAIM_SECONDS, ctx)
            self._audit.tend(ctx)
            ctx.tell("sync", ClaimToSend(self.claims.count_up(self._rank), False))

    def _phase_over(self, ctx: Context) -> None:
        """The phase ends: the messages that it waited for have not come."""
        if self.state == STARTING and self.claims.current is not None:
            self._enter(FOLLOWING, 0, ctx)
            if (
                self.claims.current.epoch == 1
                and self._eligible
                and self._rank.better(self.claims.current.rank)
            ):
                # a cluster that is just starting: the order of starting shall not matter
                self._why = f"the cluster starts: {compared(self._rank, self.claims.current.rank)}"
                self._lead(1, ctx)
        elif self.state == ELECTING:
            self._lead(self.claims.next_epoch(), ctx)
        elif self.state == PENDING and self.claims.current is not None:
            self._enter(FOLLOWING, 0, ctx)
        elif self.state in (STARTING, PENDING):
            self._elect(self._why, ctx)

    def _watch(self, ctx: Context) -> None:
        """Expire the followed claim when its time is up, else look again when it may be."""
        if self.claims.current is None or self.state == LEADING:
            return
        left = self._deadline() - ctx.monotonic()
        if left > 0:
            self._arm("watch", left, ctx)
            return
        lost = ", and its link is gone" if self._suspect_at is not None and self._peers else ""
        silent = ctx.monotonic() - self._heard_at
        why = f"{self.claims.gateway} gave no sign of life for {silent:.1f} s{lost}"
        self._drop_claim(why, ctx)
        if self.state not in (STARTING, ELECTING):
            self._elect(why, ctx)

    def _deadline(self) -> float:
        """The moment at which this node gives the gateway up. A node without any link waits longer: it is
        more likely the cause than a witness."""
        still = self._heard_at + self.settings.gateway_timeout
        return min(still, self._suspect_at) if self._suspect_at is not None and self._peers else still

    def _stale(self, ctx: Context) -> bool:
        """Whether there is a doubt about the followed gateway that a second node's doubt confirms."""
        return self._suspect_at is not None or ctx.monotonic() - self._heard_at > LOST_LINK_SECONDS

    # --- small things ------------------------------------------------------------------------------

    @property
    def _elects_nobody(self) -> bool:
        return self.settings.role == "cloud"

    @property
    def _eligible(self) -> bool:
        return not (self._elects_nobody or self._stood_down or self._paused)

    @property
    def _rank(self) -> Rank:
        fit, settings = self._fitness, self.settings
        return Rank(fit.resolvable, settings.priority, settings.node_id, fit.reach)

    @property
    def _standing(self) -> Standing:
        hindrance = Reason.STOOD_DOWN if self._stood_down else Reason.PAUSED if self._paused else None
        return Standing(self._rank, "" if hindrance is None else hindrance.value)

    def _outbids(self, claim: Claim) -> str:
        before = self.claims.current
        if before is None:
            return "it led already when this node came" if self.state == STARTING else self._why
        if claim.epoch > before.epoch and claim.rank.better(before.rank):
            return _took_over(claim.rank, before.rank)
        if claim.epoch > before.epoch:
            return f"it claims epoch {claim.epoch}, {before.gateway} epoch {before.epoch}"
        return f"of two that claim epoch {claim.epoch}: {compared(claim.rank, before.rank)}"

    def _follows(self, node_id: str) -> bool:
        return self.state != LEADING and self.claims.gateway == node_id

    def _enter(self, state: str, seconds: float, ctx: Context) -> None:
        """Change the state; after ``seconds`` (0: never) its phase is over."""
        self.state = state
        if seconds > 0:
            self._arm("phase", seconds, ctx)
        else:
            self._generations["phase"] = self._generations.get("phase", 0) + 1

    def _arm(self, what: str, seconds: float, ctx: Context) -> None:
        generation = self._generations[what] = self._generations.get(what, 0) + 1
        ctx.after(seconds, Tick(what, generation))

    def _announce(self, ctx: Context, *, now: bool) -> None:
        """Heartbeats carry the new claim; node hears who is gateway if that has changed."""
        ctx.tell("sync", ClaimToSend(self.claims.current, now))
        self._announced_at = ctx.monotonic()
        outcome = self.claims.epoch, self.claims.gateway
        if outcome != self._outcome:
            self._outcome = outcome
            ctx.tell("node", ElectionOutcome(*outcome, self._why))
            if self.claims.gateway:
                self._audit.tell(
                    ctx, Event.LEADER, self.claims.gateway, f"epoch {self.claims.epoch}: {self._why}"
                )

    def _to_peer(self, node_id: str, message: Message, ctx: Context) -> None:
        ctx.tell("sync", ToPeer(node_id, codec.encode(message)))


def _took_over(rank: Rank, before: Rank) -> str:
    return f"it took over from {before.node_id}: {compared(rank, before)}"
