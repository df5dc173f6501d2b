"""The fixtures and checks of every test."""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

from tests import leftovers
from tests.support import preloaded
from tests.support.memory import in_memory

ROOT: Final = Path(__file__).parent.parent
LONGEST: Final = (
    "tests/system/programs/test_demo.py",
    "tests/simulation/test_away.py",
    "tests/system/programs/test_bench.py",
    "tests/seed/test_remote_peer_configuration.py",
    "tests/simulation/test_mutants.py",
    "tests/system/process/test_supervision.py",
    "tests/simulation/test_simulation.py",
    "tests/system/cloud/test_postgres.py",
    "tests/unit/actors/tls/test_link_faults.py",
    "tests/simulation/test_rotating.py",
    "tests/system/cloud/test_authority_faults.py",
    "tests/unit/storage/snapshot/test_snapshot_histories.py",
    "tests/system/disk/test_backup_restore.py",
    "tests/unit/web/dashboard/test_browser.py",
    "tests/system/process/test_stopped_processes.py",
    "tests/kills/test_kills.py",
    "tests/system/cloud/test_processes.py",
    "tests/system/cluster/test_ipv6.py",
    "tests/system/process/test_canaries.py",
    "tests/test_soak.py",
    "tests/system/process/test_joining.py",
    "tests/unit/storage/snapshot/test_snapshots_of_branches.py",
    "tests/system/disk/test_snapshots.py",
    "tests/system/disk/test_forgetting.py",
    "tests/unit/storage/postgres/test_failover.py",
    "tests/test_house.py",
    "tests/system/cluster/test_clock_trials.py",
    "tests/kills/test_verbs.py",
    "tests/system/cloud/test_cloud_link_faults.py",
    "tests/system/cluster/test_spread.py",
    "tests/system/process/test_client_crowd.py",
    "tests/unit/actors/sync/test_slow_line.py",
    "tests/system/process/test_http_server.py",
    "tests/system/cluster/test_expelling.py",
    "tests/unit/launch/embedded/test_turns.py",
    "tests/unit/launch/embedded/test_documented.py",
    "tests/system/programs/test_examples.py",
    "tests/simulation/test_calm.py",
    "tests/system/cluster/test_members.py",
    "tests/system/disk/test_wal_watch.py",
    "tests/system/disk/test_kill_under_load.py",
    "tests/system/disk/test_sick_disk.py",
    "tests/unit/client/test_client.py",
    "tests/unit/storage/postgres/test_trips.py",
)
"""Files of tests that take longest, the longest first: by twice their processor time and their waiting,
so that some wait while others compute. The last tests of a run show which is missing here."""
ROOT_OF_FOLDERS: Final = "PYTEST_DEBUG_TEMPROOT"
"""pytest's own variable: where ``tmp_path`` and its like are made."""
ROOM: Final = 4 << 30
"""A whole run, with what is kept of its failures, needs a quarter of it."""
LEFT: Final = "left_running"
_left: list[str] = []
"""Told by the processes that run tests for this one."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write what comes out into tests/transcripts")


def pytest_configure(config: pytest.Config) -> None:
    leftovers.mark()
    # the tests start some hundreds of Python processes: each would compile all modules anew
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # a machine that is slow, or has other work, is no fault
    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # as in the background of a script; a program of a test would ignore it, too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if ROOT_OF_FOLDERS not in os.environ and (memory := in_memory(ROOM)) is not None:
        os.environ[ROOT_OF_FOLDERS] = str(memory)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the files, long ones begin first: one that began last would run alone."""
    if not hasattr(config, "workerinput"):
        return
    places = {ROOT / name: place for place, name in enumerate(LONGEST)}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (places.get(item.path, len(places)), item.path not in slow))


def pytest_collection_finish(session: pytest.Session) -> None:
    # the modules of all tests stay to the end: no collection need look at them again
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of several processes that run tests has ended: note the processes that its tests have left."""
    _left.extend(getattr(node, "workeroutput", {}).get(LEFT, ()))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End each process that a test has left running, and fail the run for it."""
    used = sys.modules.get("tests.support.postgres")
    if used is not None:
        used.stop()
    preloaded.stop()
    told = getattr(session.config, "workeroutput", None)
    if told is not None:
        # only the process that began the run can fail it
        told[LEFT] = leftovers.ended()
        return
    for what in (*_left, *leftovers.ended()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print(f"\nleft running: {what}", file=sys.__stderr__)


@pytest.fixture(scope="module", autouse=True)
def starts() -> Iterator[None]:
    """A verb or a node is forked from a process that has loaded all; not in tests about processes."""
    with preloaded.preloaded():
        yield


@pytest.fixture(scope="module", autouse=True)
def leaves_nothing_open() -> Iterator[None]:
    """A file, socket or process that a module left open in a cycle fails the module's last test, and not the
    test of another module in which the collector happens to come by."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Databases in memory are made by the dozen; a test may leave its own to its end."""
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def noted(place: Any, *given: Any, **named: Any) -> sqlite3.Connection:
        opened = connect(place, *given, **named)
        if ":memory:" in str(place):
            made.append(opened)
        return opened

    monkeypatch.setattr(sqlite3, "connect", noted)
    yield
    for connection in made:
        connection.close()
