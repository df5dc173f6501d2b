"""Calls at the edge of a chunk of frames: each would fault a page in, at some depth."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable

from entgldb.actors.frame_room import with_room

CALLS = 2_000
DEPTHS = 150
"""Some of these end just before the edge of a 16 KiB chunk."""


def leaf() -> int:
    return 0


def faults_at(depth: int) -> int:
    """Page faults of many calls made from ``depth`` frames down."""
    if depth:
        return faults_at(depth - 1)
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(CALLS):
        leaf()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


def worst() -> int:
    return max(faults_at(depth) for depth in range(DEPTHS))


def in_a_thread(run: Callable[[], int]) -> int:
    """In a thread, whose frames begin with nothing below them."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(run()))
    thread.start()
    thread.join()
    return found[0]


def test_no_depth_faults_at_every_call() -> None:
    assert in_a_thread(lambda: with_room(worst)) < CALLS / 10
