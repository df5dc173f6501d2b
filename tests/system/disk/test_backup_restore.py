"""Backup, restore and a copied directory, with real nodes that replicate meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from entgldb.client.database import Database
from entgldb.launch.node.files import running
from entgldb.launch.node.process import stop_node
from entgldb.launch.playground.cluster import Member, Playground
from tests.system.support.cluster_fixture import free_port
from tests.system.support.load import flowing, until_equal
from tests.system.support.processes import until

pytestmark = pytest.mark.slow


@pytest.fixture
def playground(tmp_path: Path) -> Iterator[Playground]:
    with Playground(tmp_path) as made:
        made.make_lan(2)
        made.start()
        try:
            yield made
        finally:  # started by the verb, they are no children of the playground
            for record in tmp_path.rglob("node.json"):
                stop_node(record.parent)


def verb(member: Member | Path, *arguments: str) -> str:
    directory = member if isinstance(member, Path) else member.directory
    done = subprocess.run(
        [sys.executable, "-m", "entgldb", arguments[0], "-d", str(directory), *arguments[1:]],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def origin(directory: Path) -> str:
    with Database(directory) as db:
        history = db.status("store")["incarnations"]
    return str(history[0]["origin"]) if history else ""


def why(directory: Path) -> list[str]:
    with Database(directory) as db:
        return [row["why"] for row in db.status("store")["incarnations"]]


def test_a_backup_under_load_is_restored_and_catches_up(playground: Playground, tmp_path: Path) -> None:
    one, two = playground.members[:2]
    file = tmp_path / "one.db"
    with flowing(one.directory, "load-") as load:
        load.more(300)
        verb(one, "backup", str(file))
        load.more(300)
    until_equal(playground)
    verb(one, "stop")
    verb(one, "restore", str(file))
    verb(one, "start", "--detach")
    until_equal(playground)
    assert why(one.directory) == ["restored"]
    with Database(one.directory) as db:
        db["users"].put("after", {"n": 1})
    until_equal(playground)
    with Database(two.directory) as db:
        assert db["users"].get("after") == {"n": 1}
        assert db.status("store")["quarantined"] == 0


def test_a_copied_directory_writes_as_somebody_new_and_only_one_of_the_two_is_let_in(
    playground: Playground, tmp_path: Path
) -> None:
    one, two = playground.members[:2]
    until_equal(playground)
    verb(one, "stop")
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(one.directory), str(copy)], check=True)
    config = (copy / "entgldb.toml").read_text()
    (copy / "entgldb.toml").write_text(re.sub(r"(?m)^(listen = \".*:)\d+\"", rf'\g<1>{free_port()}"', config))
    verb(one, "start", "--detach")
    verb(copy, "start", "--detach")
    try:
        assert (why(one.directory), why(copy)) == ([], ["cloned"])
        for number, directory in enumerate((one.directory, copy)):
            with Database(directory) as db:
                db["users"].put(f"by-{number}", {"n": number})

        def refused() -> bool:
            with Database(two.directory) as db:
                counts = db.status("sync")["counts"]
            return bool(counts.get("duplicate-node"))

        until(refused, 30.0, "one of two nodes with one id refused")
        with Database(two.directory) as db:
            assert db.status("store")["quarantined"] == 0
    finally:
        verb(copy, "stop")


def test_a_damaged_database_is_named_set_aside_and_refilled(playground: Playground) -> None:
    one, two = playground.members[:2]
    with flowing(one.directory, "before-") as load:
        load.more(200)
    until_equal(playground)
    # a stop in good order brings all into the file, the kill after it makes the next start look at the file
    verb(one, "stop")
    verb(one, "start", "--detach")
    record = json.loads((one.directory / "node.json").read_text())
    os.kill(record["pid"], signal.SIGKILL)
    until(lambda: not running(one.directory), 10.0, "no process of the node left")
    file = one.directory / "entgldb.db"
    data = bytearray(file.read_bytes())
    for page in range(8, len(data) // 4096, 3):
        data[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
    file.write_bytes(data)

    refused = subprocess.run(
        [sys.executable, "-m", "entgldb", "start", "-d", str(one.directory), "--detach"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode != 0
    assert "--rebuild" in refused.stderr
    verb(one, "start", "--detach", "--rebuild")
    until_equal(playground)
    assert why(one.directory) == ["rebuilt"]
    assert list(one.directory.glob("entgldb.db.corrupt-*"))
    with Database(two.directory) as db:
        assert db.status("store")["quarantined"] == 0


def test_a_database_that_vanished_is_refilled_and_its_loss_is_told(playground: Playground) -> None:
    one = playground.members[0]
    with flowing(one.directory, "kept-") as load:
        load.more(50)
    until_equal(playground)
    verb(one, "stop")
    for ending in ("", "-wal", "-shm"):
        (one.directory / f"entgldb.db{ending}").unlink(missing_ok=True)
    verb(one, "start", "--detach")
    until_equal(playground)
    assert why(one.directory)[0] == "lost"
    shown = subprocess.run(
        [sys.executable, "-m", "entgldb", "status", "-d", str(one.directory)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "began empty where a database had been" in shown.stdout
    logged = "".join(file.read_text("utf-8") for file in (one.directory / "log").iterdir())
    assert "the database had vanished" in logged
