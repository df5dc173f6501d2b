"""Counters under faults: on five nodes the sum of all acknowledged increments, on each exactly."""

from __future__ import annotations

import os
from dataclasses import replace
from math import lcm
from random import Random
from typing import Final

import pytest

from tests.simulation.events.conditions import CONDITIONAL, CONDITIONAL_SEEDS
from tests.simulation.events.tallies import KEYS
from tests.simulation.run import COUNTING, COUNTING_SEEDS, Run, options_of

WANTED: Final = int(os.environ.get("ENTGLDB_COUNTING_SEEDS", "2"))
"""Seeds; a soak has more."""
SEEDS: Final = tuple(73 + lcm(COUNTING_SEEDS, CONDITIONAL_SEEDS) * number for number in range(WANTED))
"""Seeds that count, and whose writes have conditions, too."""
NODES: Final = 5


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_counter_of_five_nodes_is_exact(seed: int) -> None:
    assert (seed % COUNTING_SEEDS, seed % CONDITIONAL_SEEDS) == (COUNTING, CONDITIONAL)
    run = Run(seed, options=replace(options_of(seed, Random(seed)), lan=NODES, cloud=False))
    result = run.whole()
    assert result.violations == []
    assert len(run.lan) >= NODES - 1, "one may have been retired"
    assert result.reached["update done"] > 0
    assert result.reached["tally compared"] > 0
    assert len(KEYS) > 1
