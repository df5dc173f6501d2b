"""The simulation alone notices each of these mistakes, within 500 seeds."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation.mutants.replication import MUTANTS, first_noticed


@pytest.fixture(scope="module")
def noticed() -> dict[str, int | None]:
    """All are tried at once, on all cores; the seed that noticed each."""
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        return dict(zip(MUTANTS, pool.map(first_noticed, MUTANTS), strict=True))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str, noticed: dict[str, int | None]) -> None:
    assert noticed[name] is not None
