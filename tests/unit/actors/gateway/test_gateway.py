"""The gateway: wanted links against open links."""

from __future__ import annotations

import pytest

from entgldb.messages.client import Refused, RequestId, TestPeer, Write
from entgldb.messages.local.actors import (
    Applied,
    Apply,
    Committed,
    Fitness,
    ProbeDone,
    Seen,
    SessionEnded,
    StopNow,
    Stopped,
)
from entgldb.messages.schema import Json
from entgldb.messages.wire import Bye, Credential, Entries, VectorChange, Vectors
from tests.support.fake_context import FakeAsker
from tests.unit.actors.gateway.gateway_parts import CLOUD_ORIGIN, Rig, peer


def test_only_the_gateway_dials() -> None:
    rig = Rig()
    rig.reconfigure(peer("c1"), gateway="lan-2")
    assert rig.tokens.requests == []
    assert rig.status()["role"] == "member"
    assert rig.status()["links"] == []
    rig.reconfigure(peer("c1"), gateway="lan-1", epoch=2)
    assert [node_id for node_id, _, _ in rig.tokens.requests] == ["c1"]
    assert rig.status()["role"] == "gateway"
    assert rig.status()["epoch"] == 2


def test_a_node_in_the_cloud_role_never_dials() -> None:
    rig = Rig(role="cloud")
    rig.reconfigure(peer("c1"))
    rig.ctx.run(20)
    assert rig.tokens.requests == []
    assert rig.ctx.take(Fitness) == []


def test_status_has_the_promised_fields() -> None:
    rig = Rig()
    assert rig.status()["reconfigured"] is None
    rig.connect(peer("c1"))
    status = rig.status()
    assert {"role", "epoch", "reconfigured", "cause", "links"} <= set(status)
    assert status["cause"] == "peers"
    assert status["reconfigured"] == rig.ctx.now_ms()
    row = rig.row()
    assert (row["node_id"], row["address"]) == ("c1", "c1.example.com:9000")
    assert (row["state"], row["reason"], row["since"]) == ("connected", "", rig.ctx.now_ms())


def test_status_tells_when_the_token_of_a_link_ends() -> None:
    rig = Rig()
    rig.reconfigure(peer("c1"))
    assert rig.row()["token_expires"] is None
    rig = Rig()
    rig.connect(peer("c1"), expires_in=300)
    ends = rig.row()["token_expires"]
    assert ends == pytest.approx(rig.ctx.now_ms() / 1000 + 300, abs=0.01)
    rig.ctx.run(20)
    assert rig.row()["token_expires"] == pytest.approx(ends, abs=0.01)


def test_an_equal_wish_changes_nothing() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"))
    rig.reconfigure(peer("c1"))
    assert rig.links.closed == []
    assert rig.links.take(link) == []
    assert len(rig.tokens.requests) == 1


@pytest.mark.parametrize(
    ("peers", "leader", "reason"),
    [
        ([peer("c1")], "lan-2", "not-gateway"),
        ([peer("c1", enabled=False)], "lan-1", "peer-disabled"),
        ([], "lan-1", "peer-removed"),
        ([peer("c1") | {"Type": 1, "OAuth2Json": None}], "lan-1", "peer-removed"),
        ([peer("c1", port=9001)], "lan-1", "peer-changed"),
        ([peer("c1", client="other")], "lan-1", "peer-changed"),
        ([peer("c1") | {"Address": "nowhere"}], "lan-1", "peer-changed"),
    ],
)
def test_a_link_that_should_not_be_closes_at_once(
    peers: list[dict[str, Json]], leader: str, reason: str
) -> None:
    rig = Rig()
    link = rig.connect(peer("c1"))
    rig.reconfigure(*peers, gateway=leader, epoch=2)
    assert rig.links.closed == [(link, reason)]
    assert rig.links.take(link)[-1] == Bye(reason, "")
    assert len(rig.ctx.take(SessionEnded, "oplog")) == 1
    rig.down(link, reason)
    rig.ctx.run(30)
    assert rig.gateway.counts[reason] == 1


def test_a_changed_peer_is_dialled_anew() -> None:
    rig = Rig()
    rig.connect(peer("c1"))
    rig.reconfigure(peer("c1", port=9001))
    rig.issue()
    assert rig.links.dialled[-1].address == "c1.example.com:9001"


def test_a_field_that_does_not_matter_dials_nothing() -> None:
    rig = Rig()
    rig.connect(peer("c1"))
    rig.reconfigure(peer("c1") | {"Comment": "ours"})
    assert rig.links.closed == []


def test_one_bad_peer_harms_no_other() -> None:
    rig = Rig()
    bad: list[dict[str, Json]] = [
        {},
        peer("c2") | {"OAuth2Json": "{"},
        peer("c3") | {"OAuth2Json": "[1]"},
        peer("c4") | {"NodeId": 7},
    ]
    rig.connect(*bad, peer("c1"))
    rows = {row["node_id"]: (row["state"], row["reason"]) for row in rig.status()["links"]}
    assert rows["c1"] == ("connected", "")
    assert rows["c2"] == rows["c3"] == ("disabled", "invalid")
    assert rig.gateway.counts["invalid"] == 4


