"""Verification between nodes: whether two nodes that say they have the same show the same.

    Ranges (64 sums) -> Ranges (64 more for each that differs) -> Items -> Copies <-> Copies

The side that begins a run asks, the other serves; both decide about their own rows by the same rule
(``storage/rules/comparing/repair.py``) and repair only those. Lives in the oplog actor, in its process.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from entgldb.actors.alarms import alarm
from entgldb.actors.behaviour import WARNING, Context
from entgldb.actors.oplog.verify_run import Outcome, PeerState, Run, Serving
from entgldb.actors.oplog.walker import Listing, Walker
from entgldb.actors.ports import Fingerprints, LogReader
from entgldb.messages import wire
from entgldb.messages.codec import decode, encode
from entgldb.messages.errors import NotFoundError, ProtocolError, Reason
from entgldb.messages.limits import BATCH_BYTES_MAX, FRAME_BYTES_MAX
from entgldb.messages.local.actors import SessionEnded, Tick
from entgldb.messages.local.verification import Repair, Repaired, VerifyHeard, VerifyPeer, VerifySay
from entgldb.messages.model import SYSTEM_PREFIX, Place, Vector
from entgldb.messages.schema import Channel, Json, Message
from entgldb.storage.rules.comparing import large_copies, reconcile
from entgldb.storage.rules.comparing.repair import Decision, covers_copy

ITEMS_MAX: Final = 10_000
"""Items listed in one pass: 160 KB of frame, some 5 MB of memory."""
ANSWERED_MAX: Final = 10_000
"""Documents listed at a time for a peer, whatever it asks for."""
COPIES_MAX: Final = 512
"""Rows shown in one message."""
ANSWER_WAIT: Final = 120.0
"""Seconds a peer may take for a step: it may have to walk many documents."""
FRESH_PAUSE: Final = 5.0
"""Seconds between two walks of all documents at the wish of one peer."""
FRESH_EVERY: Final = 6
"""One run in so many walks the documents although the log has not moved."""


class Verifier:
    """All runs of a node, those it began and those it serves."""

    def __init__(
        self,
        log: LogReader,
        documents: Fingerprints,
        count: Callable[[Reason, int], None],
        *,
        in_cloud: bool = False,
    ) -> None:
        self._log, self._in_cloud = log, in_cloud
        self._documents = documents
        self._count = count
        self.walker = Walker(documents, log.last_lsn)
        self._peers: dict[str, PeerState] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._numbers = 0
        self._rounds = 0
        self._wanted = False
        """A run with the next that comes, until one has ended with somebody who has all that we have."""

    # --- who is there ---------------------------------------------------------------------------

    def on_verify_peer(self, message: VerifyPeer, ctx: Context) -> None:
        """A session is open."""
        if message.session not in self._peers:
            self._peers[message.session] = PeerState(message)
            if self._wanted:
                self._begin(self._peers[message.session], ctx, fresh=True, repair=True)

    def name_of(self, session: str) -> str:
        """The node at the other end of a session, where it has been told."""
        state = self._peers.get(session)
        return "" if state is None else state.peer.node_id

    def ended(self, message: SessionEnded, ctx: Context) -> None:
        """Sessions are over, and their runs with them."""
        for session in [name for name in self._peers if message.covers(name)]:
            state = self._peers.pop(session)
            if state.walk is not None:
                self.walker.leave(state.walk)
            if state.run is not None:
                self._outcome(state).record(state.run, state, ctx.now_ms(), "peer-offline")

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
        """Begin with everybody, and with whoever comes, until a run has ended with one that has all that we
        have.
        """
        self._wanted = True
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

    def _has_all(self, peer: VerifyPeer) -> bool:
        """A cloud has no configuration: what a snapshot from it lacks only a node of the LAN brings."""
        return self._in_cloud or not peer.cloud

    # --- time --------------------------------------------------------------------------------------

    def tick(self, message: Tick, ctx: Context) -> None:
        """One of our own timers."""
        if message.what == "walk":
            self.walker.step(ctx)
            return
        if message.what == "verify-put-off":
            for state in self._peers.values():
                if state.put_off:
                    self._sum_for(state, True, ctx)
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

    def on_verify_heard(self, message: VerifyHeard, ctx: Context) -> None:
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
        run, serving = state.run, state.serving
        match frame:
            case wire.Ranges(answer=False):
                state.serving = Serving(frame)
                state.pieces.clear()
                if not state.summing:
                    state.summing = True
                    self._sum_for(state, frame.fresh, ctx)
            case wire.Ranges() if run is not None and run.number == frame.run:
                self._list(state, run, frame, ctx)
            case wire.Items() if serving is not None and serving.number == frame.run:
                self._serve(state, serving, frame, ctx)
            case wire.CopyPiece(answer=False) if run is not None and run.number == frame.run:
                self._gather(state, frame.payload)
            case wire.CopyPiece(answer=True) if serving is not None and serving.number == frame.run:
                self._gather(state, frame.payload)
            case wire.Copies(answer=False) if run is not None and run.number == frame.run:
                self._compare_copies(state, run, frame, ctx)
            case wire.Copies(answer=True) if serving is not None and serving.number == frame.run:
                copies, pieces = self._rows(state, frame)
                self._mend(state, frame, copies, (), pieces, frame.repair, ctx)
            case _:
                state.pieces.clear()
                self._count(Reason.OUT_OF_ORDER, 1)

    def _sum_for(self, state: PeerState, fresh: bool, ctx: Context) -> None:
        """A peer that wants one walk after the other waits; what it is told then is still exact."""
        wait = state.fresh_from - ctx.monotonic() if fresh else 0.0
        state.put_off = wait > 0
        if state.put_off:
            ctx.after(wait, Tick("verify-put-off"))
            return
        if fresh:
            state.fresh_from = ctx.monotonic() + FRESH_PAUSE
        self.walker.sum(partial(self._compare, state), ctx, fresh=fresh)

    def _compare(self, state: PeerState, ctx: Context) -> None:
        """Level 1: say which ranges differ, and level 2 of them."""
        state.summing = False
        assert state.serving is not None  # it has asked
        asked = state.serving.asked
        table = self._table(state)
        tops = reconcile.differing_tops(table, asked.sums)
        sums = b"".join(reconcile.pack_sums(table.within(top)) for top in tops)
        self._say(state, wire.Ranges(asked.run, True, sums, tops, vector=self._log.vector()), ctx)

    def _list(self, state: PeerState, run: Run, told: wire.Ranges, ctx: Context) -> None:
        """Level 2: list the items of the ranges that still differ."""
        table = self._table(state)
        buckets = run.open_among(reconcile.differing_buckets(table, told.within, told.sums))
        if not buckets:
            self._pass_is_over(state, run, ctx)
            return
        taken = reconcile.chosen(buckets, table.counts, ITEMS_MAX, run.first_bucket)
        run.take(buckets, taken)
        # whatever was counted may be far more by now: an empty node is being filled
        run.listing = Listing(taken, system=not state.peer.cloud, most=ITEMS_MAX)
        run.coming = frozenset() if told.vector is None else frozenset(self._documents.coming(told.vector))
        self.walker.list(run.listing, partial(self._send_items, state, run), ctx)

    def _send_items(self, state: PeerState, run: Run, ctx: Context) -> None:
        if state.run is run and run.listing is not None:
            keys = run.listing.keys
            waits = b"".join(place for place, key in keys.items() if key in run.coming and place > run.after)
            items = reconcile.pack_items(run.listing.items)
            buckets = tuple(sorted(run.listing.buckets))
            asked = wire.Items(run.number, buckets, items, run.after, self._log.vector(), waits)
            self._say(state, asked, ctx)

    def _serve(self, state: PeerState, serving: Serving, asked: wire.Items, ctx: Context) -> None:
        listing = serving.listing
        if state.walk is not None:
            self.walker.leave(state.walk)
        page = listing is not None and listing.buckets == frozenset(asked.buckets)
        if listing is not None and page and (not listing.through or asked.after < listing.through):
            self._show(state, serving, asked, ctx)
            return
        theirs = {place for place, _ in reconcile.unpack_items(asked.items)}
        system = not state.peer.cloud
        listing = Listing(asked.buckets, system=system, most=ANSWERED_MAX, after=asked.after, also=theirs)

        def listed(ctx: Context) -> None:
            state.walk, serving.listing = None, listing
            items = listing.items
            serving.places = reconcile.differing_places(items, asked.items, asked.after, listing.through)
            if state.serving is serving:
                self._show(state, serving, asked, ctx)

        state.walk = self.walker.list(listing, listed, ctx)

    def _show(self, state: PeerState, serving: Serving, asked: wire.Items, ctx: Context) -> None:
        """Our rows of the places that differ, as many as fit."""
        listing = serving.listing
        assert listing is not None
        first = bisect_right(serving.places, asked.after)
        places = serving.places[first : first + COPIES_MAX]
        through = places[-1] if first + COPIES_MAX < len(serving.places) else listing.through
        # before the rows: what the vector covers has then done its work on them
        vector = self._log.vector()
        waits = set(reconcile.unpack_places(asked.waits))
        told = [listing.keys[place] for place in places if place in listing.keys]
        shown, whole = _bounded(self._copies(told, asked.vector, waits))
        if not whole:
            through = reconcile.place_of(shown[-1].collection, shown[-1].key)
            places = [place for place in places if place <= through]
        have = {reconcile.place_of(copy.collection, copy.key) for copy in shown} | waits
        unknown = b"".join(place for place in places if place not in have)
        put_off = b"".join(place for place in places if place in waits)
        self._say_rows(
            state, wire.Copies(asked.run, False, vector, tuple(shown), unknown, through, waits=put_off), ctx
        )

    def _copies(self, keys: Iterable[Place], theirs: Vector | None, waits: set[bytes]) -> Iterator[wire.Copy]:
        """Our rows of these keys; of those that an entry is still to change, here or there, the places alone,
        in ``waits``.

        Such a row decides nothing, and on a slow line would keep back the very entries that it waits for.
        """
        coming: set[Place] | None = None
        waits |= {reconcile.place_of(*key) for key in self._documents.waiting()}
        for copy in self._documents.copies(key for key in keys if reconcile.place_of(*key) not in waits):
            place = (copy.collection, copy.key)
            waiting = theirs is not None and not covers_copy(theirs, copy)
            if theirs is not None and copy.stamps is not None and not waiting:
                coming = self._documents.coming(theirs) if coming is None else coming
                waiting = place in coming
            if waiting:
                waits.add(reconcile.place_of(*place))
            else:
                yield copy

    def _say_rows(self, state: PeerState, frame: wire.Copies, ctx: Context) -> None:
        """A row that is too large for a frame goes in pieces before it; it is alone then."""
        if len(frame.copies) == 1 and large_copies.is_large(frame.copies[0]):
            for piece in large_copies.apart(frame.copies[0]):
                self._say(state, wire.CopyPiece(frame.run, frame.answer, piece), ctx)
            frame = replace(frame, copies=())
        self._say(state, frame, ctx)

    def _gather(self, state: PeerState, piece: bytes) -> None:
        state.pieces.append(piece)
        many = len(state.pieces) > large_copies.PIECES_MAX
        if many or sum(map(len, state.pieces)) > large_copies.BYTES_MAX:
            self._count(Reason.TOO_LARGE, 1)
            state.pieces.clear()

    def _compare_copies(self, state: PeerState, run: Run, told: wire.Copies, ctx: Context) -> None:
        """Decide about our rows, and show them, so that the other side can decide about its own."""
        keys = run.listing.keys if run.listing is not None else {}
        absent = tuple(keys[place] for place in reconcile.unpack_places(told.unknown) if place in keys)
        run.put_off(keys.get(place, place) for place in reconcile.unpack_places(told.waits))
        # one that does not get on is at its end
        run.after = told.through if told.through > run.after else b""
        vector = self._log.vector()
        copies, pieces = self._rows(state, told)
        keys_of_both = [*((copy.collection, copy.key) for copy in copies), *absent]
        shown, _ = _bounded(self._copies(keys_of_both, told.vector, set()))
        answer = wire.Copies(run.number, True, vector, tuple(shown), repair=run.repair)
        self._mend(state, told, copies, absent, pieces, run.repair, ctx)
        self._say_rows(state, answer, ctx)

    def _rows(self, state: PeerState, told: wire.Copies) -> tuple[tuple[wire.Copy, ...], tuple[bytes, ...]]:
        """The rows that a frame shows, and the pieces of the one of them that came in pieces."""
        pieces = tuple(state.pieces)
        state.pieces.clear()
        try:
            return (*told.copies, *([large_copies.together(pieces)] if pieces else ())), pieces
        except ProtocolError:
            self._count(Reason.MALFORMED, 1)
            return told.copies, ()

    def _mend(
        self,
        state: PeerState,
        told: wire.Copies,
        copies: tuple[wire.Copy, ...],
        absent: tuple[tuple[str, str], ...],
        pieces: tuple[bytes, ...],
        write: bool,
        ctx: Context,
    ) -> None:
        """``copies``: of which the last came in ``pieces``, if there are any."""
        if state.peer.cloud and any(copy.collection.startswith(SYSTEM_PREFIX) for copy in copies):
            self._count(Reason.NOT_ALLOWED, 1)
            if pieces and copies[-1].collection.startswith(SYSTEM_PREFIX):
                pieces = ()
        shown = tuple(
            copy
            for copy in told.copies
            if not (state.peer.cloud and copy.collection.startswith(SYSTEM_PREFIX))
        )
        session = state.peer.session
        ctx.tell("store", Repair(session, told.answer, told.vector, shown, absent, write, pieces))

    # --- what came of it -------------------------------------------------------------------------

    def on_repaired(self, message: Repaired, ctx: Context) -> None:
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
        outcome.record(run, state, ctx.now_ms(), result)
        state.run = None
        self._wanted = self._wanted and not (result == "" and self._has_all(state.peer))
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


def _bounded(copies: Iterable[wire.Copy]) -> tuple[list[wire.Copy], bool]:
    """The first of them that fit into a batch, at least one; whether that is all of them."""
    shown: list[wire.Copy] = []
    size = 0
    for copy in copies:
        size += large_copies.size_of(copy)
        if shown and size > BATCH_BYTES_MAX:
            return shown, False
        shown.append(copy)
    return shown, True
