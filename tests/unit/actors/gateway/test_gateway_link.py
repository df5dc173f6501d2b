"""One cloud link: secret, token, dial, Hello, session, renewal, backoff."""

from __future__ import annotations

import pytest

from entgldb.actors.gateway.cloud_link import ASK_AGAIN_MAX, DIAL_WAIT, HELLO_WAIT, TOKEN_TRIES
from entgldb.messages import codec
from entgldb.messages.client import Report, Status
from entgldb.messages.local.actors import FrameIn
from entgldb.messages.schema import Message
from entgldb.messages.wire import Bye, Credential, Election, Heartbeat, Hello, Rank, Vectors
from tests.unit.actors.gateway.gateway_parts import CLOUD_ORIGIN, Rig, peer


def keep_alive(rig: Rig, link: int, seconds: float) -> None:
    """Let time pass while the cloud sends its heartbeats."""
    for _ in range(int(seconds)):
        rig.hear(link, Heartbeat(rig.ctx.now_ms(), 0, 0))
        rig.ctx.run(1.0)


def test_token_then_dial_then_hello_then_session() -> None:
    rig = Rig()
    rig.reconfigure(peer("c1"), epoch=3)
    assert rig.links.dialled == []
    assert rig.row()["state"] == "connecting"
    rig.issue(token="abc")
    link = rig.up()
    (hello,) = rig.links.take(link)
    assert isinstance(hello, Hello)
    assert (hello.token, hello.epoch, hello.role, hello.cluster) == ("abc", 3, "lan", "")
    assert hello.origin == rig.store.origin
    rig.hello(link)
    assert [type(m) for m in rig.links.take(link)] == [Vectors]
    assert rig.row()["state"] == "connected"


def test_a_missing_secret_is_looked_for_again_every_five_seconds_and_counted_once() -> None:
    rig = Rig()
    rig.secrets.missing = {"c1"}
    rig.reconfigure(peer("c1"), peer("c2"))
    assert [(r["state"], r["reason"]) for r in rig.status()["links"]] == [
        ("backoff", "secret-missing"),
        ("connecting", ""),
    ]
    rig.ctx.run(11)
    assert [node_id for node_id, _, _ in rig.tokens.requests] == ["c2"]
    assert rig.gateway.counts["secret-missing"] == 1
    rig.secrets.missing = set()
    rig.ctx.run(5)
    assert [node_id for node_id, _, _ in rig.tokens.requests] == ["c2", "c1"]


def test_heartbeats_flow_both_ways_and_silence_ends_the_link() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"))
    keep_alive(rig, link, 5)
    assert sum(isinstance(m, Heartbeat) for m in rig.links.take(link)) == 5
    assert rig.row()["state"] == "connected"
    rig.ctx.run(4.1)
    assert rig.links.closed == [(link, "heartbeat-lost")]
    assert rig.links.take(link)[-1] == Bye("heartbeat-lost", "silent for more than 3 s")


def test_the_token_is_renewed_at_eighty_percent_of_its_life_and_sent() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"), expires_in=10.0)
    keep_alive(rig, link, 7)
    assert len(rig.tokens.requests) == 1
    keep_alive(rig, link, 2)
    assert len(rig.tokens.requests) == 2
    rig.issue(10.0, token="second")
    assert Credential("second", 1) in rig.links.take(link)
    keep_alive(rig, link, 9)
    assert len(rig.tokens.requests) == 3


def test_a_failed_renewal_keeps_the_link_says_why_and_is_tried_again() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"), expires_in=10.0)
    keep_alive(rig, link, 9)
    rig.refuse("authority-unreachable")
    assert (rig.row()["state"], rig.row()["reason"]) == ("connected", "authority-unreachable")
    keep_alive(rig, link, 1)
    assert len(rig.tokens.requests) == 3
    rig.issue(10.0)
    assert rig.row()["reason"] == ""
    assert rig.links.closed == []


def test_a_renewal_that_is_never_answered_is_asked_again() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"), expires_in=10.0)
    keep_alive(rig, link, 40)
    assert len(rig.tokens.requests) == 3
    assert rig.gateway.counts["authority-unreachable"] == 1


def alarms(rig: Rig) -> list[tuple[str, str]]:
    answer = rig.ctx.ask(Status())
    assert isinstance(answer, Report)
    return [(alarm["code"], alarm["subject"]) for alarm in answer.body["alarms"]]


def test_a_token_that_cannot_be_renewed_is_an_alarm_after_three_attempts_until_there_is_one() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"), expires_in=60.0)
    keep_alive(rig, link, 48)
    for attempt in range(1, TOKEN_TRIES + 1):
        assert alarms(rig) == []
        rig.refuse("authority-refused")
        if attempt < TOKEN_TRIES:
            keep_alive(rig, link, 3)
    assert alarms(rig) == [("token-not-renewed", "c1")]
    keep_alive(rig, link, 5)
    rig.issue(60.0)
    assert alarms(rig) == []
    rig.secrets.missing = {"c1"}
    keep_alive(rig, link, 49)
    assert alarms(rig) == [("token-not-renewed", "c1")]


