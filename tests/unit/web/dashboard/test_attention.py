"""The matters that a person should look at, and the remedy of each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from entgldb.web.dashboard.attention import ACTORS, Matter, matters
from entgldb.web.dashboard.pulse import still

ROOT = Path(__file__).parents[4]
WELL: dict[str, Any] = {
    "role": "lan",
    "alarms": [],
    "store": {"disk": {"state": "ok"}, "clock": {"state": "ok"}, "conflicts": 0, "held": 0, "unfit": 0},
    "oplog": {"held_back_by": {}},
    "sync": {"peers": []},
    "election": {"gateway": "lan-1", "connected": [], "troubles": {}},
    "gateway": {"links": []},
}


def only(**parts: Any) -> Matter:
    """The one matter of a node that is well but for these parts."""
    (found,) = matters({**WELL, **parts})
    return found


def test_a_node_that_is_well_needs_nobody() -> None:
    assert matters(WELL) == []


def test_each_actor_that_does_not_answer_is_told() -> None:
    assert [one.subject for one in matters({"role": "cloud"})] == sorted(ACTORS)


@pytest.mark.parametrize(
    ("store", "code", "grave", "leads_to"),
    [
        ({"held": 2}, "held", False, "upkeep"),
        ({"unfit": 1}, "unfit", False, "upkeep"),
        ({"conflicts": 3}, "conflicts", False, "conflicts"),
        ({"disk": {"state": "low", "free_bytes": 5e8}}, "disk", False, "/v1/actors/oplog/_tell"),
        ({"disk": {"state": "full", "free_bytes": 5e7}}, "disk", True, "/v1/actors/oplog/_tell"),
        ({"clock": {"state": "off", "offset_ms": -90_000}}, "clock", True, "entgldb clock"),
        ({"clock": {"state": "accepted", "offset_ms": 90_000}}, "clock", False, "entgldb clock"),
        ({"clock": {"state": "ok", "ahead_ms": 90_000}}, "stamps", True, "entgldb clock --reset"),
    ],
)
def test_a_matter_of_the_store_leads_to_its_remedy(
    store: dict[str, Any], code: str, grave: bool, leads_to: str
) -> None:
    found = only(store=store)
    assert found.remedy is not None
    assert (found.code, found.grave) == (code, grave)
    assert leads_to in (found.remedy.view, found.remedy.command, found.remedy.path)


def test_a_node_that_holds_data_back_can_be_retired_by_its_name() -> None:
    found = only(oplog={"held_back_by": {"lan-9": {"entries": 7, "tombstones": 1, "since": 5}}})
    assert (found.text, found.since_ms) == ("7 entries and 1 tombstones are kept for lan-9", 5)
    assert found.remedy is not None
    assert (found.remedy.method, found.remedy.path, found.remedy.name) == (
        "POST",
        "/v1/nodes/lan-9/_retire",
        "lan-9",
    )


def test_a_cloud_that_is_down_can_be_tested_and_one_that_will_be_is_no_grave_matter() -> None:
    election = {"gateway": "lan-1", "connected": ["c2"], "troubles": {"c1": "unreachable"}}
    links = [{"node_id": "c2", "state": "connected", "reason": "secret-missing"}]
    first, second = matters({**WELL, "election": election, "gateway": {"links": links}})
    assert (first.subject, first.grave, first.text) == ("c1", True, "the link to c1 is down (unreachable)")
    assert (second.subject, second.grave) == ("c2", False)
    assert first.remedy is not None
    assert first.remedy.path == "/v1/peers/c1/_test"


def test_a_cloud_that_refuses_a_tenant_is_no_matter_to_test_from_here() -> None:
    found = only(election={"gateway": "lan-1", "troubles": {"c1": "quota-documents"}})
    assert (found.code, found.subject) == ("cloud-quota", "c1")
    assert found.text == "the link to c1 is down (quota-documents), to be changed on c1"
    assert found.remedy is not None
    assert (found.remedy.method, found.remedy.command) == ("", "entgldb tenant limit")


def test_a_name_in_the_path_of_a_remedy_stays_a_name() -> None:
    found = only(election={"gateway": "lan-1", "troubles": {"a/../b?c": "unreachable"}})
    assert found.remedy is not None
    assert found.remedy.path == "/v1/peers/a%2F..%2Fb%3Fc/_test"


def test_an_alarm_is_told_with_a_shorter_origin_and_leads_where_it_is_decided() -> None:
    text = f"lan-9/{'ab' * 16} has written two different entries"
    found = only(alarms=[{"code": "fork", "subject": "lan-9", "text": text, "since_ms": 3}])
    assert found.text == "lan-9/ababab… has written two different entries"
    assert found.remedy is not None
    assert (found.grave, found.remedy.view, found.since_ms) == (True, "upkeep", 3)


def alarmed(code: str, text: str, subject: str = "lan-2") -> Matter:
    return only(alarms=[{"code": code, "subject": subject, "text": text, "since_ms": 3}])


def test_every_alarm_that_there_is_has_its_remedy() -> None:
    _, _, table = (ROOT / "docs" / "reference.md").read_text().partition("## Alarms\n")
    codes = re.findall(r"^\| `([a-z-]+)` \|", table.partition("\n## ")[0], re.MULTILINE)
    assert len(codes) > 15
    for code in codes:
        remedy = alarmed(code, "something is wrong").remedy
        assert remedy is not None, code
        assert remedy.label, code
        assert remedy.path or remedy.view or remedy.command, code


@pytest.mark.parametrize(
    ("text", "told", "command"),
    [
        ("it is so: 3 of them: entgldb why a b", "it is so: 3 of them", "entgldb why a b"),
        ("it takes nothing: entgldb status on lan-2", "it takes nothing: on lan-2", "entgldb status"),
        ("until `entgldb x` decides", "until `entgldb x` decides", "entgldb doctor"),
    ],
)
def test_the_command_that_an_alarm_ends_with_is_a_button(text: str, told: str, command: str) -> None:
    found = alarmed("some-code", text)
    assert found.remedy is not None
    assert (found.text, found.remedy.command) == (told, command)


def test_a_token_that_cannot_be_had_is_tested_and_what_does_not_move_is_asked_for() -> None:
    token = alarmed("token-not-renewed", "no token: entgldb test-peer c/1", "c/1").remedy
    sync = alarmed("no-progress", "nothing comes: entgldb tell sync SyncNow").remedy
    assert token is not None
    assert sync is not None
    assert (token.method, token.path) == ("POST", "/v1/peers/c%2F1/_test")
    assert (sync.path, sync.body) == ("/v1/actors/sync/_tell", {"message": "SyncNow"})


def test_what_changes_while_nothing_happens_is_no_reason_to_draw_anew() -> None:
    first = {"peers": [{"seconds_in": 0.01, "behind_in": 0}], "now_ms": 1, "counts": {"a": 1}}
    second = {"peers": [{"seconds_in": 0.02, "behind_in": 0}], "now_ms": 2, "counts": {"a": 2}}
    third = {"peers": [{"seconds_in": 0.02, "behind_in": 1}], "now_ms": 2, "counts": {"a": 2}}
    assert still(first) == still(second) != still(third)
