"""The words of ``status`` on floors, clocks and entries that are set aside, and the output of ``clock``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from entgldb.client.database import Database
from entgldb.client.health.complaints import complaints
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb
from entgldb.messages.administration import AcceptClock, ResetClock
from entgldb.messages.client import Report
from entgldb.messages.schema import Message

WELL: dict[str, Any] = {name: {} for name in ("store", "oplog", "sync", "election", "gateway")}


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ({"disk": {"state": "ok", "free_bytes": 9}, "clock": {"state": "ok", "behind_mark_ms": 60_000}}, []),
        (
            {"disk": {"state": "low", "free_bytes": 9}},
            ["the disk has 9 bytes free, the node warns: entgldb doctor disk"],
        ),
        (
            {"disk": {"state": "full", "free_bytes": 9}},
            ["the disk has 9 bytes free, writes are refused: entgldb doctor disk"],
        ),
        (
            {"clock": {"state": "off", "offset_ms": 61_000}},
            ["the clock is off by -61 s, writes are refused: entgldb clock"],
        ),
        (
            {"clock": {"state": "accepted", "offset_ms": -61_000}},
            ["the clock is off by 61 s, which an operator has accepted: entgldb clock"],
        ),
        (
            {"clock": {"state": "ok", "behind_mark_ms": 61_000}},
            ["the clock is 61 s behind what was written here: stamps go on from there"],
        ),
        (
            {"clock": {"state": "ok", "behind_mark_ms": 864_000_000, "ahead_ms": 864_000_000}},
            ["stamps run 864000 s ahead, others hold them: entgldb clock --reset"],
        ),
        ({"held": 2}, ["2 entries are held, their clock is ahead: entgldb held"]),
        ({"unfit": 3}, ["3 entries cannot be applied: entgldb quarantine"]),
    ],
)
def test_status_names_what_needs_attention(store: dict[str, Any], words: list[str]) -> None:
    assert complaints({**WELL, "store": store, "role": "cloud"}) == words


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """A node whose clock is 61 s behind; what it is asked."""
    messages: list[Message] = []
    said = {
        "store": {
            "clock": {
                "state": "off",
                "offset_ms": 61_000,
                "high_mark_ms": 0,
                "behind_mark_ms": 0,
                "ahead_ms": 61_000,
            }
        },
        "sync": {"peers": [{"node_id": "lan-2", "clock_offset_ms": 61_000}]},
    }
    monkeypatch.setattr(Database, "status", lambda self, actor: said[actor])
    monkeypatch.setattr(Database, "request", lambda self, message: messages.append(message))
    return messages


def test_clock_shows_who_is_off(
    asked: list[Message], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(entgldb, ["clock", "-d", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "clock off: -61.0 s against its peers",
        "stamps go on from 1970-01-01T00:00:00+00:00",
        "which others hold: once this clock is right, entgldb clock --reset",
        "peer lan-2 is +61.000 s",
    ]
    assert run(entgldb, ["clock", "-d", str(tmp_path), "--accept", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["peers"] == {"lan-2": 61_000}
    assert asked == [AcceptClock()]


def test_clock_reset_says_who_writes_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Message] = []

    def request(self: Database, message: Message) -> Message:
        asked.append(message)
        return Report({"origin": "lan-1/ab", "written": 2, "held": 3})

    monkeypatch.setattr(Database, "request", request)
    assert run(entgldb, ["clock", "-d", str(tmp_path), "--reset"]) == 0
    assert capsys.readouterr().out == (
        "2 entries were stamped anew; this node writes as lan-1/ab\n"
        "3 wait until time has caught up, or their writer is reset: entgldb held\n"
    )
    assert [type(message) for message in asked] == [ResetClock]


def test_one_entry_is_retried_or_dropped_not_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = ["--retry", "a/b", "1", "--drop", "a/b", "1"]
    assert run(entgldb, ["quarantine", "-d", str(tmp_path), *both]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_unpin_cluster_says_what_was_served(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = iter(({"cluster": "ab12", "client_id": "shop"}, {"cluster": "", "client_id": ""}))
    monkeypatch.setattr(Database, "request", lambda self, message: Report(next(said)))
    for expected in (
        "cluster ab12, client shop, was unpinned: the next is served\n",
        "no cluster was pinned; the next that comes is served\n",
    ):
        assert run(entgldb, ["unpin-cluster", "-d", str(tmp_path)]) == 0
        assert capsys.readouterr().out == expected