def test_a_disabled_peer_shows_as_disabled() -> None:
    rig = Rig()
    rig.reconfigure(peer("c1", enabled=False))
    assert (rig.row()["state"], rig.row()["reason"]) == ("disabled", "peer-disabled")


def test_a_new_epoch_is_told_on_the_open_link() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"))
    rig.reconfigure(peer("c1"), epoch=5)
    assert rig.links.take(link) == [Credential("t0k", 5)]
    assert rig.links.closed == []


def test_fitness_counts_enabled_peers_whose_secret_is_here() -> None:
    rig = Rig()
    rig.secrets.missing = {"c2"}
    rig.reconfigure(peer("c1"), peer("c2"), peer("c3", enabled=False), gateway="lan-2")
    assert rig.ctx.take(Fitness, "election") == [Fitness(1)]
    rig.secrets.missing = set()
    rig.ctx.run(5.1)
    assert rig.ctx.take(Fitness, "election") == [Fitness(2)]


def test_without_a_session_nobody_asks_to_be_told_of_commits() -> None:
    rig = Rig()
    rig.ctx.hand(Committed(1, 1, 1))
    assert rig.ctx.take(Seen, "store") == []


def test_commits_go_to_the_cloud_and_store_hears_that_they_were_seen() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"))
    rig.hear(link, Vectors({}, {}))
    now = rig.ctx.now_ms()
    with rig.store.group():
        writes = [Write("notes", "n1", b"{}")]
        _, lsn = rig.store.write(RequestId(b"c" * 16, 1), writes, now)
    rig.links.take(link)
    assert rig.ctx.take(Seen, "store") == [Seen("gateway", 0)]  # a session runs: commits are wanted
    rig.ctx.hand(Committed(lsn, lsn, lsn))
    assert rig.ctx.take(Seen, "store") == [Seen("gateway", lsn)]
    sent = [m for m in rig.links.take(link) if isinstance(m, Entries)]
    assert [len(m.entries) for m in sent] == [1]


def test_what_the_cloud_sends_goes_to_the_store_and_is_acknowledged_after_its_commit() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"))
    rig.hear(link, Entries(0, 0, ()))
    (received,) = rig.ctx.take(Apply, "store")
    assert (received.owner, received.cloud) == ("gateway", True)
    assert rig.links.take(link) == []
    rig.ctx.hand(Applied(received.session, 0, 0, {CLOUD_ORIGIN: (1, b"h" * 32)}))
    sent = rig.links.take(link)
    assert [type(m).__name__ for m in sent] == ["Ack", "VectorChange"]
    assert sent[1] == VectorChange({CLOUD_ORIGIN: (1, b"h" * 32)})


def test_testing_a_peer_answers_with_its_steps() -> None:
    rig = Rig()
    rig.reconfigure(peer("c1", enabled=False), gateway="lan-2")
    asker = FakeAsker()
    rig.ctx.asker = asker
    rig.ctx.hand(TestPeer("c1"))
    rig.ctx.asker = None
    ((ticket, target, _),) = rig.prober.probes
    assert target.address == "c1.example.com:9000"
    steps = ({"name": "dns", "ok": True}, {"name": "tls", "ok": False})
    rig.ctx.hand(ProbeDone(ticket, steps))
    (answer,) = asker.answers
    assert getattr(answer, "body", None) == {"node_id": "c1", "ok": False, "steps": list(steps)}


def test_a_probe_that_passes_every_step_is_ok() -> None:
    rig = Rig()
    rig.reconfigure(peer("c1"))
    asker = FakeAsker()
    rig.ctx.asker = asker
    rig.ctx.hand(TestPeer("c1"))
    rig.ctx.hand(ProbeDone(rig.prober.probes[0][0], ({"name": "dns", "ok": True},)))
    assert getattr(asker.answers[0], "body", {})["ok"] is True


@pytest.mark.parametrize(("node_id", "code"), [("nobody", "not-found"), ("c2", "invalid")])
def test_testing_what_cannot_be_tested_is_refused(node_id: str, code: str) -> None:
    rig = Rig()
    rig.reconfigure(peer("c1"), peer("c2") | {"Address": "x"})
    answer = rig.ctx.ask(TestPeer(node_id))
    assert isinstance(answer, Refused)
    assert answer.code == code


def test_stopping_tells_the_cloud() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"))
    assert rig.ctx.ask(StopNow()) == Stopped("gateway")
    assert rig.links.take(link)[-1] == Bye("stopping", "")
    assert rig.links.closed == [(link, "stopping")]


def test_outcomes_for_links_that_are_gone_are_ignored() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"))
    rig.reconfigure()
    rig.hello(link)
    rig.down(link)
    rig.down(0)
    rig.up()
    rig.issue()
    rig.refuse("authority-error")
    assert rig.status()["links"] == []
    assert len(rig.links.dialled) == 1
