"""One message set, one handler: Thespian's ask and the Unix socket of a node answer alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from entgldb.client.wire import WireClient
from entgldb.launch.node.handle import Node, launch
from entgldb.launch.node.init import Plan, init
from entgldb.messages import client
from entgldb.messages.client import Commit, CommitDone, RequestId, Write
from entgldb.messages.codec import encode
from entgldb.messages.errors import EntglError
from entgldb.messages.schema import Message

pytestmark = pytest.mark.slow
ACTORS = ("node", "store", "oplog", "sync", "election", "gateway")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = init(Plan(tmp_path_factory.mktemp("contract") / "n1", node_id="n1", host="127.0.0.1"))
    with launch(made.directory) as started:
        yield started


@pytest.fixture
def wire(node: Node) -> Iterator[WireClient]:
    made = WireClient(node.directory)
    yield made
    made.close()


def by_socket(wire: WireClient, message: Message) -> Message:
    """The answer by the socket, a refusal as the message it was."""
    try:
        return wire.request(message, 5.0)
    except EntglError as fault:
        return client.Refused(fault.code.value, fault.text, fault.hint, fault.definite)


def request(counter: int) -> RequestId:
    return RequestId(b"c" * 16, counter)


def write(collection: str, key: str, body: bytes | None) -> Commit:
    return Commit(request(0), (Write(collection, key, body),))


ONCE_EACH = [
    client.Ping(),
    write("users", "of-@", b'{"a":1}'),
    write("users", "of-@", None),
    write("users", "never-there", None),
    write("_system_remote_peers", "c1", b"{}"),
    write("users", "", b"{}"),
    write("users", "u2", b"no json"),
    client.CreateIndex("users", ("a.b",)),
    client.CreateIndex("users", ("a..b",)),
    client.PutPeer(request(0), True, "of-@", type=1, address="lan.example:7000"),
    client.PutPeer(request(0), False, "nobody", enabled=False),
    client.RemovePeer(request(0), "nobody"),
    client.SyncNow(),
    client.Relay("gateway", encode(client.Ping())),
    client.Relay("gateway", encode(write("users", "u1", b"{}"))),
    client.Relay("nowhere", encode(client.Ping())),
]


def by_way(message: Any, way: str, counter: int) -> Any:
    """The message as one way sends it: with a request id and keys of its own."""
    if getattr(message, "request", None) is not None:
        message = replace(message, request=request(counter))
    if isinstance(message, client.PutPeer):
        return replace(message, node_id=message.node_id.replace("@", way))
    if isinstance(message, Commit):
        return replace(message, writes=tuple(replace(w, key=w.key.replace("@", way)) for w in message.writes))
    return message


def shape(answer: Message) -> Any:
    """An answer without the numbers that grow with every write."""
    if isinstance(answer, CommitDone):
        return [w.origin for w in answer.written], answer.lsn > 0, [w.seq > 0 for w in answer.written]
    return answer


@pytest.mark.parametrize("number", range(len(ONCE_EACH)), ids=lambda n: f"{n}-{ONCE_EACH[n]}")
def test_both_ways_give_the_same_answer(node: Node, wire: WireClient, number: int) -> None:
    message = ONCE_EACH[number]
    asked = node.ask("store", by_way(message, "ask", 1000 + number))
    written = by_socket(wire, by_way(message, "socket", 2000 + number))
    assert type(asked) is type(written)
    assert shape(asked) == shape(written)


def test_a_request_known_by_one_way_is_known_by_the_other(node: Node, wire: WireClient) -> None:
    commit = Commit(request(5), (Write("users", "twice", b"{}"),))
    assert node.ask("store", commit) == by_socket(wire, commit)


@pytest.mark.parametrize("actor", ACTORS)
def test_every_actor_is_reached_both_ways(node: Node, wire: WireClient, actor: str) -> None:
    asked = node.ask(actor, client.Status())
    relayed = by_socket(wire, client.Relay(actor, encode(client.Status())))
    assert isinstance(asked, client.Report)
    assert isinstance(relayed, client.Report)
    assert set(asked.body) == set(relayed.body)
