"""Attacks that Thespian alone would allow, tried on a running node."""

from __future__ import annotations

import hmac
import os
import pickle
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from entgldb.actors.host import system as host_system
from entgldb.actors.host import wire as host_wire
from entgldb.actors.host.freshness import STAMP_BYTES
from entgldb.launch.node.handle import Node, launch
from entgldb.launch.node.init import Plan, init
from entgldb.messages.client import Done, Ping, Report, Status
from entgldb.messages.codec import encode
from tests.system.support.processes import listeners, tree, until

pytestmark = pytest.mark.slow
LOOPBACK = "0100007F"
APART = "127.0.0.2"
"""The address on which the TLS port listens here, so that the kernel's table tells it from the others."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = init(Plan(tmp_path_factory.mktemp("tamed") / "n1", node_id="n1", host=APART))
    with launch(made.directory) as started:
        yield started


def thespian_ports(node: Node) -> set[int]:
    tls = node.record["ports"]["sync"]
    return {port for pid in tree(node.process.pid) for _, port in listeners(pid)} - {tls}


class Exploit:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch {self.path}",))


def refused(node: Node, frame: bytes, *, proven: bool = False) -> bool:
    """Whether every Thespian port refused a frame: by closing, or, where it is ``proven``, by an answer
    that carries a MAC.

    The launcher reads its own port only while it talks to the node, so nothing can answer there.
    """
    idle = {port for _, port in listeners(node.process.pid)}
    for port in idle:
        assert send(port, frame, 0.2) in (None, b"")
    answers = [send(port, frame, 5.0) for port in thespian_ports(node) - idle]
    return all(b"ACK+DATAERR" in (answer or b"") if proven else answer == b"" for answer in answers)


def send(port: int, frame: bytes, patience: float) -> bytes | None:
    """The answer of a Thespian port to a frame: empty where it closes, None where it is silent."""
    with socket.create_connection(("127.0.0.1", port), 2.0) as connection:
        connection.settimeout(patience)
        connection.sendall(b"%d>" % len(frame) + frame)
        try:
            return connection.recv(4096)
        except TimeoutError:
            return None
        except ConnectionResetError:
            return b""


def test_only_the_tls_port_listens_where_the_configuration_says_all_others_on_loopback(node: Node) -> None:
    everywhere = [
        (address, port)
        for pid in tree(node.process.pid)
        for address, port in listeners(pid)
        if address != LOOPBACK
    ]
    assert everywhere == [("0200007F", node.record["ports"]["sync"])]
    assert len(thespian_ports(node)) >= 8


def test_a_raw_pickle_to_every_port_executes_nothing(node: Node, tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    pickle.loads(pickle.dumps(Exploit(proof)))
    assert proof.exists()  # it would work
    proof.unlink()
    restarts = node.ask("node", Status())
    assert refused(node, pickle.dumps(Exploit(proof)))
    assert not proof.exists()
    for actor in ("node", "store", "oplog", "sync", "election", "gateway"):
        assert isinstance(node.ask(actor, Status()), Report)
    after = node.ask("node", Status())
    assert isinstance(restarts, Report)
    assert isinstance(after, Report)
    assert after.body["restarts"] == restarts.body["restarts"]


def test_a_frame_under_another_nodes_key_is_refused(node: Node, tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    body = b"P" + pickle.dumps(Exploit(proof))
    mac = hmac.digest(bytes(32), body, "sha256")
    assert refused(node, mac + body)
    assert not proof.exists()


def test_even_a_holder_of_the_key_unpickles_only_system_classes(node: Node, tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    key = (node.directory / "actors.key").read_bytes()
    body = b"P" + bytes(STAMP_BYTES) + pickle.dumps(Exploit(proof))
    mac = hmac.digest(key, body, "sha256")
    head = hmac.digest(key, b"size" + (len(mac) * 2 + len(body)).to_bytes(8, "big"), "sha256")
    assert refused(node, head + mac + body, proven=True)
    assert not proof.exists()


def test_a_frame_that_was_heard_is_refused_when_it_comes_again_or_elsewhere(node: Node) -> None:
    """Under the key of the node, as one would have it who listens at the port of an actor that has died."""
    ports = {name: next(iter(listeners(pid_of(node, name))))[1] for name in ("store", "oplog")}
    host_wire.use_key(host_wire.load_key(node.directory))
    said = (host_wire.address_of(1), host_wire.Envelope(host_wire.ASK, encode(Ping())))
    frame = host_wire.Serializer.dumps(said, ports["store"])
    answers = [send(ports[name], frame, 5.0) or b"" for name in ("oplog", "store", "store", "oplog")]
    refusals = [b"ACK+DATAERR" in answer for answer in answers]
    assert refusals == [True, False, True, True], answers
    assert b"ACK" in answers[1]
    assert node.ask("store", Ping()) == Done()


def test_strangers_take_neither_memory_nor_the_turn(node: Node) -> None:
    (port,) = {p for _, p in listeners(pid_of(node, "store"))}
    connections = []
    try:
        for _ in range(3 * host_wire.UNPROVEN_MAX):
            connections.append(socket.create_connection(("127.0.0.1", port), 5.0))
            connections[-1].sendall(b"%d>" % host_wire.LOCAL_FRAME_BYTES_MAX)
        assert node.ask("store", Ping()) == Done()

        def closed() -> int:
            ready, _, _ = select.select(connections, [], [], 0.0)
            return len(ready)

        until(lambda: closed() >= 2 * host_wire.UNPROVEN_MAX, 10.0, "the oldest are closed")
        # a connection that is still there sends the bytes it announced: none of them is read
        connections[-1].sendall(bytes(1024))
        until(lambda: connections[-1] in select.select(connections, [], [], 0.0)[0], 10.0, "it is closed")
        assert node.ask("store", Ping()) == Done()
    finally:
        for connection in connections:
            connection.close()


def test_a_huge_or_endless_frame_is_cut_off(node: Node) -> None:
    (port,) = {p for _, p in listeners(pid_of(node, "store"))}
    for head in (b"%d>" % (host_wire.LOCAL_FRAME_BYTES_MAX + 1), b"9" * 100):
        with socket.create_connection(("127.0.0.1", port), 2.0) as connection:
            connection.settimeout(2.0)
            connection.sendall(head)
            assert connection.recv(10) == b""
    assert node.ask("store", Ping()) == Done()


def test_keys_and_directory_are_the_owners_alone(node: Node) -> None:
    assert node.directory.stat().st_mode & 0o777 == 0o700
    for name in ("actors.key", "cluster.key", "node.key", "node.json", "log/entgldb.log"):
        file = node.directory / name
        if name.startswith("log"):
            until(file.exists, 2.0, "a log")
        assert file.stat().st_mode & 0o077 == 0, name


def pid_of(node: Node, actor: str) -> int:
    report = node.ask("node", Status())
    assert isinstance(report, Report)
    return int(report.body["pids"][actor])


def test_the_admins_port_is_given_to_nobody_else_before_it_listens() -> None:
    port = host_system.reserve_port()
    try:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        # as Thespian does, with SO_REUSEADDR
        with socket.create_server(("127.0.0.1", port)) as admin:
            assert admin.getsockname()[1] == port
    finally:
        host_system.let_go()
