"""The findings that are made of a node's report."""

from __future__ import annotations

from typing import Any

import click
import pytest

from entgldb.client.health.finding import HARMLESS, NODE, REMEDIES, Finding
from entgldb.client.health.reported import BY_TOPIC
from entgldb.launch.cli.main import entgldb
from entgldb.messages.errors import of_expelled

WELL: dict[str, Any] = {
    "node_id": "lan-1",
    "role": "lan",
    **{name: {} for name in ("store", "oplog", "sync", "gateway")},
    "election": {"gateway": "lan-1", "epoch": 3},
}
ROW = {"address": "10.0.0.2:9000", "node_id": "lan-2", "failures": 7, "text": "", "again_in": 4.0}
VERIFIED = {"node_id": "lan-2", "result": "equal", "differing": 0, "at_ms": 0}
LINK = {"node_id": "lan-2", "clock_offset_ms": -7_000}


def codes(topic: str, **parts: Any) -> list[tuple[str, str]]:
    return [(one.code, one.subject) for one in BY_TOPIC[topic]({**WELL, **parts}).findings]


@pytest.mark.parametrize("topic", BY_TOPIC)
def test_a_node_that_is_well_has_no_findings(topic: str) -> None:
    assert codes(topic) == []


@pytest.mark.parametrize(
    ("topic", "parts", "found"),
    [
        (NODE, {"sync": None}, [("actor-down", "sync")]),
        (
            NODE,
            {"alarms": [{"code": "not-heard", "subject": "lan-9", "text": "t"}, {"code": "fork"}]},
            [("alarm", "lan-9")],
        ),
        ("network", {"sync": {"isolated": True, "retired": True}}, [("isolated", ""), ("retired", "")]),
        ("network", {"sync": {"members": [{"name": "lan-1"}, {"name": "lan-2"}]}}, [("alone", "")]),
        (
            "network",
            {"sync": {"members": [{"name": "c"}]}, "election": {"gateway": "x", "connected": ["c"]}},
            [],
        ),
        ("network", {"sync": {"discovery": {"state": "failed", "text": "t"}}}, [("multicast", "")]),
        (
            "network",
            {"sync": {"unanswered": [{**ROW, "reason": "unreachable"}]}},
            [("unanswered", "10.0.0.2:9000")],
        ),
        (
            "network",
            {"sync": {"unanswered": [{**ROW, "reason": "tls-refused"}]}},
            [("cluster-key", "10.0.0.2:9000")],
        ),
        ("network", {"sync": {"unanswered": [{**ROW, "reason": "wrong-node"}]}}, [("wrong-node", "lan-2")]),
        ("network", {"sync": {"unanswered": [{**ROW, "reason": "duplicate-link"}]}}, []),
        ("clock", {"store": {"clock": {"state": "off", "offset_ms": 61_000}}}, [("clock-off", "")]),
        (
            "clock",
            {"store": {"clock": {"ahead_ms": 61_000}, "held": 2}},
            [("stamps-ahead", ""), ("held", "")],
        ),
        ("clock", {"sync": {"peers": [LINK]}}, [("clock-apart", "lan-2")]),
        ("disk", {"store": {"disk": {"state": "low", "free_bytes": 9}}}, [("disk-low", "")]),
        ("disk", {"store": {"disk": {"state": "full", "free_bytes": 9}}}, [("disk-full", "")]),
        ("disk", {"oplog": {"held_back_by": {"lan-9": {"entries": 1}}}}, [("held-back", "lan-9")]),
        ("disk", {"alarms": [{"code": "wal-large", "subject": "f", "text": "t"}]}, [("wal-large", "f")]),
        ("db", {"store": {"unfit": 1, "quarantined_origins": ["o"]}}, [("unfit", ""), ("forked", "o")]),
        (
            "db",
            {"oplog": {"verify": {"peers": [{**VERIFIED, "result": "differing"}]}}},
            [("differs", "lan-2")],
        ),
        (
            "db",
            {"oplog": {"verify": {"peers": [VERIFIED]}}, "sync": {"now_ms": 90_000_000}},
            [("not-verified", "lan-2")],
        ),
        ("db", {"oplog": {"verify": {"peers": [VERIFIED]}}, "sync": {"now_ms": 80_000_000}}, []),
        (
            "db",
            {"store": {"indexes": {"building": ["a"], "refused": ["b"]}}},
            [("index-building", "a"), ("index-refused", "b")],
        ),
        ("cloud", {"election": {}}, [("no-gateway", "")]),
        ("cloud", {"election": {}, "role": "cloud"}, []),
        ("cloud", {"election": {"gateway": "x", "troubles": {"c": "unreachable"}}}, [("cloud-link", "c")]),
        ("cloud", {"gateway": {"links": [{"node_id": "c", "reason": "peer-disabled"}]}}, [("disabled", "c")]),
    ],
)
def test_each_thing_that_is_wrong_has_its_finding(
    topic: str, parts: dict[str, Any], found: list[tuple[str, str]]
) -> None:
    assert codes(topic, **parts) == found


def test_refusals_are_told_by_reason_and_ends_in_order_are_none() -> None:
    sync = {"counts": {"tls-refused": 2, "duplicate-link": 9, "relay-delay": 1}}
    assert BY_TOPIC["network"]({**WELL, "sync": sync}).facts["refused"] == {"tls-refused": 2}


def test_who_goes_by_another_cluster_key_is_told_the_way_back() -> None:
    sync = {"unanswered": [{**ROW, "reason": "tls-refused"}]}
    (found,) = BY_TOPIC["network"]({**WELL, "node_id": "lan-1", "sync": sync}).findings
    assert "entgldb invite --for lan-1 shows a code there" in found.text
    assert of_expelled("lan-1") in found.text, "it was started again since: nobody speaks with it"
    assert found.remedy == "entgldb rejoin --join CODE"
    out = {"code": "expelled", "subject": "lan-1", "text": f"lan-2 refuses this node: {of_expelled('lan-1')}"}
    told = {**WELL, "node_id": "lan-1", "sync": sync, "alarms": [out]}
    (alarm,), (found,) = BY_TOPIC[NODE](told).findings, BY_TOPIC["network"](told).findings
    assert "invite --for" not in found.text
    assert found.remedy == alarm.remedy == "entgldb init -d NEW --join CODE"


@pytest.mark.parametrize("code", REMEDIES)
def test_every_remedy_is_a_verb_with_options_that_it_has(code: str) -> None:
    words = Finding("network", code, "cloud-1", "text").remedy.split()
    assert words[0] == "entgldb"
    command = entgldb.get_command(click.Context(entgldb), words[1])
    assert command is not None
    if isinstance(command, click.Group):
        command = command.commands[words[2]]
    known = {name for parameter in command.params for name in parameter.opts}
    assert [word for word in words if word.startswith("-") and word not in known] == []


def test_the_command_that_an_alarm_ends_with_is_its_remedy() -> None:
    text = "there is no token for cloud peer c: its link is down: entgldb test-peer c"
    assert Finding("node", "alarm", "c", text).remedy == "entgldb test-peer c"
    assert Finding("node", "alarm", "c", "it is so: entgldb").remedy == REMEDIES["alarm"]


def test_what_is_harmless_is_a_finding() -> None:
    assert REMEDIES.keys() > HARMLESS
