"""Questions that an actor hands on to another: their answers, and their ends without one."""

from __future__ import annotations

import pytest

from entgldb.actors.host import actor as host
from entgldb.actors.host.wire import ANSWER, ASK
from entgldb.actors.node.supervision import BEAT_SECONDS
from entgldb.messages import codec
from entgldb.messages.client import Refused, Relay, Report, Status
from entgldb.messages.local.actors import Addresses
from tests.unit.actors.host.test_host import NODE, SOMEBODY, Rig, rig, serving

__all__ = ["rig", "serving"]


def test_a_forwarded_question_brings_its_answer_to_whoever_asked(serving: Rig) -> None:
    serving.receive(Addresses({"peer": b"1002"}, {}), sender=NODE)
    serving.receive(Relay("peer", codec.encode(Status())), 77, sender=SOMEBODY)
    ((port, number, question),) = serving.said(ASK)
    assert (port, question) == (1002, Status())
    assert number != 0
    serving.receive(Report({"from": "peer"}), number, ANSWER)
    assert serving.said(ANSWER) == [(1003, 77, Report({"from": "peer"}))]
    serving.receive(Report({"from": "peer"}), number, ANSWER)
    assert serving.said(ANSWER) == []


def test_a_forwarded_question_that_was_answered_wakes_nobody_later(serving: Rig) -> None:
    serving.receive(Addresses({"peer": b"1002"}, {}), sender=NODE)
    serving.wake()
    for _ in range(3):
        serving.receive(Relay("peer", codec.encode(Status())), 77, sender=SOMEBODY)
    begun = serving.clock.now
    for _, number, _ in serving.said(ASK)[1:]:
        serving.receive(Report({}), number, ANSWER)
    serving.said(ANSWER)
    waits = [serving.wake() for _ in range(int(host.FORWARD_TIMEOUT))]
    assert [wait for wait in waits if wait != BEAT_SECONDS] == [host.FORWARD_TIMEOUT % BEAT_SECONDS]
    assert serving.clock.now > begun + host.FORWARD_TIMEOUT
    assert [type(answer) for _, _, answer in serving.said(ANSWER)] == [Refused]


def test_a_forwarded_question_without_an_answer_ends_after_a_while(serving: Rig) -> None:
    serving.receive(Addresses({"peer": b"1002"}, {}), sender=NODE)
    serving.receive(Relay("peer", codec.encode(Status())), 77, sender=SOMEBODY)
    answers, seconds = serving.said(ANSWER), 0.0
    while not answers:
        seconds += serving.wake()
        answers = serving.said(ANSWER)
    assert seconds == host.FORWARD_TIMEOUT
    ((_, _, answer),) = answers
    assert isinstance(answer, Refused)
    assert (answer.code, answer.definite) == ("timeout", False)


@pytest.mark.parametrize("later", [{}, {"peer": 8}])
def test_a_forwarded_question_ends_with_the_actor_that_had_it(serving: Rig, later: dict[str, int]) -> None:
    serving.receive(Addresses({"peer": b"1002", "other": b"1004"}, {"peer": 7, "other": 9}), sender=NODE)
    serving.receive(Relay("peer", codec.encode(Status())), 77, sender=SOMEBODY)
    serving.receive(Relay("other", codec.encode(Status())), 78, sender=SOMEBODY)
    serving.said(ASK)
    handles = {"peer": b"1005"} if later else {}
    serving.receive(Addresses({**handles, "other": b"1004"}, {**later, "other": 9}), sender=NODE)
    ((port, number, answer),) = serving.said(ANSWER)
    assert (port, number) == (1003, 77)
    assert isinstance(answer, Refused)
    assert (answer.code, answer.text, answer.definite) == ("timeout", "peer ended before it answered", False)


def test_a_question_for_an_absent_actor_is_refused_at_once(serving: Rig) -> None:
    serving.receive(Relay("peer", codec.encode(Status())), 77)
    ((_, number, answer),) = serving.said(ANSWER)
    assert number == 77
    assert isinstance(answer, Refused)
    assert answer.text == "peer is not here now"
