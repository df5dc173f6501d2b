"""The demo as a user runs it: all steps hold, within two minutes, and nothing stays behind."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import airportsdata
import httpx
import pytest

from tests.support.preloaded import really_started
from tests.system.support.processes import until

pytestmark = pytest.mark.slow
SOURCE = Path(__file__).parents[3] / "src"
AIRPORTS = 7_000
"""Their entries are more than a window holds."""
STEPS = [
    "nodes-up",
    "import",
    "replicated",
    "add-cloud-peer",
    "gateway-connects",
    "cloud-to-lan",
    "disable",
    "enable",
    "modify",
    "replace",
    "partition",
    "gateway-killed",
    "gateway-returns",
    "restart-all",
]
HOSTED = [
    *STEPS[:5],
    "second-tenant",
    "disable",
    "enable",
    "modify",
    "other-process",
    "partition",
    "gateway-killed",
    "gateway-returns",
    "process-killed",
    "restart-all",
]
FEW = 300


def start(mark: str, *options: str, **environment: str) -> subprocess.Popen[str]:
    """The demo, with a mark in its environment that all its processes inherit."""
    return subprocess.Popen(
        [sys.executable, "-m", "entgldb", "demo", "--json", *options],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "DEMO_TEST": mark, **environment},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def marked(mark: str) -> list[int]:
    """Pids of all living processes with the mark; a zombie shows no environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"DEMO_TEST={mark}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def fewer_airports(folder: Path, most: int = AIRPORTS) -> str:
    """A folder whose ``airportsdata`` has some of the real airports: all of them are for ``make demo``."""
    some = dict(itertools.islice(airportsdata.load("ICAO").items(), most))
    (folder / "airportsdata.py").write_text(f"def load(code):\n    return {some!r}\n")
    return str(folder)


@pytest.mark.timeout(150)
def test_all_steps_hold_the_cluster_can_be_looked_at_and_nothing_stays_behind(tmp_path: Path) -> None:
    path = f"{fewer_airports(tmp_path)}:{SOURCE}"
    kept = str(tmp_path / "kept")
    process = start("whole", "--keep", kept, "--http", "127.0.0.1:0", PYTHONPATH=path)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    if "url" in first:
        assert 'svg class="mesh"' in httpx.get(f"{first['url']}/ui/overview", timeout=20).text
        process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=130)
    report: dict[str, Any] = json.loads(output) if "url" in first else first
    assert report["schema_version"] == 1
    assert {step["name"]: step["detail"] for step in report["steps"] if not step["ok"]} == {}
    assert [step["name"] for step in report["steps"]] == STEPS
    assert report["ok"] is True
    (imported,) = (step["detail"] for step in report["steps"] if step["name"] == "import")
    assert imported.startswith(f"{AIRPORTS} documents")
    assert process.returncode == 0
    assert {node["node_id"] for node in report["nodes"]} == {"lan-1", "lan-2", "lan-3", "cloud-1", "cloud-2"}
    assert all((tmp_path / "kept" / node["node_id"] / "entgldb.db").exists() for node in report["nodes"])
    assert len(report["figures"]) == 6
    assert marked("whole") == []


@pytest.mark.timeout(280)
def test_a_cloud_of_two_processes_holds_all_steps_and_keeps_tenants_apart(tmp_path: Path) -> None:
    process = start("hosted", "--cloud", "postgres", PYTHONPATH=f"{fewer_airports(tmp_path, FEW)}:{SOURCE}")
    try:
        told, _ = process.communicate(timeout=260)
    finally:
        process.kill()
    report = json.loads(told)
    assert [step["name"] for step in report["steps"]] == HOSTED
    assert report["ok"] is True, report["steps"][-1]
    (apart,) = (step["detail"] for step in report["steps"] if step["name"] == "second-tenant")
    assert "tables and outputs of others" in apart
    assert until(lambda: not marked("hosted"), 40, "nothing stays behind")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_is_cut_short_leaves_no_process(number: signal.Signals, tmp_path: Path) -> None:
    with really_started():
        process = start(number.name, TMPDIR=str(tmp_path))
    try:
        started = until(lambda: _started(process, tmp_path), 40, "the start of lan-3")
        assert started == "lan-3", process.communicate(timeout=15)
        assert len(marked(number.name)) > 12  # three nodes, each of six actors and more, and the demo
        process.send_signal(number)
        process.communicate(timeout=15)
        assert process.returncode == (-9 if number is signal.SIGKILL else 130)
        until(lambda: marked(number.name) == [], 15, "the end of all processes")
        if number is not signal.SIGKILL:
            assert list(tmp_path.glob("entgldb-demo-*")) == []
    finally:
        process.kill()
        process.communicate()


def _started(process: subprocess.Popen[str], folder: Path) -> str:
    """Which came first: the last node, or the end of the demo."""
    if list(folder.glob("*/lan-3/node.json")):
        return "lan-3"
    return "" if process.poll() is None else "the end"


def test_a_demo_cut_short_while_it_makes_a_class_ends_with_its_own_code(tmp_path: Path) -> None:
    code = "from entgldb.launch.cli.trials.demo import end_well\nend_well()\nimport sys\ntry:\n"
    code += "    exec('import signal; signal.raise_signal(signal.SIGTERM)')\n"
    (tmp_path / "cut.py").write_text(code + "except KeyboardInterrupt:\n    sys.exit(130)\n", "ascii")
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-m", "cut"], cwd=tmp_path, env=environment, timeout=20, check=False
    )
    assert done.returncode == 130
