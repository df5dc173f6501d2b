"""No frame on a cloud link has anything of a cluster's configuration in it but headers."""

from __future__ import annotations

import msgpack

from entgldb.actors.line import Parts
from entgldb.launch.testing.network import End
from entgldb.launch.testing.world import World
from entgldb.messages import codec, wire
from entgldb.messages.model import SYSTEM_PREFIX
from entgldb.messages.schema import Channel, Message
from entgldb.storage.rules import header

_WORD = SYSTEM_PREFIX.encode()


class Listener:
    """Overhears all links of a network, and tells what no cloud may hear."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._parts: dict[int, Parts] = {}

    def __call__(self, end: End, message: Message) -> None:
        assert end.other is not None  # it is open
        if "cloud" not in (end.place.role, end.other.place.role):
            return
        if isinstance(message, wire.Part):
            whole = self._parts.setdefault(end.id, Parts()).join(message)
            found = "" if whole is None else leaks(codec.decode(whole, Channel.PEER).message)
        else:
            found = leaks(message)
        if found:
            self._world.violate(f"{end.place.name} sends {end.other.place.name} {found}")


def leaks(message: Message) -> str:
    """The secret that a frame would tell a cloud, or the thing that a cloud's word would change; empty:
    none."""
    match message:
        case wire.Entries() | wire.Supply():
            return next(filter(None, map(_of_entry, message.entries)), "")
        case wire.SnapshotChunk() if message.chunk > 0:
            # rows name their collection; chunk 0 has none, and its origins and clock may be told
            return f"chunk {message.chunk} of a snapshot" if _has_system_rows(message.payload) else ""
        case wire.Copies():
            shown = [copy.key for copy in message.copies if copy.collection.startswith(SYSTEM_PREFIX)]
            return f"a copy of {shown[0]}" if shown else ""
        case wire.Heartbeat() | wire.Hello() | wire.Vectors() | wire.VectorChange() | wire.GapRequest():
            return ""
    return "a frame that names a system collection" if _WORD in codec.encode(message) else ""


def _of_entry(entry: object) -> str:
    body, raw = getattr(entry, "body", None), getattr(entry, "header", b"")
    collection = header.decode(raw).collection
    return f"a body of {collection}" if body is not None and collection.startswith(SYSTEM_PREFIX) else ""


def _has_system_rows(payload: bytes) -> bool:
    rows = msgpack.unpackb(payload, raw=False)[2]
    if type(rows) is bytes:  # a piece of a row: users write no such word in the simulation
        return _WORD in rows
    return any(row[0].startswith(SYSTEM_PREFIX) for row in rows)
