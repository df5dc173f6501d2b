"""A foreign reader keeps a transaction open while a node writes: it is named; the log shrinks after it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import entgldb
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb as command
from entgldb.launch.node.init import Plan, init
from entgldb.launch.node.process import start_detached, stop_node
from entgldb.messages.limits import WAL_ALARM_BYTES
from entgldb.storage.file.open import FILE
from tests.system.support.processes import until
from tests.unit.storage.file.test_wal_watch import READER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240, method="signal")]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    made = init(Plan(tmp_path / "n1", "lan-1", host="127.0.0.1"))
    start_detached(made.directory)
    yield made.directory
    stop_node(made.directory)


def test_a_foreign_reader_is_named_by_status_check(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = {f"k{number}": {"text": "x" * 1_000_000} for number in range(16)}

    def checked() -> str:
        code = run(command, ["status", "-d", str(directory), "--check"])
        told = capsys.readouterr()
        return f"{code} {told.out} {told.err}"

    with entgldb.connect(directory, timeout=60) as db:
        db["large"].put("k", {})
        with subprocess.Popen(
            [sys.executable, "-c", READER, str(directory / FILE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as reader:
            try:
                assert reader.stdout is not None
                reader.stdout.readline()
                while int(db.status("store")["wal_bytes"]) <= WAL_ALARM_BYTES:
                    db["large"].put_many(large, atomic=True)
                until(lambda: f"process {reader.pid} (" in checked(), 30.0, "it is named")
                found = checked()
                assert found.startswith("5 ")
                assert "wal-large" in found
            finally:
                reader.kill()
        until(lambda: int(db.status("store")["wal_bytes"]) < WAL_ALARM_BYTES, 90.0, "it has shrunk")
        until(lambda: "wal-large" not in checked(), 30.0, "the alarm is over")
