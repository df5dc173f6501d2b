"""The demo's steps in which a node is cut off, in two ways, and one that was killed comes back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from entgldb.launch.demo.stage import Stage, equal, linked, require
from entgldb.launch.playground.cluster import Member
from entgldb.messages.client import Isolate

DRAFTS: Final = "drafts"
KEYS: Final = 20
"""Documents that both sides overwrite, and as many that only one side writes."""
ISOLATED_SECONDS: Final = 60.0
"""More than the step takes; it ends the isolation itself."""


def partition(stage: Stage) -> str:
    """Cut off twice, by a stopped process and by Isolate: both sides write, healed all nodes are equal."""
    near, apart = stage.others()
    near.db[DRAFTS].put_many({f"both-{n}": {"by": "all"} for n in range(KEYS)})
    equal(stage.playground.lan, only=DRAFTS)
    told = []
    for name, cut in (("SIGSTOP of sync", _stopped), ("Isolate", _isolated)):
        with cut(apart):
            for member in (near, apart):
                _write(member, name)
            _require_apart(near, apart, name)
        begun = time.monotonic()
        seconds = equal(stage.playground.lan, only=DRAFTS) - begun
        told.append(f"{name}: equal after {seconds:.2f} s")
    conflicts = _same_conflicts(stage)
    stage.gateway()  # a node that was alone may have led itself
    return f"{'; '.join(told)}; {conflicts} overwrites listed by conflicts alike on every node"


def gateway_returns(stage: Stage) -> str:
    """The node that was killed as gateway returns, catches up, and leads again after takeover_delay."""
    playground, cloud = stage.playground, stage.playground.clouds[-1]
    (returned,) = (member for member in playground.lan if member.node is None)
    heir = stage.gateway()
    heir.db[DRAFTS].put_many({f"missed-{n}": {"by": heir.node_id} for n in range(KEYS)})
    playground.start([returned])
    begun = time.monotonic()
    caught_up = equal(playground.lan, only=DRAFTS) - begun
    require(stage.gateway() is heir, f"{returned.node_id} led before it had been stable for takeover_delay")
    linked(stage, cloud, returned)
    leads = time.monotonic() - begun
    require(stage.gateway() is returned, f"{returned.node_id} holds the link but does not lead")
    epoch = returned.db.status("election")["epoch"]
    return (
        f"{returned.node_id} has all after {caught_up:.2f} s, leads and is linked again after {leads:.1f} s "
        f"in epoch {epoch} (takeover_delay {stage.takeover_delay:g} s)"
    )


@contextmanager
def _stopped(member: Member) -> Iterator[None]:
    """Its sync process takes no step; links stay open, its store goes on taking writes."""
    pid = member.db.status("node")["pids"]["sync"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def _isolated(member: Member) -> Iterator[None]:
    """It drops its links and refuses new ones."""
    member.db.ask("sync", Isolate(ISOLATED_SECONDS))
    try:
        yield
    finally:
        member.db.ask("sync", Isolate(0.0))


def _write(member: Member, round_: str) -> None:
    both = {f"both-{n}": {"by": member.node_id, "while": round_} for n in range(KEYS)}
    alone = {f"{member.node_id}-{n}": {"by": member.node_id, "while": round_} for n in range(KEYS)}
    member.db[DRAFTS].put_many({**both, **alone})


def _require_apart(near: Member, apart: Member, round_: str) -> None:
    for here, there in ((near, apart), (apart, near)):
        seen = here.db[DRAFTS].get(f"{there.node_id}-0")
        cut_off = seen is None or seen["while"] != round_
        require(cut_off, f"{here.node_id} was not cut off from {there.node_id}")


def _same_conflicts(stage: Stage) -> int:
    """How many versions each node lists as overwritten by a concurrent one: the same on all."""
    lists = [
        sorted((found.key, found.version, found.document["by"]) for found in member.db.conflicts(DRAFTS))
        for member in stage.playground.lan
    ]
    require(all(found == lists[0] for found in lists), f"conflicts differ: {[len(found) for found in lists]}")
    require({key for key, _, _ in lists[0]} == {f"both-{n}" for n in range(KEYS)}, "not the keys both wrote")
    return len(lists[0])
