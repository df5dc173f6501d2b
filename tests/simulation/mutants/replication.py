"""Mistakes put into production code, to see that the simulation notices: mutants test the checker.

Each is what a tired programmer might write. None touches the simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from entgldb.actors.behaviour import Asker, Context
from entgldb.actors.election.behaviour import Bully
from entgldb.actors.gateway.behaviour import Gateway
from entgldb.actors.gateway.cloud_link import CloudLink
from entgldb.actors.node.supervision import Life, Watched
from entgldb.actors.session.inbox import Inbox
from entgldb.actors.session.outbox import Outbox
from entgldb.actors.session.staging import Stage
from entgldb.actors.session.writers import Writers
from entgldb.actors.store.behaviour import REQUESTS, StoreKeeper
from entgldb.actors.store.intake import Intake
from entgldb.actors.sync.peer_link import PeerLink
from entgldb.messages import wire
from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import Applied, Apply
from entgldb.messages.model import Entry, Vector
from entgldb.messages.schema import Message
from entgldb.storage.log import apply, writes
from entgldb.storage.log.append import Batch
from entgldb.storage.log.apply import Applier, Incoming
from entgldb.storage.log.deciding import decide
from entgldb.storage.log.held import Held
from entgldb.storage.log.read import LogQueries
from entgldb.storage.repair.incarnations import Incarnations
from entgldb.storage.rules import chain, clock, header
from entgldb.storage.rules.header import Header
from entgldb.storage.rules.merging import row
from entgldb.storage.rules.merging.stored import Stored
from entgldb.storage.rules.results import LogRow


@contextmanager
def gap_accepted() -> Iterator[None]:
    """Batches and entries out of turn are taken as if nothing were missing."""
    take, admits, link = Intake.take, Inbox.admits, chain.link

    def careless_take(self: Intake, batch: Apply, ctx: Context) -> Applied:
        self._next[batch.session] = (batch.round, batch.batch)
        return take(self, batch, ctx)

    def careless_admits(self: Inbox, batch: wire.Entries, ctx: Context) -> bool:
        self._received = batch.batch
        return admits(self, batch, ctx)

    def careless_link(header: Header, head: chain.Head) -> chain.Link:
        found = link(header, head)
        return chain.Link.NEXT if found is chain.Link.GAP else found

    with ExitStack() as stack:
        stack.enter_context(patch.object(Intake, "take", careless_take))
        stack.enter_context(patch.object(Inbox, "admits", careless_admits))
        stack.enter_context(patch.object(apply, "link", careless_link))
        yield


@contextmanager
def tie_without_origin() -> Iterator[None]:
    """Of two versions with equal clocks the later to arrive wins."""
    together = row._together

    def careless(ours: Stored, theirs: Stored) -> Stored:
        tie = ours.newest.hlc == theirs.newest.hlc and theirs.fields is None
        return theirs if tie else together(ours, theirs)

    with patch.object(row, "_together", careless):
        yield


@contextmanager
def tombstone_dropped() -> Iterator[None]:
    """A delete removes the row, so that nothing remembers how new the delete was."""
    replace = Batch.replace

    def careless(self: Batch, header: Header, text: str | None, lsn: int, before: Any) -> None:
        replace(self, header, text, lsn, before)
        if text is None:
            self.flush()
            self.connection.execute(
                "DELETE FROM _entgldb_documents WHERE collection = ? AND key = ?",
                (header.collection, header.key),
            )

    with patch.object(Batch, "replace", careless):
        yield


@contextmanager
def no_receive_rule() -> Iterator[None]:
    """The clock does not move when a foreign entry is applied."""
    with patch.object(clock, "advance", lambda last, seen: last):
        yield


@contextmanager
def acknowledge_before_commit() -> Iterator[None]:
    """A request is answered inside the transaction that does its work."""
    carry_out = StoreKeeper._carry_out

    def careless(self: StoreKeeper, message: Message, asker: Asker | None, ctx: Context) -> Message:
        answer = carry_out(self, message, asker, ctx)
        if asker is not None and REQUESTS[type(message)].answers:
            ctx.answer(asker, answer)
        return answer

    with patch.object(StoreKeeper, "_carry_out", careless):
        yield


@contextmanager
def condition_ignored() -> Iterator[None]:
    """A write is done whatever version stands."""
    with patch.object(decide, "_check", lambda *looked_at: None):
        yield


@contextmanager
def update_of_nothing() -> Iterator[None]:
    """An update begins with an empty document, whatever stands."""
    with patch.object(decide, "_read", lambda text: {}):
        yield


@contextmanager
def link_kept() -> Iterator[None]:
    """A node that leads no more keeps its cloud links."""
    fault = Gateway._fault

    def careless(self: Gateway, link: CloudLink) -> Reason | None:
        found = fault(self, link)
        return None if found is Reason.NOT_GATEWAY else found

    with patch.object(Gateway, "_fault", careless):
        yield


@contextmanager
def cursor_before_ack() -> Iterator[None]:
    """A sent entry counts as one that the peer has.

    The cursor of a session is never stored here, so the mistake is made where it would be felt: a new
    round begins behind what was sent instead of at what the peer says it has.
    """
    ship, begin = Outbox._ship, Outbox.begin

    def careless_ship(self: Outbox, *batch: Any) -> bool:
        if self.peer is not None:
            self.peer |= self._shipped
        return ship(self, *batch)

    def careless_begin(
        self: Outbox, round_: int, vector: Vector, held: Mapping[str, int], ctx: Context
    ) -> None:
        sent = self.peer or {}
        said = {origin: (max(seq, sent.get(origin, 0)), head) for origin, (seq, head) in vector.items()}
        begin(self, round_, said, held, ctx)

    with patch.object(Outbox, "_ship", careless_ship), patch.object(Outbox, "begin", careless_begin):
        yield


@contextmanager
def retry_without_request_id() -> Iterator[None]:
    """A request that comes again is work to be done again."""
    write = StoreKeeper.write

    def careless(
        self: StoreKeeper,
        request: RequestId,
        writes: tuple[Write, ...],
        ctx: Context,
        *,
        system: bool = False,
    ) -> Message:
        return write(self, RequestId(ctx.random.randbytes(16), 0), writes, ctx, system=system)

    with patch.object(StoreKeeper, "write", careless):
        yield


@contextmanager
def header_without_body_digest() -> Iterator[None]:
    """Headers name no body, and nobody looks whether a body is the one its header names."""
    digest = header.digest

    def careless_header(*fields: Any) -> Header:
        made = Header(*fields)
        return made._replace(body_sha256=digest(b"") if made.body_sha256 else b"")

    with ExitStack() as stack:
        stack.enter_context(patch.object(writes, "Header", careless_header))
        stack.enter_context(patch.object(header, "digest", lambda body: digest(b"")))
        stack.enter_context(patch.object(apply, "digest", digest))
        yield


@contextmanager
def signature_not_checked() -> Iterator[None]:
    """Everything that looks like a signature is one."""

    def careless(self: Writers, origin: str, header_hash: bytes, signature: bytes | None) -> bool:
        return signature is not None

    with patch.object(Writers, "has_signed", careless):
        yield


@contextmanager
def hold_merged() -> Iterator[None]:
    """The clock follows an entry that is held because its clock runs too far ahead."""
    hold = Applier._hold

    def careless(self: Applier, one: Incoming) -> None:
        hold(self, one)
        self.state.clock = clock.advance(self.state.clock, one.header.hlc)

    with patch.object(Applier, "_hold", careless):
        yield


@contextmanager
def relay_before_cause() -> Iterator[None]:
    """An own entry overtakes the foreign ones that still wait for their relay delay."""
    committed = Outbox.committed

    def careless(self: Outbox, last: int, own_last: int, ctx: Context) -> None:
        if own_last and self.sent - self.acked == 0:
            self._cursor = max(self._cursor, own_last)
        committed(self, last, own_last, ctx)

    with patch.object(Outbox, "committed", careless):
        yield


@contextmanager
def epoch_not_raised() -> Iterator[None]:
    """A node that takes over claims the epoch of the gateway before."""
    lead = Bully._lead

    def careless(self: Bully, epoch: int, ctx: Context) -> None:
        lead(self, max(1, min(epoch, self.claims.epoch_seen)), ctx)

    with patch.object(Bully, "_lead", careless):
        yield


@contextmanager
def quarantine_not_relayed() -> Iterator[None]:
    """An entry that cannot be applied is kept from the other nodes as well."""
    rows = LogQueries.rows

    def careless(self: LogQueries, from_lsn: int, rows_max: int) -> list[LogRow]:
        unfit = {
            lsn for (lsn,) in self.connection.execute("SELECT lsn FROM _entgldb_oplog WHERE applied = 2")
        }
        return [row for row in rows(self, from_lsn, rows_max) if row.lsn not in unfit]

    with patch.object(LogQueries, "rows", careless):
        yield


@contextmanager
def held_out_of_order() -> Iterator[None]:
    """Of what is held the newest entry is applied first."""
    due = Held.due

    def careless(
        self: Held, origins: Iterable[int], waits: Callable[[int], bool]
    ) -> Iterator[tuple[int, Entry, bool]]:
        return iter(list(due(self, origins, waits))[::-1])

    with patch.object(Held, "due", careless):
        yield


@contextmanager
def same_incarnation() -> Iterator[None]:
    """A node whose disk went back in time goes on where the disk says it was."""

    def careless(self: Incarnations, entropy: bytes, why: Any, now_ms: int) -> str:
        state = self._transaction.state
        state.disowned = False
        return state.own

    with patch.object(Incarnations, "reincarnate", careless):
        yield


@contextmanager
def delete_loses() -> Iterator[None]:
    """A concurrent put wins over a delete, whichever is the later."""
    together = row._together

    def careless(ours: Stored, theirs: Stored) -> Stored:
        loses = ours.live and ours.fields is None and not theirs.live and theirs.fields is None
        return ours if loses else together(ours, theirs)

    with patch.object(row, "_together", careless):
        yield


@contextmanager
def conflict_never_cleared() -> Iterator[None]:
    """A version that lost stays a conflict, whoever has replaced it since."""
    with patch.object(Batch, "clear_conflict", lambda self, place, version: None):
        yield


@contextmanager
def base_ignored() -> Iterator[None]:
    """A client's document replaces what others have written since it was read."""
    with patch.object(writes, "_read", lambda write: None):
        yield


@contextmanager
def certificate_not_compared() -> Iterator[None]:
    """Hello is believed, whoever the certificate names."""
    judge = PeerLink.judge

    def careless(self: PeerLink, hello: wire.Hello, *rest: Any) -> Reason | None:
        self.certified = hello.node_id
        return judge(self, hello, *rest)

    with patch.object(PeerLink, "judge", careless):
        yield


@contextmanager
def hung_left_alone() -> Iterator[None]:
    """Nobody looks whether an actor turns its loop."""
    with patch.object(Watched, "hangs", lambda self, life, now: ""):
        yield


@contextmanager
def brought_entries_wait() -> Iterator[None]:
    """The beginning of a transaction goes on waiting when another peer has brought all of it."""
    with patch.object(Stage, "_let_go", lambda self, had: None):
        yield


@contextmanager
def long_step_ended() -> Iterator[None]:
    """An actor in a long step is taken for one that hangs."""
    hangs = Watched.hangs

    def careless(self: Watched, life: Life, now: float) -> str:
        return hangs(self, life._replace(step=""), now)

    with patch.object(Watched, "hangs", careless):
        yield
