"""SIGKILL of a program that has opened a directory: what ``put`` has returned is there."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import entgldb
from entgldb.launch.node.child import environment
from entgldb.storage.recovery.check import Checkup

pytestmark = pytest.mark.slow
ROUNDS = 12
WRITER = """
import sys, threading
import entgldb

db = entgldb.open(sys.argv[1], node_id="lan-1")
said = threading.Lock()

def write(thread):
    for number in range(10_000):
        key = f"{sys.argv[2]}-{thread}-{number}"
        if number % 5:
            db["c"].put(key, {"key": key})
        else:
            db["c"].put_many([(f"{key}-{part}", {"key": f"{key}-{part}"}) for part in range(20)], atomic=True)
        with said:
            print(key, flush=True)

for thread in range(3):
    threading.Thread(target=write, args=(thread,)).start()
"""


def acknowledged(directory: Path, number: int) -> list[str]:
    """What a program was told is stored before it was killed, at another moment in each round."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory), str(number)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert writer.stdout is not None
    told = [writer.stdout.readline() for _ in range(1 + number * 17)]
    writer.kill()
    told += writer.communicate()[0].splitlines(keepends=True)
    return [line.strip() for line in told if line.endswith("\n")]


def test_what_was_acknowledged_is_there(tmp_path: Path) -> None:
    origins = set()
    for number in range(ROUNDS):
        keys = acknowledged(tmp_path, number)
        with entgldb.open(tmp_path) as db:
            for key in keys:
                whole = int(key.rpartition("-")[2]) % 5 == 0
                for name in [f"{key}-{part}" for part in range(20)] if whole else [key]:
                    assert db["c"].get(name) == {"key": name}
            for found in db["c"].find():
                # of a transaction all or nothing
                if found.key.count("-") == 3:
                    group = found.key.rpartition("-")[0]
                    assert db["c"].get(f"{group}-19") is not None
            origins.add(db["after"].put(f"{number}", {}).origin)
        with closing(Checkup.open(tmp_path)) as checkup:
            assert checkup.run(deep=True, still=True) == []
    assert len(origins) == 1, "a kill is no reason to write as somebody else"
