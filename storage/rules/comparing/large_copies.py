"""A row too large for one frame, taken apart for its way to another node and put together there. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgpack

from entgldb.messages.errors import ProtocolError
from entgldb.messages.limits import BATCH_BYTES_MAX, FRAME_BYTES_MAX, PACK_BYTES, ROW_BYTES_MAX
from entgldb.messages.schema import from_array, to_array
from entgldb.messages.wire import Copy

BYTES_MAX: Final = ROW_BYTES_MAX + BATCH_BYTES_MAX
"""Bytes of all pieces of one row."""
PIECES_MAX: Final = BYTES_MAX // BATCH_BYTES_MAX
"""Pieces of one row: all but the last are of one size, so there are no more than that."""


def size_of(copy: Copy) -> int:
    """About how many bytes it takes in a frame."""
    return 200 + len(copy.body or b"") + len(copy.stamps or b"") + len(copy.key)


def is_large(copy: Copy) -> bool:
    """Whether it is to be sent in pieces."""
    return size_of(copy) > FRAME_BYTES_MAX // 2


def apart(copy: Copy) -> tuple[bytes, ...]:
    """The pieces, in order."""
    packed: bytes = msgpack.packb(to_array(copy), buf_size=PACK_BYTES)
    return tuple(packed[at : at + BATCH_BYTES_MAX] for at in range(0, len(packed), BATCH_BYTES_MAX))


def together(pieces: Sequence[bytes]) -> Copy:
    """The row. Raises ProtocolError where the pieces are not those of one."""
    try:
        fields = msgpack.unpackb(b"".join(pieces), raw=False, use_list=True, max_ext_len=0)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as fault:
        raise ProtocolError(f"the pieces of a row make none: {type(fault).__name__}") from None
    if type(fields) is not list:
        raise ProtocolError("the pieces of a row make none")
    copy: Copy = from_array(Copy, fields)
    return copy