def test_a_secret_that_vanishes_shows_at_the_renewal() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"), expires_in=10.0)
    rig.secrets.missing = {"c1"}
    keep_alive(rig, link, 9)
    assert (rig.row()["state"], rig.row()["reason"]) == ("connected", "secret-missing")
    assert len(rig.tokens.requests) == 1


def test_backoff_grows_with_jitter_up_to_its_bound() -> None:
    rig = Rig()
    rig.reconfigure(peer("c1"))
    rig.issue(100_000.0)
    waits = []
    for attempt in range(1, 12):
        assert len(rig.links.dialled) == attempt
        rig.down(attempt, "unreachable")
        begun = rig.ctx.monotonic()
        while len(rig.links.dialled) == attempt:
            rig.ctx.run(0.05)
        waits.append(rig.ctx.monotonic() - begun)
    longest = [min(60.0, 0.5 * 2**n) for n in range(11)]
    assert all(bound / 2 <= wait <= bound + 0.06 for wait, bound in zip(waits, longest, strict=True))
    assert rig.row()["reason"] == "unreachable"
    assert len(rig.tokens.requests) == 1, "a token that lives is used again"


@pytest.mark.parametrize(("healthy", "bound"), [(59, 4.0), (62, 0.5)])
def test_backoff_begins_anew_after_a_minute_connected(healthy: int, bound: float) -> None:
    rig = Rig()
    rig.reconfigure(peer("c1"))
    rig.issue(100_000.0)
    for attempt in (1, 2, 3):
        rig.down(attempt)
        rig.ctx.run(2.1)
    link = rig.up()
    rig.hello(link)
    keep_alive(rig, link, healthy)
    rig.down(link, "peer-closed")
    rig.ctx.run(bound / 2 - 0.01)
    assert len(rig.links.dialled) == 4
    rig.ctx.run(bound / 2 + 0.02)
    assert len(rig.links.dialled) == 5


@pytest.mark.parametrize("reason", ["authority-refused", "authority-unreachable", "authority-error"])
def test_an_authority_is_asked_every_few_seconds_however_long_it_fails(reason: str) -> None:
    rig = Rig()
    rig.reconfigure(peer("c1"))
    while rig.ctx.monotonic() < 170.0:
        rig.refuse(reason)
        assert (rig.row()["state"], rig.row()["reason"]) == ("backoff", reason)
        asked, begun = len(rig.tokens.requests), rig.ctx.monotonic()
        while len(rig.tokens.requests) == asked:
            rig.ctx.run(0.05)
            assert rig.ctx.monotonic() - begun <= ASK_AGAIN_MAX + 0.05
    assert len(rig.tokens.requests) < 100
    rig.issue()
    assert len(rig.links.dialled) == 1


def test_retry_after_is_honoured_but_not_for_ever() -> None:
    rig = Rig()
    rig.reconfigure(peer("c1"))
    rig.refuse("authority-error", retry_after=120.0)
    rig.ctx.run(119.9)
    assert len(rig.tokens.requests) == 1
    rig.ctx.run(0.2)
    assert len(rig.tokens.requests) == 2
    rig.refuse("authority-error", retry_after=1e12)
    rig.ctx.run(3600.1)
    assert len(rig.tokens.requests) == 3


def test_retry_after_outlives_the_link_it_was_said_on() -> None:
    """Found here: once the cloud had closed the link for its token's age, the authority was asked at once."""
    rig = Rig()
    link = rig.connect(peer("c1"), expires_in=10.0)
    keep_alive(rig, link, 9)
    rig.refuse("authority-error", retry_after=120.0)
    keep_alive(rig, link, 6)
    rig.hear(link, Bye("token-expired", ""))
    rig.ctx.run(110)
    assert len(rig.tokens.requests) == 2
    assert (rig.row()["state"], rig.row()["reason"]) == ("backoff", "authority-error")
    rig.ctx.run(5)
    assert len(rig.tokens.requests) == 3
    rig.issue()
    rig.hello(rig.up())
    assert (rig.row()["state"], rig.row()["reason"]) == ("connected", "")


@pytest.mark.parametrize(
    ("reason", "requests"), [("token-refused", 2), ("token-expired", 2), ("stopping", 1)]
)
def test_a_token_the_cloud_refuses_is_not_used_again(reason: str, requests: int) -> None:
    rig = Rig()
    rig.reconfigure(peer("c1"))
    rig.issue()
    link = rig.up()
    rig.hear(link, Bye(reason, "because"))
    assert (rig.row()["state"], rig.row()["reason"]) == ("backoff", reason)
    rig.down(link, "peer-closed")
    assert rig.gateway.counts == {reason: 1}
    rig.ctx.run(0.6)
    assert len(rig.tokens.requests) == requests


