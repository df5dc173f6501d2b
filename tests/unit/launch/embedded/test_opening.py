"""``entgldb.open``: whose a directory is, who holds it, and what becomes of it afterwards."""

from __future__ import annotations

import gc
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

import entgldb
from entgldb.actors.cluster_key import read_cluster_keys
from entgldb.actors.tls.attestation import CaOfCluster
from entgldb.client.database import Database
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb as command
from entgldb.launch.node.child import environment
from entgldb.launch.node.files import LOCK, locked, running, write_record
from entgldb.launch.node.init import Plan, init
from entgldb.launch.node.process import start_detached
from entgldb.messages.errors import ConfigError, EntglError, InvalidError, NoNodeError
from entgldb.storage.file.open import open_reader
from entgldb.storage.file.schema import FORMAT


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with entgldb.open(tmp_path / "d", node_id="lan-1") as opened:
        yield opened


def meta(directory: Path, name: str) -> object:
    with closing(open_reader(directory)) as connection:
        row = connection.execute("SELECT value FROM _entgldb_meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]


def attestation(directory: Path) -> bytes:
    sql = "SELECT attestation FROM _entgldb_origins WHERE name = ?"
    with closing(open_reader(directory)) as connection:
        found: bytes = connection.execute(sql, (meta(directory, "origin"),)).fetchone()[0]
        return found


def python(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def test_a_new_directory_is_made_and_kept(tmp_path: Path) -> None:
    home = tmp_path / "new" / "d"
    with entgldb.open(home) as db:
        version = db["users"].put("u1", {"name": "Ada"})
        assert db["users"].get("u1") == {"name": "Ada"}
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "entgldb.db").stat().st_mode & 0o777 == 0o600
    with entgldb.open(home) as db:
        found = db["users"].get("u1")
        assert found is not None
        assert found.version == version
        assert db["users"].put("u2", {}) == (version.origin, version.seq + 1), "it writes as the same"
        assert db.status("store")["incarnations"] == []


def test_the_name_of_a_writer_is_kept(db: Database, tmp_path: Path) -> None:
    assert db["c"].put("k", {}).origin.startswith("lan-1/")
    db.close()
    with entgldb.open(db.directory) as again:
        assert again["c"].put("k", {}).origin.startswith("lan-1/")
    with pytest.raises(ConfigError, match="belongs to node lan-1, not lan-2"):
        entgldb.open(db.directory, node_id="lan-2")
    assert not running(db.directory), "a refusal gives the directory back"
    with pytest.raises(InvalidError, match="is not a node id"):
        entgldb.open(tmp_path / "e", node_id="a/b")


def test_closed_is_closed(db: Database) -> None:
    feed = db.changes(follow=True)
    db["c"].put("k", {})
    next(feed)
    db.close()
    db.close()
    for call in (
        lambda: db["c"].get("k"),
        lambda: db["c"].put("k", {}),
        lambda: list(db["c"].find()),
        lambda: db.status("store"),
        lambda: db.attach(),
    ):
        with pytest.raises(InvalidError, match="this database was closed"):
            call()
    with pytest.raises(EntglError, match="closed"):
        list(feed)


def test_each_refusal_is_an_error_of_its_own(db: Database) -> None:
    """One error that is raised again and again keeps the frames of all who got it."""
    db.close()
    errors = []
    for call in (lambda: db["c"].get("k"), lambda: db["c"].put("k", {})) * 2:
        with pytest.raises(InvalidError) as caught:
            call()
        errors.append(caught.value)
    assert len({id(error) for error in errors}) == 4


def test_the_file_is_left_as_after_a_stop_in_good_order(db: Database) -> None:
    db["c"].put("k", {})
    assert meta(db.directory, "running") is not None
    db.close()
    files = {"entgldb.db", LOCK, "node.fingerprint", "snapshots"}
    assert {path.name for path in db.directory.iterdir()} == files, "no log waits to be copied back"
    assert meta(db.directory, "running") is None


def test_a_database_that_nobody_has_any_more_is_closed(tmp_path: Path) -> None:
    entgldb.open(tmp_path)["c"].put("k", {})
    gc.collect()
    assert not running(tmp_path)


def test_the_end_of_a_program_closes_it(tmp_path: Path) -> None:
    child = python(
        "import entgldb, sys\n"
        "db = entgldb.open(sys.argv[1])\n"
        "db['c'].put('k', {'n': 1})\n",
        tmp_path,
    )  # fmt: skip
    assert child.communicate(timeout=60)[0] == ""
    assert child.returncode == 0
    assert meta(tmp_path, "running") is None
    with entgldb.open(tmp_path) as db:
        assert db["c"].get("k") == {"n": 1}


# --- one holder ----------------------------------------------------------------------------------


def test_a_directory_is_open_once(db: Database) -> None:
    for again in (lambda: entgldb.open(db.directory), lambda: start_detached(db.directory)):
        with pytest.raises(EntglError, match=f"is open in process {os.getpid()}$") as caught:
            again()
        assert caught.value.code == "in-use"
    with pytest.raises(NoNodeError):
        entgldb.connect(db.directory)
    db.close()
    with entgldb.open(db.directory):
        pass


def test_the_directory_of_a_node_that_runs_is_not_opened(tmp_path: Path) -> None:
    with entgldb.open(tmp_path):
        pass
    with locked(tmp_path), pytest.raises(EntglError, match="a node is already running in") as caught:
        entgldb.open(tmp_path)
    assert caught.value.code == "in-use"


def test_the_record_of_a_node_that_was_killed_goes(tmp_path: Path) -> None:
    write_record(tmp_path, {"pid": os.getpid(), "ports": {}})
    with entgldb.open(tmp_path):
        assert run(command, ["stop", "-d", str(tmp_path)]) == 4, "nobody is taken for the node"


def test_one_who_was_killed_holds_it_no_more(tmp_path: Path) -> None:
    program = (
        "import entgldb, os, sys\n"
        "db = entgldb.open(sys.argv[1])\n"
        "db['c'].put('k', {'n': 1})\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    print(os.getpid(), flush=True)\n"
        "    sys.stdin.readline()\n"
        "os.waitpid(child, 0)\n"
    )
    opener = python(program, tmp_path)
    assert opener.stdout is not None
    forked = int(opener.stdout.readline())
    opener.kill()
    opener.wait()
    try:
        # the process that it has forked lives on, and holds nothing
        with entgldb.open(tmp_path) as db:
            assert db["c"].get("k") == {"n": 1}
    finally:
        with suppress(ProcessLookupError):
            os.kill(forked, signal.SIGKILL)
        opener.communicate()


# --- forks ---------------------------------------------------------------------------------------


def test_a_forked_process_is_refused_and_harms_nothing(db: Database) -> None:
    db["c"].put_many((f"k{n}", {"n": n}) for n in range(2000))
    walk = db["c"].find()
    next(walk)
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        told = []
        for call in (
            lambda: db["c"].get("k1"),
            lambda: db["c"].put("k", {}),
            lambda: list(walk),
            lambda: db.status("store"),
            lambda: entgldb.open(db.directory),
            lambda: db.close(),
        ):
            try:
                call()
                told.append("done")
            except EntglError as fault:
                told.append(fault.text)
        os.write(theirs, json.dumps(told).encode())
        os._exit(0)
    os.waitpid(child, 0)
    told = json.loads(os.read(ours, 65536))
    os.close(ours)
    os.close(theirs)
    assert [text.partition(" was opened ")[2] for text in told[:4]] == [
        f"before this process was forked: process {os.getpid()} has it"
    ] * 4
    assert told[4:] == [f"{db.directory} is open in process {os.getpid()}", "done"]
    db["c"].put("after", {})
    assert db["c"].count() == 2001


def test_a_forked_process_that_ends_like_any_other_closes_no_file(tmp_path: Path) -> None:
    program = (
        "import entgldb, os, sys\n"
        "with entgldb.open(sys.argv[1]) as db:\n"
        "    db['c'].put('k', {})\n"
        "    db['c'].get('k')\n"
        "    if os.fork() == 0:\n"
        "        sys.exit(0)\n"
        "    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0\n"
        "    assert os.path.getsize(sys.argv[1] + '/entgldb.db-wal') > 0\n"
        "    db['c'].put('l', {})\n"
    )
    child = python(program, tmp_path)
    child.communicate(timeout=60)
    assert child.returncode == 0
    with entgldb.open(tmp_path) as db:
        assert db["c"].count() == 2


# --- nodes ---------------------------------------------------------------------------------------


def test_it_becomes_a_node_with_what_it_has(db: Database, capsys: pytest.CaptureFixture[str]) -> None:
    version = db["c"].put("k", {})
    assert attestation(db.directory) == b""
    with pytest.raises(InvalidError, match="holds the documents of lan-1"):
        init(Plan(db.directory, "lan-2"))
    assert init(Plan(db.directory)).node_id == "lan-1"
    db.close()
    with entgldb.open(db.directory) as again:
        assert again["c"].put("l", {}) == (version.origin, version.seq + 1)
    key = meta(db.directory, "public_key")
    assert isinstance(key, bytes)
    ca = CaOfCluster.of(read_cluster_keys(db.directory / "cluster.key").keys[0])
    assert attestation(db.directory) == ca.attest("lan-1", key), "the CA of its cluster answers for it"
    with pytest.raises(InvalidError, match="is that of node lan-1, not lan-3"):
        entgldb.open(db.directory, node_id="lan-3")
    assert not running(db.directory)


def test_the_settings_of_the_node_count(tmp_path: Path) -> None:
    made = init(Plan(tmp_path / "n", "lan-1", settings={"disk": {"soft_floor": 2**50, "hard_floor": 2**49}}))
    with entgldb.open(made.directory) as db, pytest.raises(EntglError) as caught:
        db["c"].put("k", {})
    assert caught.value.code == "disk-full"


def test_a_copy_of_a_directory_writes_as_somebody_else(db: Database, tmp_path: Path) -> None:
    first = db["c"].put("k", {})
    db.close()
    subprocess.run(["cp", "-a", db.directory, tmp_path / "copy"], check=True)
    with entgldb.open(tmp_path / "copy") as copy:
        assert copy["c"].get("k") == {}
        assert copy["c"].put("k", {}).origin != first.origin


@pytest.mark.parametrize("kind", ["file", "foreign", "newer", "read-only"])
def test_places_that_cannot_be_opened(kind: str, tmp_path: Path) -> None:
    home = tmp_path / "d"
    home.mkdir()
    if kind == "file":
        home = home / "file"
        home.write_text("")
    elif kind == "read-only":
        if os.geteuid() == 0:
            home = Path("/proc/entgldb")
        else:
            home.chmod(0o500)
    else:
        with closing(sqlite3.connect(home / "entgldb.db")) as connection:
            if kind == "newer":
                connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
            else:
                connection.execute("PRAGMA application_id = 77")
            connection.execute("CREATE TABLE t (x)")
    with pytest.raises(EntglError) as caught:
        entgldb.open(home)
    assert caught.value.hint
    assert caught.value.code in ("config", "not-allowed", "disk-error")
