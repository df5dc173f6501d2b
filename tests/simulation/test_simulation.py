"""The whole of replication and election, from seeds. ``make simulate SEEDS=n`` runs more of them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.simulation.run import ACKNOWLEDGED_MIN, FAULTS_MIN, run

ROOT = Path(__file__).parent.parent.parent
FAST = range(1, 9)
SLOW = range(9, 101)
FRESH = range(int(time.time()), int(time.time()) + 20)
"""Seeds nobody has seen; the name of a failing test tells its seed, which then becomes a named test."""


def check(seed: int) -> None:
    """One seed keeps every promise, and was hard enough to say so."""
    result = run(seed)
    assert result.violations == [], f"seed {seed}: {result.options}"
    assert result.injected >= FAULTS_MIN
    assert result.acknowledged >= ACKNOWLEDGED_MIN


@pytest.mark.parametrize("seed", FAST)
def test_seed(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW)
def test_more_seeds(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", FRESH)
def test_fresh_seeds(seed: int) -> None:
    check(seed)


def test_the_same_seed_is_the_same_history() -> None:
    assert run(3).trace == run(3).trace
    assert run(3).trace != run(4).trace


def test_history_does_not_depend_on_the_hash_seed() -> None:
    script = "from tests.simulation.run import run; print(run(5).trace)"
    traces = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "4711")
    }
    assert len(traces) == 1
