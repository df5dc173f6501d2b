"""Room for Python frames, so that a busy loop does not sit on the edge of a chunk of them.

CPython 3.11 and later keep the frames of a thread in chunks of 16 KiB, made by mmap when a call crosses
the edge and unmapped at its return. A loop whose calls cross the edge again and again maps, faults and
unmaps for every call: measured at 40 % of a store's processor time. A chunk is as large as its first frame
needs, so a frame that claims a lot of room gives its callees a large one. Pages nobody touches cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

SLOTS: Final = 32_000
"""Slots of 8 bytes each. The chunk is the next power of two, and the rest of it is the callees' room."""
_T = TypeVar("_T")


def with_room(run: Callable[[], _T]) -> _T:
    """Call ``run`` with room for some hundred frames in one chunk."""
    return run()


with_room.__code__ = with_room.__code__.replace(co_stacksize=SLOTS)
