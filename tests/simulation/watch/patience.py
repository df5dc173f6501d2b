"""The time in which all must settle: the more is to be carried over lines of little bandwidth, the longer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.simulation.watch.checks import Watch
from tests.simulation.world.node import SimulatedNode

HEAL_SECONDS_MAX: Final = 90.0
"""Within it everything must have settled that is not a matter of bytes: backoffs, held entries, elections.
Twice the longest seen."""
USED: Final = 0.8
"""The share of a line that entries get at least, beside heartbeats and what frames them."""


class Patience:
    """Looks at the nodes as often as it is asked: what they write meanwhile is to be carried too."""

    def __init__(self, nodes: Sequence[SimulatedNode], watch: Watch, bandwidth: float) -> None:
        """``bandwidth``: bytes a second of each way of a link."""
        self._nodes, self._watch, self._bandwidth = nodes, watch, bandwidth
        self._lacking = self._owed = 0

    def seconds(self) -> float:
        """How long all may take, from the first question on."""
        lacking = sum(map(self._lacked, self._nodes))
        self._owed += max(0, lacking - self._lacking)
        self._lacking = lacking
        # one line after the other, where they form one: a relay passes on what it has whole
        return HEAL_SECONDS_MAX + self._owed / (USED * self._bandwidth)

    def _lacked(self, node: SimulatedNode) -> int:
        """The bytes of all entries that a node does not have."""
        vector = {origin: seq for origin, (seq, _) in node.log.vector().items()}
        return sum(
            len(one.header) + len(one.body or "")
            for (origin, seq), one in self._watch.union.items()
            if vector.get(origin, 0) < seq
        )
