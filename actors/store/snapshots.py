"""The store's part in snapshots: each step of a merge is a transaction of its own, between group commits."""

from __future__ import annotations

from collections.abc import Callable

from entgldb.actors.behaviour import ERROR, INFO, WARNING, Context
from entgldb.actors.ports import Store
from entgldb.messages.errors import EntglError, Reason, as_own
from entgldb.messages.local.actors import Committed
from entgldb.messages.local.snapshots import InstallSnapshot, MergeOn, SnapshotInstalled
from entgldb.storage.rules.results import Installed

_REASONS = {
    "disk-full": Reason.DISK_FULL,
    "disk-error": Reason.DISK_ERROR,
    "too-large": Reason.TOO_LARGE,
    "corrupt": Reason.BAD_ENTRY,
    "internal": Reason.HANDLER_FAILED,
}


class Merging:
    """The order that is carried out, a step at a time."""

    def __init__(self, count: Callable[[Reason, int], None]) -> None:
        self._count = count
        self._order: InstallSnapshot | None = None
        self._number = 0

    def begin(self, order: InstallSnapshot) -> MergeOn:
        """Carry out an order, in place of what was under way: if it is the same, it goes on there."""
        self._order = order
        return self._next()

    def look(self, ctx: Context) -> None:
        """Now and then: a merge that nobody goes on with may have left something."""
        if self._order is None:
            ctx.after(0.0, self._next())

    def wanted(self, message: MergeOn) -> InstallSnapshot | MergeOn | None:
        """The order to take a step for, or the message where there is none; None where another step has been
        asked for since."""
        return None if message.number != self._number else self._order or message

    def step(self, store: Store, no_room: EntglError | None, ctx: Context, *, ends: bool) -> Committed | None:
        """Take one, and tell everybody who waits what came of the last; by what the file has grown.

        ``ends``: the node is no cloud, which takes part in no system collection; where a log ends stands in
        one.
        """
        order, before = self._order, store.last_lsn()
        if order is None:
            if store.tidy_merge():
                ctx.after(0.0, self._next())
            return None
        done = _taken(store, order, no_room, ctx, ends=ends)
        ctx.after(0.0, self._next())
        if done is None:
            return None
        self._order = None
        for reason, keys in done.lost.items():
            self._count(Reason(reason), keys)
        told = SnapshotInstalled(order.session, order.id, done.changes, done.refused)
        ctx.tell("oplog", told)
        ctx.tell(order.owner, told)
        last = store.last_lsn()
        return Committed(before + 1, last, done.own_last) if last > before else None

    def _next(self) -> MergeOn:
        self._number += 1
        return MergeOn(self._number)


def _taken(
    store: Store, order: InstallSnapshot, no_room: EntglError | None, ctx: Context, *, ends: bool
) -> Installed | None:
    """One step; whatever goes wrong is the end of it."""
    writer = store.origin
    try:
        if no_room is not None:
            raise no_room  # noqa: TRY301 -- told as any other end of the merge
        entropy = ctx.random.randbytes(32)
        done = store.install_step(
            order.staged, entropy, ctx.now_ms(), cloud=order.cloud, peer=order.peer, ends=ends
        )
    except Exception as raised:  # noqa: BLE001 -- whoever waits for the merge has to hear of any end of it
        fault = as_own(raised)
        ctx.log(ERROR, f"snapshot {order.id} was not merged: {fault.text}")
        return Installed({}, _REASONS.get(fault.code.value, Reason.STORE_BUSY).value)
    if store.origin != writer:
        ctx.log(WARNING, f"{writer} is not continued, this node now writes as {store.origin}")
    if done is not None and not done.refused:
        ctx.log(
            INFO,
            f"snapshot {order.id}: {done.documents} taken, {done.deleted} deleted,"
            f" {done.reissued} own writes issued again",
        )
    return done
