"""The steps of a piece of work, whatever machine it runs on: the Python functions that it calls."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType


def calls_of(work: Callable[[], object]) -> int:
    """How many are called, ``work`` itself not counted."""
    calls = -1

    def note(frame: FrameType, event: str, given: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls
