"""A run of many seeds that was done in parts is reported as one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.simulation.__main__ import Line, main
from tests.simulation.watch import branches


def line(seed: int, *violations: str, **counted: dict[str, int]) -> str:
    told = {"faults": {}, "counts": {}, "reached": {}} | counted
    return json.dumps(Line(seed, "options", [*violations], **told, acknowledged=7, healed_in=seed)._asdict())


def test_parts_are_summed_and_a_seed_of_two_parts_counts_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (one := tmp_path / "one").write_text(f"{line(1, faults={'crash': 2})}\n{line(2, counts={'gap': 1})}\n")
    (two := tmp_path / "two").write_text(
        f"{line(2, counts={'gap': 1})}\n{line(3, reached={'log pruned': 5})}\n"
    )
    assert main(["--sum", str(one), str(two)]) == 0
    said = capsys.readouterr().out
    unreached = set(branches.total([])) - {"fault crash", "reason gap", "seen log pruned"}
    assert said.endswith(f"3 seeds, 2 faults, 0 violations, {len(unreached)} unreached branches\n")
    (named,) = (text for text in said.splitlines() if text.startswith("unreached: "))
    assert set(named.removeprefix("unreached: ").split(", ")) == unreached


def test_a_part_with_a_violation_names_the_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (part := tmp_path / "part").write_text(f"{line(1)}\n{line(2, 'a document is lost')}\n")
    assert main(["--sum", str(part)]) == 1
    assert "seed 2: options\n  a document is lost\n" in capsys.readouterr().out


def test_a_part_keeps_what_is_reported_of_each_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = tmp_path / "part"
    assert main(["--seeds", "1", "--first", "4", "--into", str(part)]) == 0
    told = capsys.readouterr().out
    assert main(["--sum", str(part)]) == 0
    assert capsys.readouterr().out == told
