"""The simulation alone notices each of these mistakes, within 500 seeds."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.run import run

SEEDS_MAX = 500
"""Seeds on which unchanged code has no violation (``test_simulation``)."""


def caught(seed: int) -> list[str]:
    """Violations of one seed."""
    return run(seed).violations


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str) -> None:
    mutant = MUTANTS[name]
    # every change of timing changes what a seed meets: those after the named one stand in for it
    with mutant.make():
        assert any(caught(seed) for seed in range(mutant.first_seed, SEEDS_MAX + 1))