def test_a_reason_of_a_newer_release_is_understood_as_closed() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"))
    rig.hear(link, Bye("mercury-retrograde", ""))
    assert rig.row()["reason"] == "peer-closed"


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (Hello(2, 3, "cloud-node", CLOUD_ORIGIN, "", (), 0, "cloud"), "wrong-protocol"),
        (Hello(1, 1, "cloud-node", CLOUD_ORIGIN, "", (), 0, "lan"), "wrong-node"),
        (Hello(1, 1, "lan-1", "lan-1/" + "ab" * 16, "", (), 0, "cloud"), "wrong-node"),
        (Hello(1, 1, "cloud-node", "x/" + "ab" * 16, "", (), 0, "cloud"), "malformed"),
        (Hello(1, 1, "cloud-node", CLOUD_ORIGIN, "", (), 0, "cloud"), "wrong-node"),  # it is not c1
    ],
)
def test_a_hello_that_is_not_a_clouds_ends_the_link(hello: Hello, reason: str) -> None:
    rig = Rig()
    rig.reconfigure(peer("c1"))
    rig.issue()
    link = rig.up()
    rig.hear(link, hello)
    assert rig.links.closed == [(link, reason)]
    assert (rig.row()["state"], rig.row()["reason"]) == ("backoff", reason)


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", codec.encode(Vectors({}, {}))[:-1], b"\xc4" + b"\xff" * 40]
)
def test_a_malformed_frame_closes_the_link_and_nothing_else(payload: bytes) -> None:
    rig = Rig()
    link = rig.connect(peer("c1"))
    rig.ctx.hand(FrameIn(link, payload))
    assert rig.links.closed == [(link, "malformed")]
    assert rig.row()["reason"] == "malformed"


def test_a_first_frame_larger_than_a_hello_closes_the_link() -> None:
    rig = Rig()
    rig.reconfigure(peer("c1"))
    rig.issue()
    link = rig.up()
    huge = Hello(1, 1, "cloud-node", CLOUD_ORIGIN, "", ("x" * 70_000,), 0, "cloud")
    rig.hear(link, huge)
    assert rig.links.closed == [(link, "malformed")]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (codec.encode(Election(1, Rank(0, 0, "x"))), "unknown-message"),
        (b"\x92\xcd\x7f\xff\x00", "unknown-message"),
    ],
)
def test_what_is_unknown_is_counted_and_ignored(payload: bytes, reason: str) -> None:
    rig = Rig()
    link = rig.connect(peer("c1"))
    rig.ctx.hand(FrameIn(link, payload))
    assert rig.gateway.counts == {reason: 1}
    assert rig.row()["state"] == "connected"


@pytest.mark.parametrize("early", [Vectors({}, {}), Heartbeat(0, 0, 0)])
def test_nothing_is_taken_before_the_hello(early: Message) -> None:
    rig = Rig()
    rig.reconfigure(peer("c1"))
    rig.issue()
    link = rig.up()
    rig.hear(link, early)
    assert rig.gateway.counts == {"out-of-order": 1}


def test_a_second_hello_ends_the_link() -> None:
    rig = Rig()
    link = rig.connect(peer("c1"))
    rig.hello(link)
    assert rig.links.closed == [(link, "malformed")]


def test_each_phase_has_its_bound() -> None:
    rig = Rig()
    rig.reconfigure(peer("c1"))
    rig.ctx.run(30.1)
    assert rig.row()["reason"] == "authority-unreachable"
    rig.ctx.run(0.6)
    rig.issue(100_000.0)
    rig.ctx.run(DIAL_WAIT + 0.1)
    assert rig.row()["reason"] == "unreachable"
    assert rig.links.closed == [(1, "unreachable")]
    rig.ctx.run(1.1)
    link = rig.up()
    rig.ctx.run(HELLO_WAIT + 0.1)
    assert rig.links.closed[-1] == (link, "handshake-timeout")


def test_an_answer_to_an_outdated_request_is_ignored() -> None:
    rig = Rig()
    rig.reconfigure(peer("c1"))
    rig.reconfigure(peer("c1", client="other"))
    (_, old, _), (_, new, _) = rig.tokens.requests
    rig.tokens.requests.append(("c1", old, rig.tokens.requests[0][2]))
    rig.issue(token="of-the-old-client")
    rig.refuse("authority-refused")
    assert rig.links.dialled == []
    assert rig.row()["state"] == "connecting"
    rig.tokens.requests.append(("c1", new, rig.tokens.requests[1][2]))
    rig.issue()
    assert len(rig.links.dialled) == 1


def test_no_line_of_the_log_holds_a_token() -> None:
    rig = Rig()
    rig.reconfigure(peer("c1"))
    rig.issue(10.0, token="s3cr3t-t0ken")
    link = rig.up()
    rig.hello(link)
    keep_alive(rig, link, 9)
    rig.refuse("authority-error")
    rig.down(link, "peer-closed")
    rig.reconfigure()
    assert len(rig.ctx.lines) >= 3
    assert not any("s3cr3t" in line for line in rig.ctx.lines)
