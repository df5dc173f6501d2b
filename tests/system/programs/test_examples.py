"""The programs in ``examples`` run, and say what they are there to say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from entgldb.launch.node.child import environment

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[3] / "examples"


def said_by(program: str, *arguments: str, stdin: str = "") -> list[str]:
    """The lines that an example prints; it must end well."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / program), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=90,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.timeout(120)
def test_two_tills_that_are_cut_off_end_with_the_right_stock() -> None:
    assert said_by("shop_counter.py") == [
        "in the morning: {'apple': 100}",
        "cut off, till-1 sees {'apple': 85} and till-2 sees {'apple': 70}",
        "in the evening, everybody sees {'apple': 55} {'apple': 55} {'apple': 55}",
        "sales: 10",
    ]


def test_notes_are_found_by_their_words(tmp_path: Path) -> None:
    def notes(*arguments: str) -> list[str]:
        return said_by("notes.py", str(tmp_path / "notes"), *arguments)

    (tea,) = notes("add", "Tea with Grace", "Tuesday at four, bring the plans")
    (garden,) = notes("add", "Garden", "the apple tree wants water, Grace said")
    assert len(notes("find", "grac*")) == 2
    found = f"{garden} Garden | the apple tree wants water, [Grace] said"
    assert notes("find", "grace -tuesday") == [found]
    assert notes("tag", tea, "meeting") == notes("tag", tea, "meeting") == []
    assert notes("list")[-1] == "meeting: 1"
    assert notes("find", 'no "such words') == []


def test_readings_are_shown_while_they_are_hot_and_expire(tmp_path: Path) -> None:
    said = said_by("sensor_collector.py", str(tmp_path / "plant"), "3")
    summary = [line for line in said if "readings" in line]
    assert [line.partition(":")[0] for line in summary] == ["boiler", "oven", "press"]
    shown = [line for line in said if line.startswith("hot: ")]
    assert any(line != "hot: nothing" for line in shown)
    assert said[-1] == "everything has expired"


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "notes.py",
        "sensor_collector.py",
        "shop_counter.py",
    }
