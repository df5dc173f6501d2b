"""One wait, question by question: what is asked, what the answers make of it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from entgldb.client import spread
from entgldb.client.spread import Spread, SpreadError, Waiting, need_of, newest, wait
from entgldb.messages.administration import AwaitSpread
from entgldb.messages.client import Report
from entgldb.messages.errors import EntglError, InvalidError, NoAnswerError, NotFoundError
from entgldb.messages.model import Version
from entgldb.messages.schema import Message

NOT_YET = Report({"durable": ["b"], "missing": ["c"], "reached": False})
REACHED = Report({"durable": ["b", "c"], "missing": [], "reached": True})


class Node:
    """A transport that has its answers ready; an error among them is raised."""

    def __init__(self, *answers: Message | EntglError) -> None:
        self.answers = list(answers)
        self.asked: list[AwaitSpread] = []

    def ask_aside(self, actor: str, message: Message, timeout: float) -> Message:
        assert isinstance(message, AwaitSpread)
        assert (actor, timeout > message.seconds) == ("sync", True)
        self.asked.append(message)
        answer = self.answers.pop(0)
        if isinstance(answer, EntglError):
            raise answer
        return answer

    def now(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Who is asked again is there at once."""


def waited(node: Node, need: str = "all", seconds: float = 20.0) -> Spread:
    return wait(node, need, (Version("a/1", 3), Version("a/1", 5), Version("b/1", 2)), seconds)  # type: ignore[arg-type]  # all that wait calls


def test_it_asks_again_until_they_have_it() -> None:
    node = Node(NOT_YET, REACHED)
    assert waited(node) == Spread(("b", "c"), (), reached=True)
    assert [question.vector for question in node.asked] == [{"a/1": 5, "b/1": 2}] * 2
    assert all(question.seconds <= spread.SLICE_SECONDS for question in node.asked)


def test_when_the_time_is_over_it_says_who_has_it() -> None:
    with pytest.raises(
        SpreadError, match="durable here, and after 0 s not on all: durable on b; c not yet"
    ) as it:
        waited(Node(NOT_YET), seconds=0.0)
    assert it.value.spread == Spread(("b",), ("c",), reached=False)
    assert it.value.definite


def test_a_node_that_restarts_an_actor_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "AGAIN_SECONDS", 0.0)
    assert waited(Node(NoAnswerError("gone"), REACHED)).reached


def test_a_node_that_says_nothing_is_not_taken_for_one_that_denies() -> None:
    waiting = Waiting("all", None, 0.0)
    (question,) = (
        question for question in waiting.questions() if waiting.failed(NoAnswerError("gone")) is None
    )
    assert question.vector is None
    with pytest.raises(SpreadError, match="did not say who has it"):
        waiting.outcome()


def test_what_no_waiting_mends_is_raised_at_once_where_nothing_was_written() -> None:
    with pytest.raises(InvalidError):
        wait(Node(InvalidError("what?")), "all", None, 20.0)  # type: ignore[arg-type]  # all that wait calls


def test_what_an_ack_asks_for() -> None:
    assert [need_of(ack) for ack in (2, "peers:2", "all", "cloud", ["b", "c"])] == [
        "peers:2",
        "peers:2",
        "all",
        "cloud",
        "nodes:b,c",
    ]
    assert newest(()) == {}


@pytest.mark.parametrize(
    "ack",
    [
        0,
        -1,
        True,
        10**6,
        "peers:" + "9" * 5000,
        "peers:0",
        "peers:two",
        "peer:2",
        "some",
        "",
        [],
        [""],
        ["b", ""],
        ["b "],
        None,
        1.5,
    ],
)
def test_an_ack_that_says_nothing_is_refused_before_the_write(ack: Any) -> None:
    with pytest.raises(InvalidError, match="does not say who has to have it"):
        need_of(ack)


def test_a_write_that_nobody_can_be_waited_for_is_said_to_be_written() -> None:
    with pytest.raises(SpreadError, match=r"durable here.*\(there is no cloud peer\)") as it:
        waited(Node(NotFoundError("there is no cloud peer")), "cloud")
    assert it.value.versions[0] == Version("a/1", 3)


def test_it_reads_as_a_sentence() -> None:
    assert str(Spread(("b", "c"), ("d",))) == "durable on b, c; d not yet"
    assert str(Spread((), ("d",))) == "on no other node; d not yet"
    assert str(Spread((), ())) == "on no other node"
