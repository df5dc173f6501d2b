"""What an operator decides about entries that the store has set aside or holds back."""

from __future__ import annotations

from entgldb.actors.behaviour import Context
from entgldb.actors.ports import Store
from entgldb.messages import client
from entgldb.messages.errors import EntglError, ErrorCode, NotFoundError
from entgldb.messages.model import Version
from entgldb.messages.schema import Message


def settle_unfit(store: Store, message: client.SettleUnfit, ctx: Context) -> Message:
    """Apply an entry from quarantine, or let it go. Raises EntglError; it stays in quarantine then."""
    version = Version(message.origin, message.seq)
    if not message.retry:
        store.drop_unfit(version)
        return client.Done()
    try:
        store.retry_unfit(version, ctx.now_ms())
    except NotFoundError:
        raise
    except EntglError as fault:
        raise EntglError(
            f"{version.origin} {version.seq} cannot be applied still: {fault.text}",
            # an internal error would undo the neighbours' requests as well
            code=ErrorCode.INVALID if fault.code is ErrorCode.INTERNAL else fault.code,
            hint="write the document again, or entgldb quarantine --drop",
        ) from fault
    return client.Done()


def release_origin(store: Store, message: client.ReleaseOrigin, ctx: Context) -> Message:
    """Apply all that is held of one origin, whatever its clock says; how many entries."""
    before = store.vector().get(message.origin, (0, b""))[0]
    if message.origin not in store.held():
        raise NotFoundError(f"nothing of {message.origin} is held", hint="entgldb held shows what is")
    while message.origin in store.held():
        moved = store.release_held(ctx.now_ms(), accepted=message.origin)
        if message.origin not in moved.changes:
            break
    return client.Report({"released": store.vector()[message.origin][0] - before})
