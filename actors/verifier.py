"""Verification between nodes: whether two nodes that say they have the same show the same.

    Ranges (64 sums) -> Ranges (64 more for each that differs) -> Items -> Copies <-> Copies

The side that begins a run asks, the other serves; both decide about their own rows by the same rule
(``storage/rules/repair.py``) and repair only those. Lives in the oplog actor, in its process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from entgldb.actors.alarms import alarm
from entgldb.actors.behaviour import WARNING, Context
from entgldb.actors.ports import Fingerprints, OplogReader
from entgldb.actors.verify_run import Outcome, PeerState, Run, Serving
from entgldb.actors.walker import Listing, Walker
from entgldb.messages import wire
from entgldb.messages.checking import Repair, Repaired, VerifyHeard, VerifyPeer, VerifySay
from entgldb.messages.codec import decode, encode
from entgldb.messages.errors import NotFoundError, ProtocolError, Reason
from entgldb.messages.limits import BATCH_BYTES_MAX, FRAME_BYTES_MAX
from entgldb.messages.local import SessionEnded, Tick
from entgldb.messages.model import SYSTEM_PREFIX
from entgldb.messages.schema import Channel, Json, Message
from entgldb.storage.rules import reconcile
from entgldb.storage.rules.repair import Decision

ITEMS_MAX: Final = 50_000
"""Items listed in one pass: 800 KB of frame, a few MB of memory."""
COPIES_MAX: Final = 512
"""Rows shown in one message."""
ANSWER_WAIT: Final = 120.0
"""Seconds a peer may take for a step: it may have to walk many documents."""
FRESH_EVERY: Final = 6
"""Of so many runs by themselves one walks the documents although the log has not moved."""


class Verifier:
    """All runs of a node, those it began and those it serves."""

    def __init__(
        self, log: OplogReader, documents: Fingerprints, count: Callable[[Reason, int], None]
    ) -> None:
        self._log = log
        self._documents = documents
        self._count = count
        self.walker = Walker(documents, log.last_lsn)
        self._peers: dict[str, PeerState] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._numbers = 0
        self._rounds = 0
        self._wanted = False
        """A run with whoever comes next, too: nobody was there when it was asked for."""

    # --- who is there ---------------------------------------------------------------------------

    def peer(self, message: VerifyPeer, ctx: Context) -> None:
        """A session is open."""
        if message.session not in self._peers:
            self._peers[message.session] = PeerState(message)
            if self._wanted:
                self._wanted = False
                self.begin("", ctx, fresh=True, repair=True)

    def name_of(self, session: str) -> str:
        """The node at the other end of a session, where it has been told."""
        state = self._peers.get(session)
        return "" if state is None else state.peer.node_id

    def ended(self, message: SessionEnded, ctx: Context) -> None:
        """Sessions are over, and their runs with them."""
        for session in [name for name in self._peers if message.covers(name)]:
            state = self._peers.pop(session)
            if state.run is not None:
                self._outcome(state).take(state.run, state, ctx.now_ms(), "peer-offline")

    # --- beginning -------------------------------------------------------------------------------

    def round(self, ctx: Context) -> None:
        """Every interval: the smaller node id begins, towards a cloud the gateway."""
        self._rounds += 1
        fresh = self._rounds % FRESH_EVERY == 0
        for state in self._peers.values():
            if state.peer.begins and state.run is None:
                self._begin(state, ctx, fresh=fresh, repair=True)

    def begin(self, node_id: str, ctx: Context, *, fresh: bool, repair: bool) -> dict[str, int]:
        """Begin a run with a peer, or with all; node id -> number of the run.

        Raises NotFoundError where there is no session with it, or with one that knows verification.
        """
        found = [state for state in self._peers.values() if node_id in ("", state.peer.node_id)]
        if node_id and not found:
            raise NotFoundError(f"{node_id:.80} is not linked now, or does not verify", hint="entgldb status")
        for state in found:
            self._begin(state, ctx, fresh=fresh, repair=repair)
        return {state.peer.node_id: state.run.number for state in found if state.run is not None}

    def wish(self, ctx: Context) -> None:
        """Begin with everybody, or with the first that comes."""
        self._wanted = not self._peers
        self.begin("", ctx, fresh=True, repair=True)

    def _begin(self, state: PeerState, ctx: Context, *, fresh: bool, repair: bool) -> None:
        self._numbers += 1
        state.run, state.bytes = Run(self._numbers, fresh=fresh, repair=repair), 0
        self._pass(state, state.run, ctx)

    def _pass(self, state: PeerState, run: Run, ctx: Context) -> None:
        run.begin_pass()
        fresh = run.fresh and run.passes == 1
        self.walker.sum(partial(self._ask, state, run, fresh), ctx, fresh=fresh)

    def _ask(self, state: PeerState, run: Run, fresh: bool, ctx: Context) -> None:
        if state.run is run:
            sums = reconcile.pack_sums(self._table(state).top())
            self._say(state, wire.Ranges(run.number, False, sums, fresh=fresh), ctx)
            if run.passes == 1:
                state.heard_at = ctx.monotonic()
                ctx.after(ANSWER_WAIT, Tick("verify-wait", run.number))

    # --- time --------------------------------------------------------------------------------------

    def tick(self, message: Tick, ctx: Context) -> None:
        """One of our own timers."""
        if message.what == "walk":
            self.walker.step(ctx)
            return
        for state in self._peers.values():
            run = state.run
            if run is None or run.number != message.generation:
                continue
            if message.what == "verify-again":
                self._pass(state, run, ctx)
            elif ctx.monotonic() - state.heard_at >= ANSWER_WAIT:
                self._end(state, run, ctx, "no-answer")
                break
            else:
                ctx.after(ANSWER_WAIT, message)

    # --- what the peer says ---------------------------------------------------------------------

    def heard(self, message: VerifyHeard, ctx: Context) -> None:
        """One frame of a peer."""
        state = self._peers.get(message.session)
        if state is None:
            self._count(Reason.OUT_OF_ORDER, 1)
            return
        try:
            frame = decode(message.payload, Channel.PEER).message
        except ProtocolError:
            self._count(Reason.MALFORMED, 1)
            return
        state.bytes += len(message.payload)
        state.heard_at = ctx.monotonic()
        self._take(state, frame, ctx)

    def _take(self, state: PeerState, frame: Message, ctx: Context) -> None:
        run = state.run
        match frame:
            case wire.Ranges(answer=False):
                state.serving = Serving(frame.run)
                self.walker.sum(partial(self._compare, state, frame), ctx, fresh=frame.fresh)
            case wire.Ranges() if run is not None and run.number == frame.run:
                self._list(state, run, frame, ctx)
            case wire.Items() if state.serving is not None and state.serving.number == frame.run:
                self._serve(state, state.serving, frame, ctx)
            case wire.Copies(answer=False) if run is not None and run.number == frame.run:
                self._compare_copies(state, run, frame, ctx)
            case wire.Copies(answer=True) if state.serving is not None and state.serving.number == frame.run:
                self._mend(state, frame, (), frame.repair, ctx)
            case _:
                self._count(Reason.OUT_OF_ORDER, 1)

    def _compare(self, state: PeerState, asked: wire.Ranges, ctx: Context) -> None:
        """Level 1: say which ranges differ, and level 2 of them."""
        table = self._table(state)
        tops = reconcile.differing_tops(table, asked.sums)
        sums = b"".join(reconcile.pack_sums(table.within(top)) for top in tops)
        self._say(state, wire.Ranges(asked.run, True, sums, tops), ctx)

    def _list(self, state: PeerState, run: Run, told: wire.Ranges, ctx: Context) -> None:
        """Level 2: list the items of the ranges that still differ."""
        table = self._table(state)
        buckets = reconcile.differing_buckets(table, told.within, told.sums)
        if not run.repair:
            buckets = [bucket for bucket in buckets if bucket not in run.handled]
        if not buckets:
            self._pass_is_over(state, run, ctx)
            return
        taken = reconcile.chosen(buckets, table.counts, ITEMS_MAX, run.first_bucket)
        run.left = len(taken) < len(buckets)
        run.first_bucket = taken[-1] + 1
        run.handled |= set(taken)
        run.listing = Listing(taken, system=not state.peer.cloud)
        self.walker.list(run.listing, partial(self._send_items, state, run), ctx)

    def _send_items(self, state: PeerState, run: Run, ctx: Context) -> None:
        if state.run is run and run.listing is not None:
            items = reconcile.pack_items(run.listing.items)
            buckets = tuple(sorted(run.listing.buckets))
            self._say(state, wire.Items(run.number, buckets, items, run.after), ctx)

    def _serve(self, state: PeerState, serving: Serving, asked: wire.Items, ctx: Context) -> None:
        if serving.listing is None or serving.listing.buckets != frozenset(asked.buckets):
            serving.listing = Listing(asked.buckets, system=not state.peer.cloud)
            self.walker.list(serving.listing, partial(self._show, state, serving, asked), ctx)
        else:
            self._show(state, serving, asked, ctx)

    def _show(self, state: PeerState, serving: Serving, asked: wire.Items, ctx: Context) -> None:
        """Our rows of the places that differ, as many as fit."""
        listing = serving.listing
        if state.serving is not serving or listing is None:
            return
        places = reconcile.differing_places(listing.items, asked.items, asked.after)
        through = places[COPIES_MAX - 1] if len(places) > COPIES_MAX else b""
        places = places[:COPIES_MAX]
        # before the rows: what the vector covers has then done its work on them
        vector = self._log.vector()
        waits = {reconcile.place_of(*key) for key in self._documents.waiting()}
        told = [place for place in places if place in listing.keys and place not in waits]
        copies = self._documents.copies([listing.keys[place] for place in told])
        shown = _bounded(copies)
        if len(shown) < len(copies):
            through = reconcile.place_of(shown[-1].collection, shown[-1].key)
            places = [place for place in places if place <= through]
        have = {reconcile.place_of(copy.collection, copy.key) for copy in shown} | waits
        unknown = b"".join(place for place in places if place not in have)
        put_off = b"".join(place for place in places if place in waits)
        answer = wire.Copies(asked.run, False, vector, tuple(shown), unknown, through, waits=put_off)
        self._say(state, answer, ctx)

    def _compare_copies(self, state: PeerState, run: Run, told: wire.Copies, ctx: Context) -> None:
        """Decide about our rows, and show them, so that the other side can decide about its own."""
        keys = run.listing.keys if run.listing is not None else {}
        absent = tuple(keys[place] for place in reconcile.unpack_places(told.unknown) if place in keys)
        run.put_off(keys[place] for place in reconcile.unpack_places(told.waits) if place in keys)
        run.after = told.through
        vector = self._log.vector()
        shown = _bounded(self._documents.copies([(c.collection, c.key) for c in told.copies] + [*absent]))
        answer = wire.Copies(run.number, True, vector, tuple(shown), repair=run.repair)
        self._mend(state, told, absent, run.repair, ctx)
        self._say(state, answer, ctx)

    def _mend(
        self,
        state: PeerState,
        told: wire.Copies,
        absent: tuple[tuple[str, str], ...],
        write: bool,
        ctx: Context,
    ) -> None:
        copies = told.copies
        if state.peer.cloud and any(copy.collection.startswith(SYSTEM_PREFIX) for copy in copies):
            self._count(Reason.NOT_ALLOWED, 1)
            copies = tuple(copy for copy in copies if not copy.collection.startswith(SYSTEM_PREFIX))
        session = state.peer.session
        ctx.tell("store", Repair(session, told.answer, told.vector, copies, absent, write))

    # --- what came of it -------------------------------------------------------------------------

    def repaired(self, message: Repaired, ctx: Context) -> None:
        """The store has decided, and replaced what it had to."""
        state = self._peers.get(message.session)
        if state is None:
            return
        words = [Decision(word) for word in message.decisions]
        self._outcome(state).repaired_here += words.count(Decision.TAKE) if not message.refused else 0
        if words.count(Decision.UNDECIDED):
            self._count(Reason.UNDECIDED, words.count(Decision.UNDECIDED))
        run = state.run
        if message.answer or run is None:
            return
        run.note(message.places, message.decisions)
        if message.refused:
            self._end(state, run, ctx, message.refused)
        elif run.after:
            self._send_items(state, run, ctx)
        else:
            self._pass_is_over(state, run, ctx)

    def _pass_is_over(self, state: PeerState, run: Run, ctx: Context) -> None:
        pause = run.again()
        if pause is None:
            self._end(state, run, ctx)
        else:
            ctx.after(pause, Tick("verify-again", run.number))

    def _end(self, state: PeerState, run: Run, ctx: Context, result: str = "") -> None:
        outcome = self._outcome(state)
        outcome.take(run, state, ctx.now_ms(), result)
        state.run = None
        if outcome.result not in ("equal", "waiting"):
            text = f"verify {state.peer.node_id}: {outcome.result}, {len(outcome.keys)} keys"
            ctx.log(WARNING, f"{text}, {outcome.repaired_here} repaired here since the start")

    # --- looking at it -----------------------------------------------------------------------------

    def status(self) -> dict[str, Json]:
        """Last run with each peer, and what differs."""
        running = {state.peer.node_id for state in self._peers.values() if state.run is not None}
        names = sorted(self._outcomes.keys() | {state.peer.node_id for state in self._peers.values()})
        rows = [self._outcomes.get(name, Outcome()).row(name, running=name in running) for name in names]
        return {"peers": rows, "walks": self.walker.walks}

    def alarms(self) -> list[Json]:
        """Keys that differ and that no rule decides."""
        found: list[Json] = []
        for name, outcome in sorted(self._outcomes.items()):
            undecided = sum(1 for decision in outcome.keys.values() if decision is Decision.UNDECIDED)
            if undecided and outcome.at_ms is not None:
                text = f"{undecided} keys differ on {name}, and no rule tells which is right: entgldb verify"
                found.append(alarm("undecided", name, text, outcome.at_ms))
        return found

    def _outcome(self, state: PeerState) -> Outcome:
        return self._outcomes.setdefault(state.peer.node_id, Outcome())

    def _table(self, state: PeerState) -> reconcile.Table:
        return self.walker.table(system=not state.peer.cloud)

    def _say(self, state: PeerState, message: Message, ctx: Context) -> None:
        payload = encode(message)
        if len(payload) > FRAME_BYTES_MAX:
            self._count(Reason.TOO_LARGE, 1)
            return
        state.bytes += len(payload)
        ctx.tell(state.peer.owner, VerifySay(state.peer.session, payload))


def _bounded(copies: Sequence[wire.Copy]) -> list[wire.Copy]:
    """The first of them that fit into a batch, at least one."""
    shown: list[wire.Copy] = []
    size = 0
    for copy in copies:
        size += 200 + len(copy.body or b"") + len(copy.stamps or b"") + len(copy.key)
        if shown and size > BATCH_BYTES_MAX:
            break
        shown.append(copy)
    return shown
