"""A soak counts what it does, and ends at the first broken promise with the seed and the commit."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHORT = "import sys; sys.path.insert(0, 'src'); from tests import soak; sys.exit(soak.soak(0, share=0.0003))"
BROKEN = """
import sys
sys.path.insert(0, "src")
from tests import soak
from tests.simulation.mutants.replication import no_receive_rule
with no_receive_rule():
    sys.exit(soak.soak(0, share=0.0003))
"""
FAILED_ONCE = """
import sys
sys.path.insert(0, "src")
from tests import soak
from tests.simulation import found
from tests.simulation.mutants.replication import no_receive_rule
found.HISTORIES = ((found.run, 4),)
with no_receive_rule():
    print(*soak._failed_once())
"""


def soak(script: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which may fork: this one has threads."""
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_turn_is_counted_and_timed() -> None:
    done = soak(SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    began, summed = done.stdout.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\S* commit \S+, seeds 1 to 200, then from \d+", began)
    found = re.search(r"(\d+) seeds .* (\d+) faults, .*; (\d+) kills in (\d+) rounds .* 0 violations", summed)
    assert found is not None
    seeds, faults, kills, rounds = map(int, found.groups())
    assert (seeds, rounds) == (3, 2)
    assert faults >= 3 * 100
    assert 0 < kills <= 2


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_broken_promise_ends_it_with_seed_and_commit() -> None:
    done = soak(BROKEN)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"VIOLATION at commit \S+: seed \d+ \(Options\(", done.stdout)


@pytest.mark.slow
def test_a_seed_that_failed_once_and_fails_again_is_told() -> None:
    done = soak(FAILED_ONCE)
    assert re.search(r"^seed 4 \(Options\(", done.stdout, re.M), done.stdout + done.stderr
