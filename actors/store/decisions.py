"""Decisions of people: about entries set aside or held back, about conflicts, about the clock."""

from __future__ import annotations

from entgldb.actors.behaviour import WARNING, Context
from entgldb.actors.store.members.nodes import Writer
from entgldb.messages import client
from entgldb.messages.administration import ResetClock, Resolve, SetConflict, SetExpiry, Undelete
from entgldb.messages.errors import EntglError, ErrorCode, NotFoundError, Reason
from entgldb.messages.model import COLLECTIONS, Version
from entgldb.messages.schema import Message
from entgldb.storage.rules.merging.collection_rule import life_document, rule_document
from entgldb.storage.rules.results import Outcome


def settle_unfit(keeper: Writer, message: client.SettleUnfit, ctx: Context) -> Message:
    """Apply an entry from quarantine, or let it go. Raises EntglError; it stays in quarantine then."""
    version = Version(message.origin, message.seq)
    if not message.retry:
        keeper.store.applying.drop(version)
        return client.Done()
    try:
        _count(keeper, keeper.store.applying.retry(version, ctx.now_ms()))
    except NotFoundError:
        raise
    except EntglError as fault:
        raise EntglError(
            f"{version.origin} {version.seq} cannot be applied still: {fault.text}",
            # a bug that an entry meets lies in the entry, for whoever asks
            code=ErrorCode.INVALID if fault.code is ErrorCode.INTERNAL else fault.code,
            hint="write the document again, or entgldb quarantine --drop",
        ) from fault
    return client.Done()


def release_origin(keeper: Writer, message: client.ReleaseOrigin, ctx: Context) -> Message:
    """Apply what is held of one origin, whatever its clock says, as much as fits into one go.

    Gives how many entries, and whether some are left: who asks asks again.
    """
    store = keeper.store
    before = store.vector().get(message.origin, (0, b""))[0]
    if message.origin not in store.held():
        raise NotFoundError(f"nothing of {message.origin} is held", hint="entgldb held shows what is")
    _count(keeper, store.release_held(ctx.now_ms(), accepted=message.origin))
    released = store.vector().get(message.origin, (0, b""))[0] - before
    return client.Report({"released": released, "left": released > 0 and message.origin in store.held()})


def reset_clock(keeper: Writer, message: ResetClock, ctx: Context) -> Message:
    """The clock is right again: go on as a new writer with right stamps. Raises InvalidError.

    A cloud node takes part in no system collection, and where a log ends stands in one.
    """
    entropy, ends = ctx.random.randbytes(32), keeper.settings.role != "cloud"
    origin, written, held = keeper.store.reset_clock(message.request, entropy, ctx.now_ms(), ends=ends)
    ctx.log(WARNING, f"clock reset: this node writes as {origin}; {written} stamped anew, {held} held")
    keeper.wrote((), keeper.store.last_lsn())
    return client.Report({"origin": origin, "written": written, "held": held})


def settle_conflict(
    keeper: Writer, message: Resolve | Undelete | SetConflict | SetExpiry, ctx: Context
) -> Message:
    """Inside the running transaction. Raises EntglError; nothing is written then."""
    store, now_ms = keeper.store, ctx.now_ms()
    match message:
        case Resolve():
            version = Version(message.origin, message.seq)
            place = (message.collection, message.key)
            done = store.resolve(message.request, place, version, message.take, message.body, now_ms)
            return keeper.wrote(*done)
        case Undelete():
            return keeper.wrote(*store.undelete(message.request, message.collection, message.key, now_ms))
        case SetConflict() | SetExpiry():
            before = store.get(COLLECTIONS, message.collection)
            body = _rule(message, before)
            if before == body:
                return client.CommitDone((), 0)
            write = client.Write(COLLECTIONS, message.collection, body)
            return keeper.write(message.request, (write,), ctx, system=True)


def _rule(message: SetConflict | SetExpiry, before: bytes | None) -> bytes:
    if isinstance(message, SetConflict):
        return rule_document(message.collection, message.conflict, before)
    return life_document(message.collection, message.expire_after, before)


def _count(keeper: Writer, outcome: Outcome) -> None:
    for reason, times in outcome.counts.items():
        keeper.count(Reason(reason), times)
