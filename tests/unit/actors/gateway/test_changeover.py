"""A cloud peer's client secret changes over: the link stays, and the one before is used while it must be."""

from __future__ import annotations

import json

from entgldb.actors.gateway.behaviour import FITNESS_SECONDS
from entgldb.actors.gateway.changeover import CONFIRM_SECONDS, TRY_AGAIN_SECONDS
from entgldb.messages.local.members import SettleSecret
from entgldb.messages.schema import Json
from entgldb.messages.wire import Credential
from entgldb.storage.rules.ended import any_log
from tests.unit.actors.gateway.gateway_parts import Rig, peer
from tests.unit.actors.gateway.test_gateway_link import keep_alive

DAY_MS = 24 * 3600 * 1000


def changing(
    rig: Rig, secret: str = "env:NEW", before: str = "env:S", left_ms: int = DAY_MS
) -> dict[str, Json]:
    """The document of a peer whose secret changes over."""
    document = peer("c1")
    document["OAuth2Json"] = json.dumps({**json.loads(document["OAuth2Json"]), "clientSecret": secret})
    return {**document, "PreviousSecret": {"Secret": before, "Until": rig.ctx.now_ms() + left_ms}}


def asked(rig: Rig) -> list[str]:
    return [oauth2.client_secret for _, _, oauth2 in rig.tokens.requests]


def settled(rig: Rig) -> list[SettleSecret]:
    return [message for actor, message in rig.ctx.told if isinstance(message, SettleSecret)]


def test_the_link_stays_and_a_new_secret_that_was_taken_twice_counts_alone() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"))
    rig.reconfigure(changing(rig))
    assert asked(rig) == ["env:S", "env:NEW"]
    rig.issue(token="by the new one")
    assert rig.links.take(link) == [Credential("by the new one", 1)]
    assert (rig.row()["state"], rig.row()["secret"]) == ("connected", "new")
    keep_alive(rig, link, CONFIRM_SECONDS - 1)
    assert len(asked(rig)) == 2
    assert settled(rig) == [], "one server of several may have heard"
    keep_alive(rig, link, 2)
    rig.issue(token="once more")
    assert settled(rig) == [SettleSecret("c1", "env:NEW")]
    rig.reconfigure({**changing(rig), "PreviousSecret": None})
    assert len(asked(rig)) == 3, "nothing is asked for as the old one goes"
    assert rig.links.closed == []
    assert rig.row()["secret"] == ""


def test_while_the_new_one_is_refused_the_one_before_is_used_and_the_new_one_tried_again() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"), expires_in=9000.0)
    rig.reconfigure(changing(rig))
    rig.refuse("authority-refused", by_client=True)
    assert asked(rig) == ["env:S", "env:NEW", "env:S"]
    assert rig.gateway.counts["authority-refused"] == 1
    rig.issue(9000.0)
    assert rig.row()["secret"] == "previous"
    keep_alive(rig, link, TRY_AGAIN_SECONDS + 1)
    assert asked(rig)[3:] == ["env:NEW"]
    rig.issue(9000.0)
    keep_alive(rig, link, CONFIRM_SECONDS + 1)
    rig.refuse("authority-refused", by_client=True)
    rig.issue(9000.0)
    keep_alive(rig, link, TRY_AGAIN_SECONDS + 1)
    rig.issue(9000.0)
    assert settled(rig) == [], "a refusal between two that were taken"
    keep_alive(rig, link, CONFIRM_SECONDS + 1)
    rig.issue(9000.0)
    assert settled(rig) == [SettleSecret("c1", "env:NEW")]
    assert rig.links.closed == []


def test_a_fault_of_the_authority_is_no_reason_to_use_the_one_before() -> None:
    rig = Rig()
    rig.reconfigure(changing(rig))
    rig.refuse("authority-unreachable")
    assert asked(rig) == ["env:NEW"]
    assert rig.row()["reason"] == "authority-unreachable"


def test_both_are_refused_once_an_attempt() -> None:
    rig = Rig()
    rig.reconfigure(changing(rig))
    rig.refuse("authority-refused", by_client=True)
    rig.refuse("authority-refused", by_client=True)
    assert asked(rig) == ["env:NEW", "env:S"]
    assert (rig.row()["state"], rig.row()["reason"]) == ("backoff", "authority-refused")
    rig.ctx.run(5)
    assert asked(rig)[2:] == ["env:NEW"]


def test_after_its_time_the_one_before_is_used_no_more_and_the_gateway_has_it_removed() -> None:
    rig = Rig()
    rig.reconfigure(changing(rig, left_ms=3000))
    rig.ctx.run(FITNESS_SECONDS + 1)
    assert settled(rig) == [SettleSecret("c1", "")]
    rig.refuse("authority-refused", by_client=True)
    assert asked(rig) == ["env:NEW"]
    other = Rig()
    other.reconfigure(changing(other, left_ms=3000), gateway="lan-2")
    other.ctx.run(FITNESS_SECONDS + 1)
    assert settled(other) == [], "one node does it"


def test_another_secret_without_an_overlap_is_another_link() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"))
    rig.reconfigure({**changing(rig), "PreviousSecret": None})
    assert rig.links.closed == [(link, "peer-changed")]


def test_a_link_whose_secret_changes_over_is_another_one_with_another_client() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"))
    other = changing(rig)
    other["OAuth2Json"] = other["OAuth2Json"].replace('"gw"', '"another"')
    rig.reconfigure(other)
    assert rig.links.closed == [(link, "peer-changed")]


def test_a_secret_that_an_expelled_node_knows_is_an_alarm_until_it_is_another() -> None:
    rig = Rig()
    sealed = peer("c1")
    sealed["OAuth2Json"] = sealed["OAuth2Json"].replace("env:S", "sealed:v1:k:abc")
    rig.reconfigure(sealed, peer("c2"))
    assert rig.status()["alarms"] == []
    rig.store.connection.execute(
        "INSERT INTO _entgldb_ended (origin, seq) VALUES (?, 0)", (any_log("lan-3"),)
    )
    rig.reconfigure(sealed, peer("c2"))
    assert [(one["code"], one["subject"]) for one in rig.status()["alarms"]] == [("secret-known", "c1")]
    newer = {**sealed, "OAuth2Json": sealed["OAuth2Json"].replace("}", ', "expelledBefore": 1}')}
    rig.reconfigure(newer)
    assert rig.status()["alarms"] == []
    rig.reconfigure(sealed)
    rig.reconfigure()
    assert rig.status()["alarms"] == [], "the peer was removed"
