"""The verbs of an operator at night, on a node that runs and after it has stopped."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entgldb._version import VERSION
from entgldb.client.nodes import MemberRow
from entgldb.launch.cli.cluster.members import cells
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb

Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture
def verb(directory: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(entgldb, [arguments[0], "-d", str(directory), *arguments[1:]])
        return code, *capsys.readouterr()

    return call


def told(verb: Verb, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(verb(*arguments, "--json")[1])
    return found


def soon(found: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not found():
        assert time.monotonic() < end


def test_gateway_tells_who_leads_and_why(verb: Verb) -> None:
    soon(lambda: told(verb, "gateway")["gateway"] == "lan-1")
    body = told(verb, "gateway", "--history")
    assert [row["node_id"] for row in body["nodes"]] == ["lan-1"]
    assert body["history"][0]["at_ms"] == body["since_ms"]
    assert body["why"] == "this node has started, and heard of no gateway"
    assert "history" not in told(verb, "gateway")
    code, out, _ = verb("gateway")
    assert (code, out.split(",")[0]) == (0, "gateway lan-1 (epoch 1")
    verb("tell", "election", "StandDown", "seconds=60")
    code, out, _ = verb("gateway", "--history")
    assert (code, out.splitlines()[0].split(",")[0]) == (5, "gateway nobody (epoch 1)")
    assert "it was told to stand down" in out
    verb("tell", "election", "StandDown", "seconds=0")
    soon(lambda: told(verb, "gateway")["why"] == "this node may lead again")


def test_a_node_that_never_had_a_link_shows_itself(verb: Verb) -> None:
    ((node,), (member,)) = told(verb, "nodes")["nodes"], told(verb, "members")["members"]
    assert (node["node_id"], node["version"], node["state"]) == ("lan-1", VERSION, "live")
    assert (member["node_id"], member["state"]) == ("lan-1", "member")
    assert re.fullmatch("[0-9a-f]{64}", member["key"])
    assert member["key"][:16] in verb("members")[1]
    unseen = MemberRow("lan-2", None, None, None, "member")
    assert cells(unseen) == ("lan-2", "not seen yet", "not yet", "not seen here", "member")


def test_doctor_examines_a_node_that_runs(verb: Verb, directory: Path) -> None:
    body = told(verb, "doctor")
    topics = body["topics"]
    assert list(topics) == ["node", "network", "clock", "disk", "db", "cloud"]
    assert topics["node"]["facts"]["state"] == "running"
    assert topics["network"]["facts"]["port"]["listening"]
    assert topics["network"]["facts"]["certificate"]["days_left"] > 80
    assert topics["db"]["facts"]["quick_check"] == "ok"
    code, out, _ = verb("doctor", "clock", "disk")
    assert (code == 5) == ("  ! " in out)
    assert "fsync ms:" in out
    assert "network" not in out


def test_links_are_paused_for_a_while_and_resumed(verb: Verb) -> None:
    soon(lambda: told(verb, "gateway")["gateway"] == "lan-1")
    assert verb("pause", "cloud")[1] == "cloud sync of this node is paused until it is resumed\n"
    soon(lambda: told(verb, "gateway")["gateway"] is None)
    code, out, _ = verb("gateway")
    assert (code, "its cloud sync is paused" in out) == (5, True)
    (row,) = told(verb, "pause", "lan", "--for", "2h")["pauses"][1:]
    assert (row["what"], 7190 < row["left"] <= 7200) == ("lan", True)
    assert (
        verb("pause", "lan", "--for", "2h")[1]
        .splitlines()[1]
        .startswith("lan sync of this node is paused for 2h ")
    )
    soon(lambda: "attention paused: an operator has paused lan sync" in verb("status")[1])
    found = told(verb, "doctor", "network", "cloud")["topics"]
    assert [one["remedy"] for one in found["network"]["findings"]] == ["entgldb resume lan"]
    assert found["cloud"]["findings"][0]["remedy"] == "entgldb resume cloud"
    still = "cloud sync of this node is paused until it is resumed\n"
    assert verb("resume", "lan")[1] == "lan sync of this node is resumed\n" + still
    assert verb("resume", "lan")[1] == "lan sync of this node was not paused\n" + still
    assert verb("resume")[1] == "cloud sync of this node is resumed\n"
    assert verb("resume")[1] == "nothing was paused\n"
    assert verb("pause", "wan")[0] == verb("pause", "lan", "--for", "soon")[0] == 2
    soon(lambda: told(verb, "gateway")["gateway"] == "lan-1")


def test_the_level_of_the_log_is_changed_for_a_while(verb: Verb, directory: Path) -> None:
    assert verb("log-level")[1] == "info\n"
    verb("put", "users", "k1", '{"a": "canary-1"}')
    assert verb("log-level", "debug", "--for", "10m")[1] == "debug, for 10m more\n"
    log = directory / "log" / "entgldb.log"

    def written() -> bool:
        verb("put", "users", "k2", '{"a": "canary-2"}')
        verb("put", "users", "k2", '{"a": "canary-3"}')
        return " is committed as lan-1/" in log.read_text()

    soon(written)
    assert "canary" not in log.read_text()
    assert verb("log-level", "configured")[1] == "info\n"
    assert verb("log-level", "loud")[0] == 2


def test_top_shows_a_node_once_with_rates(verb: Verb) -> None:
    # a node that is alone writes once: its own row
    soon(lambda: told(verb, "members")["members"][0]["since"])
    body = told(verb, "top", "--once", "--interval", "1s")
    assert (body["node_id"], body["writes_per_s"]) == ("lan-1", 0.0)
    assert set(body["memory_bytes"]) == {"node", "store", "oplog", "sync", "election", "gateway"}
    code, out, _ = verb("top", "--once", "--interval", "1s")
    assert (code, out.startswith("lan-1 (lan)  gateway ")) == (0, True)
    assert "\x1b" not in out
