"""A frame between actors counts once, and only at the port that it was made for.

The port of an actor that has died is anybody's. Another user of the machine who listens there is sent frames
under a good MAC, and could play them to another actor, or to the next one at that port. So the MAC covers a
stamp: the port, the sender's process, and its reading of the clock that all processes of a machine share. A
receiver takes no stamp twice and none from before it began.
"""

from __future__ import annotations

import os
import struct
import time
from typing import Final

_STAMP: Final = struct.Struct(">HIQ")
STAMP_BYTES: Final = _STAMP.size
SEEN_MAX: Final = 16_384
"""Stamps that are remembered; what is older than the oldest of them is refused unseen."""
PORTS_MAX: Final = 16
"""Ports at which one process listens for actors: one, or that of each system it was attached to."""


class Freshness:
    """Of one process."""

    def __init__(self, began_ns: int) -> None:
        """``began_ns``: a reading of ``time.monotonic_ns`` before which nobody can have known our ports."""
        self._floor = began_ns
        self._seen: dict[bytes, None] = {}
        self._ports: dict[int, None] = {}
        self._last = 0

    def listens(self, port: int) -> None:
        """This process listens there."""
        self._ports[port] = None
        if len(self._ports) > PORTS_MAX:
            del self._ports[next(iter(self._ports))]

    def stamp(self, port: int) -> bytes:
        """A new stamp, for the actor that listens at ``port``."""
        self._last = max(time.monotonic_ns(), self._last + 1)
        return _STAMP.pack(port, os.getpid(), self._last)

    def refusal(self, stamp: bytes) -> str:
        """Why a frame with this stamp does not count; empty where it does, from now on no more."""
        port, _, made_ns = _STAMP.unpack(stamp)
        if port not in self._ports:
            return "a frame for another actor"
        if made_ns <= self._floor or stamp in self._seen:
            return "a frame that was sent before"
        self._seen[stamp] = None
        if len(self._seen) > SEEN_MAX:
            oldest = next(iter(self._seen))
            del self._seen[oldest]
            self._floor = max(self._floor, _STAMP.unpack(oldest)[2])
        return ""
