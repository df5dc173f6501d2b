"""Two real processes write one tenant for a while: no gap, no double, and a reader's lsn strictly grows."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest

from entgldb.storage.postgres.connection import Connection
from entgldb.storage.postgres.server import Server
from entgldb.storage.postgres.store import LogReader, as_sqlite
from tests.support import postgres

ROOT: Final = Path(__file__).parents[4]
SECONDS: Final = float(os.environ.get("ENTGLDB_TWO_WRITERS", "3"))
NOW: Final = 1_790_000_000_000
ENTRIES: Final = 3
"""Of each group."""
PATIENCE_S: Final = 60.0
WRITER: Final = """
import sys, time
from entgldb.messages.client import RequestId, Write
from entgldb.storage.postgres.store import Store
address, tenant, answers = sys.argv[1:4]
number, seconds, entries = int(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6])
# the clock of one process is an hour behind
now = 1_790_000_000_000 - number * 3_600_000
store = Store.connect(address, tenant, "cloud", now)
print("ready", flush=True)
sys.stdin.readline()
turn, until = 0, time.monotonic() + seconds
with open(answers, "w") as file:
    while time.monotonic() < until:
        turn += 1
        writes = [Write("users", f"{number}-{turn}-{n}", b"{}") for n in range(entries)]
        with store.group():
            last = store.write(RequestId(bytes([number]) * 16, turn), writes, now)[1]
        print(last, file=file)
"""


@pytest.mark.timeout(SECONDS + 4 * PATIENCE_S)
def test_two_processes_that_write_for_a_while_make_one_order(tmp_path: Path) -> None:
    tenant = postgres.open_store("cloud", NOW).on.tenant
    with ExitStack() as stack:
        files = [tmp_path / "one", tmp_path / "two"]
        writers = [stack.enter_context(started(tenant, file, number)) for number, file in enumerate(files, 1)]
        for one in writers:
            stack.callback(one.kill)
        for one in writers:
            assert said(one) == "ready"
        on = stack.enter_context(closing(Server(postgres.address())))
        reader = LogReader(as_sqlite(Connection(on, tenant)))
        for one in writers:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        seen = followed(reader, writers)
        assert [one.returncode for one in writers] == [0, 0]
        acknowledged = [[int(line) for line in file.read_text().split()] for file in files]
        assert all(own == sorted(set(own)) and own for own in acknowledged)
        last = ENTRIES * sum(map(len, acknowledged))
        seen += [row.lsn for row in reader.rows(seen[-1] + 1, last)]
        assert seen == list(range(last + 1))
        assert sorted(acknowledged[0] + acknowledged[1]) == list(range(ENTRIES, last + 1, ENTRIES))
        (head,) = [seq for seq, _ in reader.vector().values()]
        assert head == last


def started(tenant: str, answers: Path, number: int) -> subprocess.Popen[str]:
    arguments = [postgres.address(), tenant, str(answers), str(number), str(SECONDS), str(ENTRIES)]
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def said(writer: subprocess.Popen[str]) -> str:
    assert writer.stdout is not None
    return writer.stdout.readline().strip()


def followed(reader: LogReader, writers: list[subprocess.Popen[str]]) -> list[int]:
    """The numbers that a reader finds while they write, each after the last; what it is told never falls."""
    seen, last, until = [0], 0, time.monotonic() + SECONDS + PATIENCE_S
    while any(one.poll() is None for one in writers):
        assert time.monotonic() < until, "the writers do not end"
        found = [row.lsn for row in reader.rows(seen[-1] + 1, 1_000)]
        assert found == list(range(seen[-1] + 1, seen[-1] + 1 + len(found)))
        seen += found
        assert reader.last_lsn() >= max(last, seen[-1])
        last = reader.last_lsn()
    return seen
