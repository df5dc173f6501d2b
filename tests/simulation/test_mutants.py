"""The simulation alone notices each of these mistakes, on one of a few seeds."""

from __future__ import annotations

import pytest

from tests.simulation.mutants.table import MUTANTS


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str) -> None:
    assert next(MUTANTS[name].noticing(), None) is not None


@pytest.mark.parametrize("name", MUTANTS)
def test_what_a_mutant_changes_is_there(name: str) -> None:
    with MUTANTS[name].make():
        pass
