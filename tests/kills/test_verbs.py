"""Rebuild, restore, backup, compact, heal and install, killed at every step, lose nothing."""

from __future__ import annotations

import re

import pytest

from tests.kills.test_kills import run

MISTAKEN = """
import sys, tempfile
from pathlib import Path
from tests.kills import verbs
from entgldb.storage.file import fingerprint, swap

def without_a_note(directory, made):
    for ending in swap._ENDINGS:
        present = directory / f"{swap.DATABASE}{ending}"
        if present.exists():
            present.replace(directory / f"{made.aside}{ending}")
    (directory / fingerprint.FINGERPRINT_FILE).unlink(missing_ok=True)
    (directory / swap.PART / swap.DATABASE).replace(directory / swap.DATABASE)

fingerprint._place = lambda directory: ("machine", 1, 2)
swap.install = without_a_note
with tempfile.TemporaryDirectory() as folder:
    print(*verbs.kill_everywhere("restore", 1000, Path(folder))[1], sep="\\n")
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_verb_killed_at_any_step_loses_nothing_and_is_completed_by_the_next_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = run("-m", "tests.kills.verbs", "--stride", "30")
    with capsys.disabled():
        print(f"\n{said}")
    steps = dict(re.findall(r"(\w+): killed at (\d+) steps; 0 violations", said))
    assert set(steps) == {"rebuild", "reissue", "restore", "backup", "compact", "heal", "install"}
    assert all(int(count) >= 5 for count in steps.values())


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_swap_without_a_note_is_caught() -> None:
    said = run("-c", f"import sys; sys.path.insert(0, 'src'){MISTAKEN}")
    assert "restore killed at" in said
