"""The client's half of the Unix socket against the node's half, both real."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entgldb.actors.behaviour import Asker, refused
from entgldb.client.wire import WireClient, by_code
from entgldb.messages import codec
from entgldb.messages.client import Advanced, Done, Follow, Ping, Relay, Report, Status
from entgldb.messages.errors import EntglError, NoAnswerError, NoNodeError, NotAllowedError, TooLargeError
from entgldb.messages.schema import Channel, Message
from tests.unit.client.answering_node import Answer, Store


def test_a_refusal_comes_as_the_error_of_its_code_whatever_else_is_loaded() -> None:
    class OtherError(EntglError):
        """Such as a verb has for its own faults."""

        code = NotAllowedError.code

    kinds = by_code([*EntglError.__subclasses__(), OtherError])
    assert kinds[NotAllowedError.code] is NotAllowedError


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Answer], WireClient]]:
    stores: list[Store] = []
    clients: list[WireClient] = []

    def begin(answer: Answer) -> WireClient:
        stores.append(Store(tmp_path, answer))
        clients.append(WireClient(tmp_path))
        return clients[-1]

    yield begin
    for client in clients:
        client.close()
    for store in stores:
        store.stop()


Serve = Callable[[Answer], WireClient]


def test_a_request_gets_its_own_answer(serve: Serve) -> None:
    def answer(message: Message, asker: Asker) -> None:
        asker.answer(Report({"asked": str(message)}))

    client = serve(answer)
    assert client.request(Ping(), 10) == Report({"asked": "Ping"})
    assert client.request(Status(), 10) == Report({"asked": "Status"})


def test_answers_are_kept_for_those_who_ask_later(serve: Serve) -> None:
    client = serve(lambda message, asker: asker.answer(Report({"asked": str(message)})))
    first, second = client.send(Ping(), 10), client.send(Status(), 10)
    assert client.request(Ping(), 10) == Report({"asked": "Ping"})
    assert client.answer(second, 10) == Report({"asked": "Status"})
    assert client.answer(first, 10) == Report({"asked": "Ping"})


@pytest.mark.parametrize("kind", [NotAllowedError, TooLargeError, NoAnswerError, EntglError])
def test_a_refusal_is_raised_as_what_it_was(serve: Serve, kind: type[EntglError]) -> None:
    fault = kind("no", hint="do otherwise", definite=False)
    client = serve(lambda message, asker: asker.answer(refused(fault)))
    with pytest.raises(kind) as caught:
        client.request(Ping(), 10)
    assert type(caught.value) is kind
    assert (caught.value.text, caught.value.hint, caught.value.definite) == ("no", "do otherwise", False)


def test_an_admin_message_is_relayed_whole(serve: Serve) -> None:
    def answer(message: Message, asker: Asker) -> None:
        assert isinstance(message, Relay)
        inner = codec.decode(message.payload, Channel.CLIENT).message
        asker.answer(Report({"actor": message.actor, "message": str(inner)}))

    assert serve(answer).relay("sync", Status(), 10) == Report({"actor": "sync", "message": "Status"})


def test_pushes_arrive_between_answers(serve: Serve) -> None:
    followers: list[Asker] = []

    def answer(message: Message, asker: Asker) -> None:
        if isinstance(message, Follow):
            followers.append(asker)
        for follower in followers:
            follower.answer(Done() if isinstance(message, Follow) else Advanced(5))
        if isinstance(message, Ping):
            asker.answer(Done())

    client = serve(answer)
    assert client.request(Follow(), 10) == Done()
    assert not client.wait_pushed(0.01)
    assert client.request(Ping(), 10) == Done()
    assert client.wait_pushed(10)
    assert not client.wait_pushed(0.01)


def test_no_answer_in_time_leaves_it_open_whether_it_happened(serve: Serve) -> None:
    late: list[Asker] = []

    def answer(message: Message, asker: Asker) -> None:
        late.append(asker)
        if len(late) == 2:
            late[0].answer(Report({"late": True}))
            asker.answer(Done())

    client = serve(answer)
    with pytest.raises(NoAnswerError) as caught:
        client.request(Ping(), 0.05)
    assert not caught.value.definite
    assert client.request(Ping(), 10) == Done(), "a late answer is not taken for the next one"


def test_a_node_that_goes_away_is_no_answer(tmp_path: Path) -> None:
    store = Store(tmp_path, lambda message, asker: None)
    client = WireClient(tmp_path)
    store.stop()
    with pytest.raises(NoAnswerError):
        client.request(Ping(), 10)
    client.close()
    with pytest.raises(NoNodeError, match="no node is running"):
        WireClient(tmp_path)


def test_a_long_path_is_no_hindrance(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    with pytest.raises(NoNodeError):
        WireClient(deep)
    store = Store(deep, lambda message, asker: asker.answer(Done()))
    client = WireClient(deep)
    assert client.request(Ping(), 10) == Done()
    client.close()
    store.stop()


def test_a_client_loads_nothing_heavy() -> None:
    heavy = {"asyncio", "cryptography", "sqlite3", "sqlite_utils", "thespian", "zeroconf"}
    code = f"import sys, entgldb.client.wire; print(*sorted({heavy!r} & set(sys.modules)))"
    source = Path(__file__).parents[3] / "src"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(source)},
    )
    assert found.stdout.split() == []
