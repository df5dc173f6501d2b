"""The simulation alone notices each of these mistakes, on one of a few seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.mutants.table import MUTANTS, UNMET


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in UNMET])
def test_mutant_is_caught(name: str) -> None:
    assert next(MUTANTS[name].noticing(), None) is not None


@pytest.mark.parametrize("name", MUTANTS)
def test_what_a_mutant_changes_is_there(name: str) -> None:
    with MUTANTS[name].make():
        pass


def test_what_no_seed_meets_is_noticed_elsewhere() -> None:
    assert set(UNMET) <= set(MUTANTS)
    for why in UNMET.values():
        assert Path(__file__).parents[2].joinpath(why.split()[4]).is_file(), why
