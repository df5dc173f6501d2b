"""The bench as a user runs it, on so little that its figures mean nothing: each is there, and in form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from entgldb.launch.bench.works import FIGURES, GROWN_FIGURES, Wanted
from tests.support import postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
SOURCE = Path(__file__).parents[3] / "src"


def bench(folder: Path, *options: str) -> dict[str, Any]:
    """Run it with its files below ``folder``; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "entgldb", "bench", "--json", "--rounds", "1", *options],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    printed: dict[str, Any] = json.loads(done.stdout)
    assert list(folder.iterdir()) == []
    return printed


def test_every_figure_is_measured(tmp_path: Path) -> None:
    printed = bench(tmp_path, "--scale", "0.01", "--postgres", postgres.address())
    assert printed.keys() == {"schema_version", "machine", "results"}
    # nothing where the files are in memory
    assert printed["machine"]["fsync_ms"] >= 0
    assert printed["schema_version"] == 1
    results = printed["results"]
    assert [(row["work"], row["figure"]) for row in results] == [(f.work, f.name) for f in FIGURES]
    for row, figure in zip(results, FIGURES, strict=True):
        assert row.keys() == {"work", "figure", "ours", "floor", "ratio", "unit"}
        assert row["unit"] == figure.unit
        # an idle second may be less than the kernel's unit of processor time
        assert row["ours"] > 0 or row["figure"] == "cpu"
        assert (row["floor"] is None) == (row["ratio"] is None)
        assert figure.wanted is not Wanted.RATIO or row["ratio"] == pytest.approx(
            row["ours"] / row["floor"], rel=0.01
        )


def test_a_node_that_holds_more_is_compared_with_one_that_holds_less(tmp_path: Path) -> None:
    printed = bench(tmp_path, "--scale", "0.01", "--documents", "2000", "W1", "W6")
    assert printed["steps"] == []
    results = printed["results"]
    assert [(row["work"], row["figure"]) for row in results] == [(f.work, f.name) for f in GROWN_FIGURES]
    assert all(row["ratio"] > 0 for row in results)


def test_nodes_with_many_documents_do_all_that_nodes_do(tmp_path: Path) -> None:
    printed = bench(tmp_path, "--scale", "0.01", "--documents", "1000", "W9")
    assert printed["results"] == []
    steps = printed["steps"]
    names = ["put", "index", "open", "find", "catchup", "verify", "snapshot", "compact"]
    assert [step["name"] for step in steps] == names
    for step in steps:
        assert step.keys() == {"name", "seconds", "rate", "pss_mb", "wait_s"}
        assert step["seconds"] > 0
        assert step["pss_mb"] > 30
        assert (step["wait_s"] > 0) == (step["name"] not in ("open", "verify"))
