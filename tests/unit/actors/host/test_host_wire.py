"""Frames between actors: authenticated first, then decoded, and only known classes made."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from thespian.system.transport import TCPTransport

from entgldb.actors.host import wire as host_wire
from entgldb.actors.host.freshness import SEEN_MAX, Freshness
from entgldb.actors.host.wire import ANSWER, ASK, MAC_BYTES, UNPROVEN_MAX, Envelope, Serializer, WireError
from entgldb.messages.client import Ping
from entgldb.messages.codec import encode
from entgldb.messages.secret import Secret

KEY = Secret(bytes(range(32)))
PORT = 4712


@pytest.fixture(autouse=True)
def key() -> Iterator[None]:
    before = Serializer.key, Serializer.freshness
    Serializer.key, Serializer.freshness = KEY, Freshness(0)
    Serializer.freshness.listens(PORT)
    yield
    Serializer.key, Serializer.freshness = before


class Forbidden:
    """Any class of ours or of an application."""


@pytest.mark.parametrize("kind", [ASK, ANSWER])
def test_an_envelope_travels_as_msgpack_with_its_sender(kind: bytes) -> None:
    payload = encode(Ping(), 9)
    frame = Serializer.dumps((host_wire.address_of(4711), Envelope(kind, payload)), PORT)
    sender, envelope = Serializer.loads(frame)
    assert host_wire.port_of(sender) == 4711
    assert (envelope.kind, envelope.payload) == (kind, payload)
    assert frame.endswith(payload)


@pytest.mark.parametrize("item", ["text", (1, {"a": timedelta(seconds=1)}, {2})])
def test_system_items_travel_pickled(item: object) -> None:
    assert Serializer.loads(Serializer.dumps(item, PORT)) == item


@pytest.mark.parametrize("name", ["AF_INET", "SOCK_STREAM"])
def test_a_socket_constant_travels_by_name_too(name: str) -> None:
    """As Python 3.11.2, which Debian 12 has, pickles it; other names of the module stay refused."""
    assert host_wire._unpickle(f"csocket\n{name}\n.".encode()) is getattr(socket, name)
    with pytest.raises(pickle.UnpicklingError, match="may not travel"):
        host_wire._unpickle(b"csocket\nsocket\n.")


@pytest.mark.parametrize("item", [Forbidden(), os.system, Path("/"), pytest.raises])
def test_other_classes_and_functions_are_not_made(item: object) -> None:
    with pytest.raises(pickle.UnpicklingError, match="may not travel"):
        Serializer.loads(Serializer.dumps(item, PORT))


@pytest.mark.parametrize("at", [0, 31, 32, 63, 64, 90, -1])
def test_a_changed_byte_is_refused_before_decoding(at: int) -> None:
    frame = bytearray(Serializer.dumps((host_wire.address_of(1), Envelope(ASK, encode(Ping()))), PORT))
    frame[at] ^= 1
    with pytest.raises(pickle.UnpicklingError, match=r"actors\.key"):
        Serializer.loads(bytes(frame))


def test_a_frame_is_read_beyond_its_head_only_for_who_holds_the_key() -> None:
    announced = host_wire.LOCAL_FRAME_BYTES_MAX
    strange, ours = (TCPTransport.ReceiveBuffer(Serializer.loads) for _ in range(2))
    strange.addMore(b"%d>" % announced)
    assert strange.remainingAmount() == MAC_BYTES
    with pytest.raises(ValueError, match=r"actors\.key"):
        strange.addMore(bytes(MAC_BYTES))
    frame = Serializer.dumps(["x" * 100_000], PORT)
    ours.addMore(b"%d>" % len(frame) + frame[:9])
    assert ours.remainingAmount() == MAC_BYTES - 9
    ours.addMore(frame[9:MAC_BYTES])
    assert ours.remainingAmount() == len(frame) - MAC_BYTES
    ours.addMore(frame[MAC_BYTES:])
    assert ours.completed() == (["x" * 100_000], b"")


def test_of_connections_that_prove_nothing_the_oldest_are_closed() -> None:
    closed: list[int] = []

    def incoming(number: int, *, proven: bool) -> SimpleNamespace:
        return SimpleNamespace(_rData=SimpleNamespace(proven=proven), close=lambda: closed.append(number))

    transport = SimpleNamespace(
        _incomingSockets={n: incoming(n, proven=n == 1) for n in range(UNPROVEN_MAX + 3)}
    )
    host_wire.shed(transport)
    assert closed == [0, 2]
    assert len(transport._incomingSockets) == UNPROVEN_MAX + 1


@pytest.mark.parametrize("frame", [b"", bytes(32), bytes(64), bytes(99), pickle.dumps("ACK")])
def test_what_carries_no_mac_is_refused(frame: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"actors\.key"):
        Serializer.loads(frame)


def test_a_frame_counts_once() -> None:
    frame = Serializer.dumps((host_wire.address_of(1), Envelope(ASK, encode(Ping()))), PORT)
    assert Serializer.loads(frame)
    for again in range(2):
        with pytest.raises(pickle.UnpicklingError, match="was sent before"):
            Serializer.loads(frame)
        assert Serializer.loads(Serializer.dumps(again, PORT)) == again


def test_a_frame_for_another_actor_is_refused() -> None:
    """As it would be played by one who listens at the port of an actor that has died."""
    frame = Serializer.dumps("text", PORT + 1)
    with pytest.raises(pickle.UnpicklingError, match="for another actor"):
        Serializer.loads(frame)
    Serializer.freshness.listens(PORT + 1)
    assert Serializer.loads(frame) == "text"


def test_the_next_actor_at_a_port_takes_nothing_that_was_said_to_the_one_before() -> None:
    frame = Serializer.dumps("text", PORT)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            Serializer.freshness.listens(PORT)
            Serializer.loads(frame)
            os.write(write, b"it was taken")
        except pickle.UnpicklingError as fault:
            os.write(write, str(fault).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"a frame that was sent before"
    os.close(read)
    os.close(write)
    assert Serializer.loads(frame) == "text"


def test_what_is_remembered_is_bounded_and_what_is_forgotten_stays_refused() -> None:
    freshness = Freshness(0)
    freshness.listens(PORT)
    stamps = [freshness.stamp(PORT) for _ in range(SEEN_MAX + 2)]
    late = stamps.pop(0)
    assert [freshness.refusal(stamp) for stamp in stamps] == [""] * (SEEN_MAX + 1)
    assert len(freshness._seen) == SEEN_MAX
    assert {freshness.refusal(stamp) for stamp in (late, *stamps)} == {"a frame that was sent before"}


def test_an_acknowledgement_may_come_again_and_nothing_else_is_for_nobody() -> None:
    frame = Serializer.dumps("ACK")
    assert [Serializer.loads(frame) for _ in range(2)] == ["ACK"] * 2
    for item in ("text", (host_wire.address_of(1), Envelope(ASK, b""))):
        with pytest.raises(pickle.UnpicklingError, match="made for nobody"):
            Serializer.loads(Serializer.dumps(item))


def test_a_buffer_that_is_asked_twice_decodes_once() -> None:
    """Thespian asks so where it waits for an acknowledgement and a message comes."""
    frame = Serializer.dumps("text", PORT)
    buffer = TCPTransport.ReceiveBuffer(Serializer.loads)
    buffer.addMore(b"%d>" % len(frame) + frame[:MAC_BYTES])
    assert buffer.completed() is None
    buffer.addMore(frame[MAC_BYTES:])
    assert [buffer.completed() for _ in range(2)] == [("text", b"")] * 2


def test_without_a_key_nothing_is_said() -> None:
    Serializer.key = Secret(b"")
    with pytest.raises(WireError, match=r"no actors\.key"):
        Serializer.dumps("ACK")


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    made = host_wire.load_key(tmp_path)
    file = tmp_path / "actors.key"
    assert made == Secret(file.read_bytes())
    assert file.stat().st_mode & 0o777 == 0o600
    assert host_wire.load_key(tmp_path) == made
    file.chmod(0o640)
    with pytest.raises(WireError, match="only its owner"):
        host_wire.load_key(tmp_path)


def test_another_thespian_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    host_wire.require(((host_wire, "Envelope"),))
    with pytest.raises(WireError, match="no_such_name"):
        host_wire.require(((host_wire, "no_such_name"),))
    monkeypatch.setattr(host_wire, "THESPIAN_VERSION", "4.0.2")
    with pytest.raises(WireError, match=r"thespian 4\.0\.1 is installed, 4\.0\.2 is needed"):
        host_wire.require(())


def test_a_listener_beyond_loopback_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as inside:
        assert ("127.0.0.1", inside.getsockname()[1]) in host_wire.listeners()
        host_wire.check_listeners()
        with socket.create_server(("127.0.0.3", 0)), pytest.raises(WireError, match=r"127\.0\.0\.3:"):
            host_wire.check_listeners()
