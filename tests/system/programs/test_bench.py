"""The bench as a user runs it, on so little that its figures mean nothing: each is there, and in form."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from entgldb.launch.bench.works import FIGURES, GROWN_FIGURES, Wanted
from tests.support import postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
SOURCE = Path(__file__).parents[3] / "src"


def bench(folder: Path, *options: str) -> dict[str, Any]:
    """Run it with its files below ``folder``; what it printed. It has told each figure before."""
    with running(folder, "--json", "--rounds", "1", *options) as run:
        stdout, stderr = run.communicate(timeout=170)
    assert run.returncode == 0, stderr
    printed: dict[str, Any] = json.loads(stdout)
    names = [f"{row['work']}.{row['figure']}" for row in printed["results"]]
    names += [f"W9.{row['name']}" for row in printed.get("steps", [])]
    assert [line.split()[0] for line in stderr.splitlines()] == names
    assert list(folder.iterdir()) == []
    return printed


@contextmanager
def running(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The bench, with its files below ``folder``; ended with the block."""
    run = subprocess.Popen(
        [sys.executable, "-m", "entgldb", "bench", *options],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with run:
        try:
            yield run
        finally:
            run.terminate()


def test_every_figure_is_measured(tmp_path: Path) -> None:
    printed = bench(tmp_path, "--scale", "0.01", "--postgres", postgres.address())
    assert printed.keys() == {"schema_version", "machine", "results", "left"}
    assert printed["left"] == []
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


def test_one_that_is_interrupted_prints_what_it_knows_and_leaves_nothing(tmp_path: Path) -> None:
    # a round of the second figure takes a second
    with running(tmp_path, "--json", "--rounds", "30", "--scale", "0.0001", "W1.single", "W5") as run:
        assert run.stderr
        assert run.stdout
        assert run.stderr.readline().startswith("W1.single ")
        run.send_signal(signal.SIGINT)
        printed = json.loads(run.stdout.read())
    assert run.returncode == 130
    assert [row["figure"] for row in printed["results"]] == ["single"]
    assert printed["left"] == ["W5.cpu", "W5.pss"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("more", "code"), [((), 0), (("--check",), 1)])
def test_one_whose_time_is_over_tells_what_it_knows(tmp_path: Path, more: tuple[str, ...], code: int) -> None:
    options = ("--budget", "1", "--rounds", "30", "W5.pss", *more)
    with running(tmp_path, *options) as run:
        stdout, stderr = run.communicate(timeout=100)
    assert (run.returncode, stderr) == (code, "")
    assert stdout.splitlines()[-2:] == ["0 of 0 targets reached", "not measured: W5.pss"]
    assert list(tmp_path.iterdir()) == []
