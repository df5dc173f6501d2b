"""The store's part in snapshots: the merge is a transaction of its own, between two group commits."""

from __future__ import annotations

from entgldb.actors.behaviour import ERROR, INFO, Context
from entgldb.actors.ports import Store
from entgldb.messages.errors import EntglError, Reason, as_own
from entgldb.messages.local.actors import Committed
from entgldb.messages.local.snapshots import InstallSnapshot, SnapshotInstalled
from entgldb.storage.rules.results import Installed

_REASONS = {
    "disk-full": Reason.DISK_FULL,
    "disk-error": Reason.DISK_ERROR,
    "too-large": Reason.TOO_LARGE,
    "corrupt": Reason.BAD_ENTRY,
    "internal": Reason.HANDLER_FAILED,
}


def install(
    store: Store, message: InstallSnapshot, no_room: EntglError | None, ctx: Context, *, ends: bool
) -> Committed | None:
    """Merge it, and tell everybody who waits what came of it; by what the file has grown, if it has.

    ``ends``: the node is no cloud, which takes part in no system collection; where a log ends stands in one.
    """
    before = store.last_lsn()
    try:
        if no_room is not None:
            raise no_room  # noqa: TRY301 -- told as any other end of the merge
        done = store.install(
            message.staged,
            ctx.random.randbytes(32),
            ctx.now_ms(),
            cloud=message.cloud,
            peer=message.peer,
            ends=ends,
        )
    except Exception as raised:  # noqa: BLE001 -- whoever waits for the merge has to hear of any end of it
        fault = as_own(raised)
        ctx.log(ERROR, f"snapshot {message.id} was not merged: {fault.text}")
        done = Installed({}, _REASONS.get(fault.code.value, Reason.STORE_BUSY).value)
    else:
        if not done.refused:
            ctx.log(
                INFO,
                f"snapshot {message.id}: {done.documents} taken, {done.deleted} deleted,"
                f" {done.reissued} own writes issued again",
            )
    told = SnapshotInstalled(message.session, message.id, done.changes, done.refused)
    ctx.tell("oplog", told)
    ctx.tell(message.owner, told)
    last = store.last_lsn()
    return Committed(before + 1, last, done.own_last) if last > before else None
