"""Writes what the store was asked for into the audit log, in the transaction that does it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from entgldb.actors.auditing import LEFT_OUT
from entgldb.actors.behaviour import ERROR, Asker, Context
from entgldb.actors.ports import Store
from entgldb.actors.store.auditing.acts import AUDITED, act_of, event_of
from entgldb.messages import client
from entgldb.messages.administration import Audited, Event, Happened, HealOrigin
from entgldb.messages.errors import EntglError, ProtocolError, Reason
from entgldb.messages.local.actors import Applied, Apply
from entgldb.messages.model import COLLECTIONS, HEALED, NODES, REMOTE_PEERS, SYSTEM_PREFIX, Vector, node_of
from entgldb.messages.schema import Message
from entgldb.storage.audit.rows import Act
from entgldb.storage.audit.sparing import Sparing
from entgldb.storage.rules.header import Header, decode
from entgldb.storage.rules.incarnations import Why

_PREFIX: Final = SYSTEM_PREFIX.encode()
_NOTHING: Final = (0, b"")
_MET: Final = (
    (Event.FORK, Reason.FORK.value, "found"),
    (Event.HELD, Reason.HELD_CLOCK.value, "clock ahead"),
)
_KNOWN: Final = frozenset((REMOTE_PEERS, NODES, COLLECTIONS, HEALED))


def holds_system(batch: Apply) -> bool:
    """Whether some entry may be of a system collection."""
    return any(_PREFIX in entry.header for entry in batch.entries)


class Auditor:
    """Of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._origin = store.origin
        self._sparing = Sparing()
        self._met = {reason: 0 for _, reason, _ in _MET}

    def done(self, message: Message, answer: Message, asker: Asker | None, ctx: Context) -> None:
        """A request was carried out, in the savepoint that is open."""
        idle = isinstance(answer, client.CommitDone) and not answer.lsn and type(message) is not HealOrigin
        if type(message) in AUDITED and not idle:
            self._store.trail.note(act_of(message, asker), ctx.now_ms())
        if self._store.origin != self._origin:
            self._begun(Why.ROLLED_BACK.value if isinstance(message, Apply) else f"by {message}", ctx)

    def refused(self, message: Message, asker: Asker | None, fault: EntglError, ctx: Context) -> None:
        """A request was refused, and its savepoint undone."""
        if type(message) in AUDITED and type(message) is not Audited:
            act = act_of(message, asker)
            self._spared(act._replace(outcome=f"refused: {fault.code.value}"), act.event, ctx)

    def passed_on(self, message: Message, asker: Asker | None, ctx: Context) -> None:
        """A request goes to another actor. It is not held up by a file that cannot be written."""
        if type(message) in AUDITED:
            try:
                with self._store.group():
                    self._store.trail.note(act_of(message, asker), ctx.now_ms())
            except EntglError as fault:
                ctx.log(ERROR, f"{message} is not in the audit log: {fault.text}")

    def known(self, batch: Apply) -> Vector | None:
        """Before a batch is taken: what is here; None where it brings nothing to system collections."""
        if batch.cloud or not holds_system(batch):
            return None
        return {} if batch.supplied else self._store.vector()

    def took(
        self, batch: Apply, known: Vector | None, answer: Applied, met: Mapping[str, int], ctx: Context
    ) -> None:
        """A batch was taken; ``met``: reasons, with how often they were met while this store runs."""
        for header in () if known is None else _headers(batch, SYSTEM_PREFIX):
            came = batch.supplied or header.seq <= answer.changes.get(header.origin, _NOTHING)[0]
            if came and known is not None and header.seq > known.get(header.origin, _NOTHING)[0]:
                place = header.collection
                act = Act(Event.RECEIVED, f"{place}/{header.key}", who=f"node {node_of(header.origin)}")
                self._spared(act, place if place in _KNOWN else "", ctx)
        for event, reason, outcome in _MET:
            if met[reason] > self._met[reason]:
                logs = " ".join(sorted({header.origin for header in _headers(batch)}))
                self._spared(Act(event, logs, outcome, f"node {batch.peer}"), "", ctx)
        self._met.update({reason: met[reason] for reason in self._met})

    def merged(self, ctx: Context) -> None:
        """A snapshot was, outside of any group: the node may write as somebody new since."""
        if self._store.origin != self._origin:
            with self._store.group():
                self._begun("a snapshot", ctx)

    def undone(self) -> None:
        """A transaction was rolled back."""
        self._origin = self._store.origin

    def tend(self, ctx: Context) -> None:
        """Now and then: a row for what was left out, where nothing of its kind has come since."""
        overdue = self._sparing.overdue(ctx.monotonic())
        if overdue:
            with self._store.group():
                for kind, times in overdue:
                    event, _, place = kind.partition(" ")
                    self._store.trail.note(Act(Event(event), place, LEFT_OUT, left_out=times), ctx.now_ms())

    def _begun(self, why: str, ctx: Context) -> None:
        self._origin = self._store.origin
        self._store.trail.note(Act(Event.INCARNATION, self._origin, why), ctx.now_ms())

    def _spared(self, act: Act, place: str, ctx: Context) -> None:
        left = self._sparing.take(f"{act.event} {place}", ctx.monotonic())
        if left is not None:
            self._store.trail.note(act._replace(left_out=left), ctx.now_ms())


def _headers(batch: Apply, prefix: str = "") -> Iterator[Header]:
    """Those of a batch that are of collections with this prefix."""
    for entry in batch.entries:
        try:
            header = decode(entry.header)
        except ProtocolError:
            continue
        if header.collection.startswith(prefix):
            yield header


def told(keeper: object, message: Audited | Happened, ctx: Context) -> Message:
    """It is written down when it was carried out, as other requests are."""
    if isinstance(message, Audited):
        event_of(message)
    return client.Done()
