"""The rare branches that the seeds of make test must reach: a branch that no seed meets is not tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol

REASONS = (
    "already-exists",
    "authority-unreachable",
    "bad-entry",
    "clock",
    "disk-error",
    "disk-full",
    "disk-low",
    "duplicate",
    "duplicate-link",
    "duplicate-node",
    "ended",
    "expelled",
    "filtered",
    "gap",
    "handshake-timeout",
    "healed",
    "heartbeat-lost",
    "held-clock",
    "hung",
    "invalid",
    "isolated",
    "malformed",
    "not-attested",
    "not-gateway",
    "out-of-order",
    "parent-absent",
    "peer-changed",
    "peer-closed",
    "peer-disabled",
    "reincarnated",
    "relay-delay",
    "repaired",
    "retired",
    "slow-reader",
    "stale-epoch",
    "stood-down",
    "tls-refused",
    "token-refused",
    "unfit",
    "unreachable",
    "version-mismatch",
    "window-full",
    "wrong-node",
)
"""Counted by the behaviours themselves."""
FAULTS = (
    "authority-down",
    "clock-jump",
    "clock-step",
    "commit-fails",
    "crash",
    "crash-after-commit",
    "crash-before-commit",
    "cut-frame",
    "damage",
    "disk-full",
    "disk-low",
    "duplication",
    "expel",
    "forgery",
    "hang",
    "hold-up",
    "islands",
    "isolate",
    "kill-election",
    "kill-gateway",
    "kill-oplog",
    "kill-store",
    "kill-sync",
    "lane-loss",
    "lie",
    "loss",
    "one-way",
    "partition",
    "refuse-tokens",
    "release-held",
    "reordering",
    "reset",
    "retire",
    "roll-back",
    "rotate-key",
    "same-instant",
    "send-refused",
    "slow-actor",
    "squall",
    "stand-down",
    "switch-peer",
)
"""Injected."""
SEEN = (
    "condition met",
    "condition refused",
    "conflict row cleared",
    "conflict row made",
    "credential renewed",
    "decision acknowledged",
    "document expired",
    "edit of what was read",
    "entries lost in a roll-back",
    "entries of others put off",
    "feed begun anew",
    "gateway changed by rank at the start",
    "gateway lost",
    "gateway taken over by rank",
    "group across batches",
    "held entry released",
    "hung actor ended",
    "large row",
    "log pruned",
    "log went back",
    "new incarnation at the start",
    "pruned beside quarantine",
    "recorded entry supplied",
    "request answered from memory",
    "request asked again",
    "Resolve asked",
    "round begun again",
    "row mended",
    "tally compared",
    "tombstone collected",
    "Undelete asked",
    "update done",
)
"""Observed from outside."""


_NAMES = [
    f"{kind} {name}"
    for kind, names in (("reason", REASONS), ("fault", FAULTS), ("seen", SEEN))
    for name in names
]


class Counted(Protocol):
    """The branches that one seed took, by where they are counted."""

    @property
    def counts(self) -> Mapping[str, int]: ...
    @property
    def faults(self) -> Mapping[str, int]: ...
    @property
    def reached(self) -> Mapping[str, int]: ...


def total(results: Iterable[Counted]) -> dict[str, int]:
    """How often each branch of the closed list was taken; a branch is named with where it is counted."""
    counts = _counted(results)
    return {name: counts[name] for name in _NAMES}


def beyond(results: Iterable[Counted]) -> dict[str, int]:
    """The same of those that are in no list: no seed has to take them."""
    return {name: times for name, times in _counted(results).items() if name not in _NAMES}


def _counted(results: Iterable[Counted]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for result in results:
        for kind, found in (("reason", result.counts), ("fault", result.faults), ("seen", result.reached)):
            counts.update({f"{kind} {name}": times for name, times in found.items()})
    return counts


def table(counts: dict[str, int]) -> str:
    """One branch a line."""
    return "\n".join(f"{name:<44}{times:>9}" for name, times in counts.items())
