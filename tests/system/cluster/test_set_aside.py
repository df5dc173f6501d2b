"""Entries that cannot be applied, and held ones, between real nodes: shown and settled by the command
line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb
from entgldb.launch.playground.cluster import Member, Playground
from entgldb.messages.client import ReleaseOrigin
from entgldb.messages.limits import DRIFT_MS_MAX
from tests.support.troubles import keep_waiting
from tests.system.support.processes import until

pytestmark = pytest.mark.slow


@pytest.fixture
def playground(tmp_path: Path) -> Iterator[Playground]:
    with Playground(tmp_path) as made:
        made.make_lan(2)
        keep_waiting(made.lan[0].directory, "lan-1")
        made.start()
        yield made


def said(capsys: pytest.CaptureFixture[str], member: Member, *arguments: str) -> dict[str, object]:
    """The JSON that a verb prints."""
    assert run(entgldb, [arguments[0], "-d", str(member.directory), "--json", *arguments[1:]]) == 0
    body: dict[str, object] = json.loads(capsys.readouterr().out)
    return body


def words(capsys: pytest.CaptureFixture[str], member: Member, *arguments: str) -> str:
    """The text that a verb prints for a person."""
    run(entgldb, [arguments[0], "-d", str(member.directory), *arguments[1:]])
    return capsys.readouterr().out


def test_one_bad_document_stops_nothing_and_an_operator_settles_it(
    playground: Playground, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = playground.lan
    until(lambda: there.db["notes"].get("also-good"), 15.0, "what comes behind the bad one")
    assert there.db["notes"].get("bad") is None
    for member in playground.lan:
        (found,) = member.db.quarantine()
        assert (found.collection, found.key, found.reason) == ("notes", "bad", "invalid")
    assert "entgldb quarantine" in words(capsys, there, "status")
    assert "notes bad: invalid, a document is not a JSON object but an array" in words(
        capsys, there, "quarantine"
    )
    origin, seq = found.version
    assert run(entgldb, ["quarantine", "-d", str(there.directory), "--retry", origin, str(seq)]) == 2
    assert "cannot be applied still" in capsys.readouterr().err
    dropped = said(capsys, there, "quarantine", "--drop", origin, str(seq))
    assert (dropped["outcome"], said(capsys, there, "quarantine")["quarantine"]) == ("dropped", [])
    assert len(here.db.quarantine()) == 1
    there.db["notes"].put("bad", {"n": 3})
    until(lambda: here.db["notes"].get("bad"), 10.0, "the key again")


def test_what_is_held_is_shown_and_released(
    playground: Playground, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = playground.lan
    (waiting,) = here.db.held()
    assert waiting.entries == 1
    assert waiting.first_due_ms == pytest.approx(time.time() * 1000 + 3_600_000 - DRIFT_MS_MAX, abs=60_000)
    assert f"{waiting.origin}: 1 entries, the first is due 2" in words(capsys, here, "held")
    assert said(capsys, here, "held", "--release", waiting.origin)["released"] == 1
    assert here.db["notes"].get("early") == {"n": 2}
    assert here.db.held() == []
    # by the clock of the other it is as early as before
    until(lambda: there.db.held(), 10.0, "the same on the other")
    there.db.request(ReleaseOrigin(waiting.origin))
    assert there.db["notes"].get("early") == {"n": 2}
    assert said(capsys, there, "clock")["state"] == "ok"
