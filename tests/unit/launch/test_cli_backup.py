"""``backup`` and ``restore`` as a person types them; what they make is tested in tests/storage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from entgldb.client.health.complaints import complaints
from entgldb.launch.cli.main import entgldb
from entgldb.launch.cli.node.status import text
from entgldb.launch.node.files import locked
from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError
from entgldb.storage.store import Store

NOW = 1_790_000_000_000


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = CliRunner().invoke(entgldb, ["init", "-d", str(tmp_path / "n"), "--node-id", "a"])
    assert made.exit_code == 0
    store = Store.open(tmp_path / "n", "a", NOW)
    with store.group():
        store.write(RequestId(b"c" * 16, 1), [Write("users", "u1", b'{"n":1}')], NOW)
    store.close()
    return tmp_path / "n"


def call(*arguments: object, typed: str = "") -> Result:
    return CliRunner().invoke(entgldb, [str(one) for one in arguments], input=typed)


def test_backup_and_its_check_say_what_is_in_it(home: Path, tmp_path: Path) -> None:
    done = call("backup", "-d", home, tmp_path / "b.db", "--json")
    body = json.loads(done.stdout)
    assert (done.exit_code, body["node_id"], body["documents"], body["verified"]) == (0, "a", 1, True)
    checked = call("backup", "--verify", tmp_path / "b.db")
    assert (checked.exit_code, "node a, 1 documents" in checked.stdout) == (0, True)


def test_restore_is_refused_while_the_node_is_up(home: Path, tmp_path: Path) -> None:
    call("backup", "-d", home, tmp_path / "b.db")
    with locked(home):
        done = call("restore", "-d", home, tmp_path / "b.db")
    assert isinstance(done.exception, EntglError)
    assert done.exception.code == "in-use"


def test_a_dry_run_tells_and_changes_nothing(home: Path, tmp_path: Path) -> None:
    call("backup", "-d", home, tmp_path / "b.db")
    before = {path.name: path.stat().st_mtime_ns for path in home.iterdir()}
    done = call("restore", "-d", home, tmp_path / "b.db", "--authoritative", "--dry-run", "--json")
    assert json.loads(done.stdout)["reissue"] == {"users": 1}
    assert {path.name: path.stat().st_mtime_ns for path in home.iterdir()} == before


@pytest.mark.parametrize(("typed", "reissued"), [("a", 1), ("b", 0), ("", 0)])
def test_an_authoritative_restore_needs_the_name_of_the_node(
    home: Path, tmp_path: Path, typed: str, reissued: int
) -> None:
    call("backup", "-d", home, tmp_path / "b.db")
    done = call("restore", "-d", home, tmp_path / "b.db", "--authoritative", "--json", typed=f"{typed}\n")
    assert (done.exit_code == 0) == bool(reissued)
    if reissued:
        assert json.loads(done.stdout.splitlines()[-1])["reissued"] == reissued
    else:
        assert list(home.glob("*.before-restore-*")) == []


def test_status_says_since_when_and_why_a_node_writes_as_somebody_new() -> None:
    latest = {"origin": "a/" + "0" * 32, "at_ms": NOW, "why": "cloned"}
    told = text({"node_id": "a", "role": "lan", "store": {"incarnations": [latest]}}, [])
    assert any(line.startswith(f"writes as {latest['origin']} since") for line in told.splitlines())
    assert ": cloned" in told


def test_an_alarm_needs_attention() -> None:
    alarm = {"code": "fork", "subject": "a/1", "text": "two entries", "since_ms": NOW}
    assert "fork: two entries" in complaints({"alarms": [alarm]})
