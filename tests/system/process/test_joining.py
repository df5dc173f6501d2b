"""A machine joins by a code alone: real processes, from ``invite`` to the first document."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import entgldb
from entgldb.client.database import Database, connect
from entgldb.client.health.complaints import complaints
from entgldb.client.health.reported import BY_TOPIC
from entgldb.launch.node.config import load
from entgldb.launch.node.handle import launch
from entgldb.messages.errors import of_expelled
from tests.support.preloaded import preloaded
from tests.system.support.kernel_view import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120, method="signal")]

ENTGLDB = [sys.executable, "-m", "entgldb"]


@pytest.fixture(scope="module")
def starts() -> Iterator[None]:
    """How a process begins is not told here."""
    with preloaded():
        yield


def verb(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ENTGLDB, *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def first(tmp_path: Path) -> Path:
    made = verb("init", "-d", tmp_path / "n1", "--node-id", "till-1", "--host", "127.0.0.1")
    assert made.returncode == 0, made.stderr
    return tmp_path / "n1"


class Inviting:
    """``entgldb invite`` as a process, and its code."""

    def __init__(self, directory: Path, *options: str) -> None:
        words = [*ENTGLDB, "invite", "-d", str(directory), "--json", *options]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.code: str = json.loads(self.process.stdout.readline())["code"]

    def ended(self) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=60)
        found: dict[str, Any] = json.loads(out)
        return found


@pytest.fixture
def inviting(first: Path) -> Iterator[Inviting]:
    made = Inviting(first)
    yield made
    if made.process.poll() is None:
        made.process.kill()
    made.process.communicate(timeout=10)


def test_from_the_code_to_the_first_document(first: Path, tmp_path: Path) -> None:
    config = first / "entgldb.toml"
    config.write_text(config.read_text().replace("[network]", '[network]\nannounce = ["127.0.0.1:9"]'))
    with launch(first), connect(first) as there:
        there["notes"].put("k", {"n": 1})
        inviting = Inviting(first, "--for", "till-2")
        made = verb("init", "-d", tmp_path / "n2", "--host", "127.0.0.1", "--join", inviting.code)
        assert made.returncode == 0, made.stderr
        told = inviting.ended()
        key = told.pop("key")
        assert told == {
            "schema_version": 1,
            "joined": "till-2",
            "address": "127.0.0.1",
            "pinned": True,
            "reason": "",
        }
        assert inviting.process.returncode == 0
        assert [row["key_id"] for row in there.audit() if row["event"] == "joined"] == [key]
        port = load(first).sync.listen.rpartition(":")[2]
        assert load(tmp_path / "n2").sync.seeds == ("127.0.0.1:9", f"127.0.0.1:{port}")
        assert (tmp_path / "n2" / "cluster.key").read_bytes() == (first / "cluster.key").read_bytes()
        assert (tmp_path / "n2" / "cluster.key").stat().st_mode & 0o777 == 0o600
        with launch(tmp_path / "n2"), connect(tmp_path / "n2") as here:
            eventually(lambda: here["notes"].get("k") == {"n": 1}, "the first document", 30.0)
            assert here.status("node")["node_id"] == "till-2"
            eventually(lambda: pinned(there) == key, "its key stands in the list of members", 30.0)
        # the machine is lost: another takes its name, and by the code its key the place of the old one
        again = Inviting(first, "--for", "till-2")
        made = verb("init", "-d", tmp_path / "n3", "--host", "127.0.0.1", "--join", again.code)
        assert made.returncode == 0, made.stderr
        assert again.ended()["key"] == pinned(there) != key
        with launch(tmp_path / "n3"), connect(tmp_path / "n3") as here:
            eventually(lambda: here["notes"].get("k") == {"n": 1}, "the document on the new machine", 30.0)
    # it is down, as while it is started again: its file knows who is there
    down = Inviting(first)
    taken = verb(
        "init", "-d", tmp_path / "n4", "--host", "127.0.0.1", "--node-id", "till-2", "--join", down.code
    )
    assert taken.returncode == 6, taken.stderr
    assert "invite with --for till-2" in taken.stderr
    down.process.kill()
    down.process.communicate(timeout=10)
    down = Inviting(first, "--for", "till-2")
    made = verb("init", "-d", tmp_path / "n4", "--host", "127.0.0.1", "--join", down.code)
    assert made.returncode == 0, made.stderr
    assert down.ended()["pinned"] is False, "nobody runs who could write its key down"


def pinned(db: Database) -> str | None:
    return {row.node_id: row.key for row in db.nodes.members()}.get("till-2")


def test_a_wrong_code_makes_no_node(inviting: Inviting, tmp_path: Path) -> None:
    mistyped = ("0" if inviting.code[0] != "0" else "1") + inviting.code[1:]
    told = verb("init", "-d", tmp_path / "n2", "--join", mistyped)
    assert (told.returncode, told.stdout) == (2, "")
    assert "mistyped" in told.stderr
    assert not (tmp_path / "n2").exists()


def test_a_directory_that_is_a_node_already_spends_no_code(first: Path, inviting: Inviting) -> None:
    told = verb("init", "-d", first, "--join", inviting.code)
    assert "already" in told.stderr
    assert inviting.process.poll() is None


def test_a_name_that_is_taken_is_refused_and_a_free_one_is_not(inviting: Inviting, tmp_path: Path) -> None:
    taken = verb("init", "-d", tmp_path / "n2", "--node-id", "till-1", "--join", inviting.code)
    assert taken.returncode == 6, taken.stderr
    assert "invite with --for till-1" in taken.stderr
    free = verb("init", "-d", tmp_path / "n2", "--node-id", "till-2", "--join", inviting.code)
    assert free.returncode == 0, free.stderr
    assert inviting.ended()["joined"] == "till-2"


def test_who_joined_by_a_key_that_counts_no_more_comes_back_by_a_code(first: Path, tmp_path: Path) -> None:
    """Nobody heard of it when the next key was made, its inviter being down; its file is put back since."""
    second = tmp_path / "n2"
    inviting = Inviting(first, "--for", "till-2")
    made = verb("init", "-d", second, "--host", "127.0.0.1", "--join", inviting.code)
    assert made.returncode == 0, made.stderr
    key = inviting.ended()["key"]
    with entgldb.open(second) as alone:
        alone["notes"].put("late", {"n": 2})
    saved = verb("backup", "-d", second, tmp_path / "saved.bak")
    assert saved.returncode == 0, saved.stderr
    with launch(first), connect(first) as there:
        there["notes"].put("k", {"n": 1})
        there.nodes.accept("till-9", "9" * 64)
        there.nodes.expel("till-9")
        there.nodes.accept("till-2", key)
        refused = verb("invite", "-d", first, "--for", "till-9")
        assert (refused.returncode, of_expelled("till-9") in refused.stderr) == (2, True), refused.stderr
        with launch(second), connect(second) as here:
            eventually(lambda: advised(here), "the way back is told", 30.0)
            again = Inviting(first, "--for", "till-2")
            running = verb("rejoin", "-d", second, "--join", again.code)
            assert running.returncode != 0, "not while it runs"
        assert "in-use" in running.stderr
        put_back = verb("restore", "-d", second, tmp_path / "saved.bak")
        assert put_back.returncode == 0, put_back.stderr
        rejoined = verb("rejoin", "-d", second, "--join", again.code)
        assert rejoined.returncode == 0, rejoined.stderr
        assert again.ended()["key"] == key, "it is the same machine"
        with launch(second), connect(second) as here:
            eventually(lambda: here["notes"].get("k") == {"n": 1}, "it catches up", 30.0)
            eventually(lambda: there["notes"].get("late") == {"n": 2}, "what it had written counts", 30.0)


def advised(db: Database) -> bool:
    status = db.status("node")
    told = complaints(status) + [one.text for one in BY_TOPIC["network"](status).findings]
    return sum("invite --for till-2" in line and "rejoin --join" in line for line in told) == 2


def test_a_node_takes_no_key_of_another_cluster(first: Path, inviting: Inviting, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert verb("init", "-d", other, "--node-id", "shop-1", "--host", "127.0.0.1").returncode == 0
    before = (other / "cluster.key").read_bytes()
    told = verb("rejoin", "-d", other, "--join", inviting.code)
    assert told.returncode == 6, told.stderr
    assert "another cluster" in told.stderr
    assert (other / "cluster.key").read_bytes() == before
