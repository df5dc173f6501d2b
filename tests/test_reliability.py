"""The table of faults tells the truth about its tests and its reasons."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from entgldb.messages.errors import Reason
from tests.simulation import test_away, test_simulation

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reliability.md"
HEAD = ["fault", "what happens", "what you see in status", "the test that shows it"]


def rows() -> list[list[str]]:
    """The cells of every row of every table of the page, heads and rules left out."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("|")
    ]
    return [row for row in cells if row != HEAD and set("".join(row)) != {"-"}]


def test_every_row_is_whole_and_no_fault_stands_twice() -> None:
    faults = [row[0] for row in rows()]
    assert [row for row in rows() if len(row) != len(HEAD)] == []
    assert len(faults) == len(set(faults)) > 20


@pytest.mark.parametrize("row", rows(), ids=lambda row: str(row[0])[:50])
def test_the_named_tests_and_reasons_exist(row: list[str]) -> None:
    _, _, seen, shown_by = row
    tests = [part.strip() for part in shown_by.split(",")]
    assert [test for test in tests if not exists(test)] == []
    assert set(re.findall(r"`([^`]+)`", seen)) <= {reason.value for reason in Reason}


def test_every_kind_of_attack_names_tests_that_exist() -> None:
    lines = (ROOT / "docs" / "security.md").read_text().splitlines()
    tests = [
        part.strip() for line in lines if "::" in line for part in line.strip("|").split("|")[2].split(",")
    ]
    assert len(tests) > 25
    assert [test for test in tests if not exists(test)] == []


def exists(test: str) -> bool:
    file, _, name = test.partition("::")
    return re.search(rf"(?m)^(async )?def {name}\(", (ROOT / file).read_text()) is not None


def test_the_page_counts_the_seeds() -> None:
    whole = {*test_simulation.FAST, *test_simulation.SEEDS}
    away = {*test_away.FAST, *test_away.SEEDS}
    text = PAGE.read_text()
    assert f"in `make test` {len(whole)} seeds" in text
    assert f"and {len(away)} of nodes that come back to snapshots" in text
