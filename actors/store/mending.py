"""The store's part of verification: its rows beside a peer's, in one transaction."""

from __future__ import annotations

from collections.abc import Callable

from entgldb.actors.behaviour import ERROR, Context
from entgldb.actors.ports import Store
from entgldb.messages.errors import EntglError, Reason
from entgldb.messages.local.verification import Repair, Repaired
from entgldb.storage.rules.comparing import large_copies
from entgldb.storage.rules.comparing.repair import Decision


def mend(store: Store, message: Repair, count: Callable[[Reason, int], None], ctx: Context) -> int:
    """Decide, replace where asked to, and tell oplog; the last lsn if anything was replaced, else 0."""
    before = store.last_lsn()
    try:
        copies = message.copies + ((large_copies.together(message.pieces),) if message.pieces else ())
        places = tuple((copy.collection, copy.key) for copy in copies) + message.absent
        with store.group():
            done = store.repair(copies, message.absent, message.vector, write=message.write)
    except EntglError as fault:
        ctx.log(ERROR, f"verification could not replace rows: {fault.text}")
        reason = Reason.DISK_FULL if fault.code.value == Reason.DISK_FULL.value else Reason.STORE_BUSY
        count(reason, 1)
        ctx.tell("oplog", Repaired(message.session, message.answer, (), (), reason.value))
        return 0
    taken = done.count(Decision.TAKE.value) if message.write else 0
    if taken:
        count(Reason.REPAIRED, taken)
    ctx.tell("oplog", Repaired(message.session, message.answer, places, tuple(done)))
    return store.last_lsn() if store.last_lsn() > before else 0
