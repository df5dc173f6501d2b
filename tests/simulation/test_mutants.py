"""The simulation alone notices each of these mistakes, within a few seeds."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.run import run

SEEDS = range(1, 61)
"""Seeds on which unchanged code has no violation (``test_simulation``); the first hit ends a test.

Every change of timing changes what a seed meets, and equal clocks on two nodes are rare: one seed in
five catches ``tie without origin``.
"""


def caught(seed: int) -> list[str]:
    """Violations of one seed."""
    return run(seed).violations


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str) -> None:
    with MUTANTS[name]():
        assert any(caught(seed) for seed in SEEDS)
