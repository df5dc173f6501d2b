"""Messages to msgpack and back: ``[tag, request_id, field, ...]``, strict on types, bounded.

The format is MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md) without
extension types. A fresh unpacker reads every frame, so that one bad frame cannot spoil the next.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final, NamedTuple

import msgpack

from entgldb.messages.errors import InvalidError, ProtocolError, UnknownMessage
from entgldb.messages.limits import (
    ARRAY_ITEMS_MAX,
    FRAME_BYTES_MAX,
    MAP_ITEMS_MAX,
    PACK_BYTES,
    STRING_BYTES_MAX,
)
from entgldb.messages.schema import RECORDS, REGISTRY, Channel, Message, from_array, prepare, to_array

_VOCABULARY: Final = (
    "administration",
    "local.verification",
    "client",
    "local.actors",
    "local.members",
    "local.pauses",
    "local.snapshots",
    "local.tenants",
    "tenants",
    "wire",
)
"""All modules that define messages; a client verb is answered by messages that it has imported itself."""


class Decoded(NamedTuple):
    """A message, the request it belongs to (0: none), and how many fields were beyond the known ones."""

    request_id: int
    message: Message
    trailing: int


def known_messages() -> dict[int, type[Message]]:
    """Every message by its number."""
    for name in _VOCABULARY:
        import_module(f"entgldb.messages.{name}")
    return REGISTRY


def compile_for_actors() -> None:
    """Make what writes, reads and builds all that nodes and actors tell each other, which is else made at the
    first use: before a fork, that all share it."""
    for cls in known_messages().values():
        if Channel.CLIENT not in cls.CHANNELS:
            prepare(cls)
    for part in RECORDS:
        prepare(part)


def encode(message: Message, request_id: int = 0) -> bytes:
    """The bytes of one frame's payload. Raises InvalidError for what no frame can hold."""
    try:
        packed: bytes = msgpack.packb([message.TAG, request_id, *to_array(message)], buf_size=PACK_BYTES)
    except UnicodeEncodeError:
        raise InvalidError(f"a text in {message} has half a surrogate pair: that is no Unicode") from None
    except OverflowError:
        raise InvalidError(f"a number in {message} has more than 64 bits") from None
    return packed


def decode(payload: bytes | memoryview, channel: Channel, bytes_max: int = FRAME_BYTES_MAX) -> Decoded:
    """Read one payload that arrived by ``channel``.

    Raises UnknownMessage for a number this release does not know or does not accept from there
    (count it, go on), ProtocolError for anything malformed (close the link).
    """
    if len(payload) > bytes_max:
        raise ProtocolError(f"a frame of {len(payload)} bytes, {bytes_max} allowed")
    # of our own actors: one message may stand in another, which names a tenant for it
    items = _unpack(payload, bytes_max if channel is Channel.LOCAL else STRING_BYTES_MAX)
    if type(items) is not list or len(items) < 2 or type(items[0]) is not int or type(items[1]) is not int:
        raise ProtocolError("a frame is an array that begins with two integers")
    cls = REGISTRY.get(items[0]) or known_messages().get(items[0])
    if cls is None or channel not in cls.CHANNELS:
        fault = UnknownMessage(f"message {items[0]} is not accepted here")
        fault.request_id = items[1]
        raise fault
    fields = items[2:]
    made: Message = from_array(cls, fields)
    return Decoded(items[1], made, max(0, len(fields) - len(cls._readers)))


def _unpack(payload: bytes | memoryview, bin_max: int) -> object:
    try:
        return msgpack.unpackb(
            payload,
            raw=False,
            strict_map_key=True,
            use_list=True,
            max_str_len=STRING_BYTES_MAX,
            max_bin_len=bin_max,
            max_array_len=ARRAY_ITEMS_MAX,
            max_map_len=MAP_ITEMS_MAX,
            max_ext_len=0,
        )
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as fault:
        raise ProtocolError(f"not a msgpack frame: {type(fault).__name__}") from None
