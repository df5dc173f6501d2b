"""The rule of a nearly full disk: it lets in reads always, and writes while there is room above the hard
floor.

Below the floor the gate lets in requests that free room or take hardly any: deletes, removed peers, an
operator's decisions, pruning and compaction. The gate refuses entries from peers, and the node asks for them
again when there is room. A snapshot stays staged, and is merged at one of the next offers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from entgldb.actors.behaviour import INFO, WARNING, Asker, Context
from entgldb.actors.ports import Disk
from entgldb.messages import client
from entgldb.messages.errors import EntglError, ErrorCode, Reason
from entgldb.messages.local.actors import Applied, Apply, SessionEnded
from entgldb.messages.schema import Json, Message
from entgldb.messages.settings import StoreSettings

LOOK_SECONDS = 2.0
"""Seconds between two looks at the disk while little is written."""
LOOK_BYTES = 1024 * 1024
"""The gate also looks at the disk after so many bytes that were to be written."""
DISK_OK, LOW, FULL = "ok", "low", "full"


class DiskGate:
    """Looks at the free space and decides what is let in."""

    def __init__(
        self, settings: StoreSettings, disk: Disk | None, count: Callable[[Reason, int], None]
    ) -> None:
        self._settings = settings
        self._disk = disk
        self._count = count
        self.state = DISK_OK
        self._free: int | None = None
        self._looked_at = -LOOK_SECONDS
        self._bytes = 0
        self._waiting: dict[str, Apply] = {}
        """Session -> its batch that was refused last."""

    def configure(self, settings: StoreSettings, ctx: Context) -> None:
        """Floors of a configuration read again."""
        self._settings = settings
        self._look(ctx)

    def look(self, queue: Sequence[tuple[Asker | None, Message]], ctx: Context) -> None:
        """Before a transaction: every few seconds, and before much is written."""
        self._bytes += sum(_bytes_of(message) for _, message in queue)
        if self._bytes >= LOOK_BYTES or ctx.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._look(ctx)

    def refusal(self, message: Message) -> EntglError | None:
        """Why a message that makes the file grow is not let in now, or None."""
        if self.state != FULL:
            return None
        if isinstance(message, Apply):
            self._waiting[message.session] = message
        return EntglError(
            f"{self._free} bytes are free on the disk of this node, it stops at {self._settings.hard_floor}",
            code=ErrorCode.DISK_FULL,
            hint="make room on the disk, or lower disk.hard_floor and reload; reads and deletes go on",
        )

    def forget(self, ended: SessionEnded) -> None:
        """A session is over: nobody waits for room any more."""
        self._waiting = {name: batch for name, batch in self._waiting.items() if not ended.covers(name)}

    def status(self) -> dict[str, Json]:
        """For ``status`` of the store; ``free_bytes`` is null while unknown."""
        return {
            "state": self.state,
            "free_bytes": self._free,
            "soft_floor": self._settings.soft_floor,
            "hard_floor": self._settings.hard_floor,
        }

    def _look(self, ctx: Context) -> None:
        self._looked_at, self._bytes = ctx.monotonic(), 0
        self._free = None if self._disk is None else self._disk.free_bytes()
        before, self.state = self.state, self._judged()
        if self.state == before:
            return
        if before == DISK_OK:
            self._count(Reason.DISK_LOW, 1)
        ctx.log(INFO if self.state == DISK_OK else WARNING, f"disk {self.state}: {self._free} bytes are free")
        if before == FULL:
            for batch in self._waiting.values():
                refused = Reason.DISK_FULL.value
                again = Applied(batch.session, batch.round, batch.batch, {}, refused, again=True)
                ctx.tell(batch.owner, again)
            self._waiting.clear()

    def _judged(self) -> str:
        if self._free is None:
            return DISK_OK
        if self._free < self._settings.hard_floor:
            return FULL
        return LOW if self._free < self._settings.soft_floor else DISK_OK


def _bytes_of(message: Message) -> int:
    if isinstance(message, client.Commit):
        return sum(len(write.body or write.update or b"") for write in message.writes)
    if isinstance(message, Apply):
        return sum(entry.size for entry in message.entries)
    return 0
