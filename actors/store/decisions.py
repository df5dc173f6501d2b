"""Decisions of people: about entries set aside or held back, about conflicts, about the clock."""

from __future__ import annotations

from collections.abc import Callable

from entgldb.actors.behaviour import WARNING, Context
from entgldb.actors.ports import Store
from entgldb.messages import client
from entgldb.messages.administration import ResetClock
from entgldb.messages.errors import EntglError, ErrorCode, NotFoundError, Reason
from entgldb.messages.merging import Resolve, SetConflict, Undelete
from entgldb.messages.model import COLLECTIONS, Version
from entgldb.messages.schema import Message
from entgldb.storage.rules.merging.collection_rule import rule_document
from entgldb.storage.rules.results import Outcome

CountReasons = Callable[[Reason, int], None]
AboutConflicts = Resolve | Undelete | SetConflict


def settle_unfit(store: Store, message: client.SettleUnfit, ctx: Context, count: CountReasons) -> Message:
    """Apply an entry from quarantine, or let it go. Raises EntglError; it stays in quarantine then."""
    version = Version(message.origin, message.seq)
    if not message.retry:
        store.drop_unfit(version)
        return client.Done()
    try:
        _count(store.retry_unfit(version, ctx.now_ms()), count)
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


def release_origin(store: Store, message: client.ReleaseOrigin, ctx: Context, count: CountReasons) -> Message:
    """Apply what is held of one origin, whatever its clock says, as much as fits into one go.

    Gives how many entries, and whether some are left: who asks asks again.
    """
    before = store.vector().get(message.origin, (0, b""))[0]
    if message.origin not in store.held():
        raise NotFoundError(f"nothing of {message.origin} is held", hint="entgldb held shows what is")
    moved = store.release_held(ctx.now_ms(), accepted=message.origin)
    _count(moved, count)
    released = store.vector().get(message.origin, (0, b""))[0] - before
    return client.Report({"released": released, "left": released > 0 and message.origin in store.held()})


def reset_clock(store: Store, message: ResetClock, ctx: Context, *, cloud: bool) -> Message:
    """The clock is right again: go on as a new writer with right stamps. Raises InvalidError.

    A cloud node takes part in no system collection, and where a log ends stands in one.
    """
    entropy = ctx.random.randbytes(32)
    origin, written, held = store.reset_clock(message.request, entropy, ctx.now_ms(), ends=not cloud)
    ctx.log(WARNING, f"clock reset: this node writes as {origin}; {written} stamped anew, {held} held")
    return client.Report({"origin": origin, "written": written, "held": held})


def settle_conflict(store: Store, message: AboutConflicts, ctx: Context) -> client.CommitDone:
    """Inside the running transaction. Raises EntglError; nothing is written then."""
    now_ms = ctx.now_ms()
    known = store.answered(message.request, now_ms)
    if known is not None:
        return client.CommitDone(*known)
    match message:
        case Resolve():
            version = Version(message.origin, message.seq)
            place = (message.collection, message.key)
            done = store.resolve(message.request, place, version, message.take, message.body, now_ms)
        case Undelete():
            done = store.undelete(message.request, message.collection, message.key, now_ms)
        case SetConflict():
            body = rule_document(message.collection, message.conflict)
            if store.get(COLLECTIONS, message.collection) == body:
                return client.CommitDone((), 0)
            write = client.Write(COLLECTIONS, message.collection, body)
            done = store.write(message.request, (write,), now_ms, system=True)
    return client.CommitDone(*done)


def _count(outcome: Outcome, count: CountReasons) -> None:
    for reason, times in outcome.counts.items():
        count(Reason(reason), times)
