"""Keys that ``insert`` makes: UUIDs of version 7 (RFC 9562), which sort by their time."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from hashlib import sha256
from time import time_ns as _now_ns
from typing import Final

Make = Callable[[], uuid.UUID]
_RANDOM_BITS: Final = 74
_RANDOM: Final = (1 << _RANDOM_BITS) - 1
_STEP_BYTES: Final = 4


class Ascending:
    """UUIDs of version 7 in ascending order: within a millisecond a random number grows (6.2, method 2)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        """Milliseconds since 1970 and random bits of the last one."""

    def make(self) -> uuid.UUID:
        """The next one."""
        fresh = _now_ns() // 1_000_000 << _RANDOM_BITS | int.from_bytes(os.urandom(10)) & _RANDOM
        with self._lock:
            if fresh <= self._last:
                # of the same millisecond, or the clock was set back
                fresh = self._last + 1 + int.from_bytes(os.urandom(_STEP_BYTES))
            self._last = fresh
        return version_7(fresh >> _RANDOM_BITS, fresh & _RANDOM)


def version_7(ms: int, random: int) -> uuid.UUID:
    """The UUID of a time, in milliseconds since 1970, and 74 random bits (5.7)."""
    high, low = random >> 62, random & (1 << 62) - 1
    return uuid.UUID(int=(ms & (1 << 48) - 1) << 80 | 7 << 76 | high << 64 | 0b10 << 62 | low)


def named_key(name: str) -> str:
    """A key that is made of a name alone, so that a request which is repeated has it again: a UUID of
    version 8."""
    made = int.from_bytes(sha256(b"entgldb key " + name.encode("utf-8", "replace")).digest()[:16])
    made = made & ~(0xF << 76 | 0b11 << 62) | 8 << 76 | 0b10 << 62
    return str(uuid.UUID(int=made))


_make: Final[Make] = getattr(uuid, "uuid7", None) or Ascending().make
"""Python's own from 3.14 on."""


def new_key() -> str:
    """A key that no other document has, greater than those that this process has made before."""
    return str(_make())
