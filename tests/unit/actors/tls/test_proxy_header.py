"""A balancer says whose connection it passes on: what is believed, from whom, and what is refused."""

from __future__ import annotations

import random
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from entgldb.actors.tls import links
from entgldb.actors.tls.identity import ServerIdentity
from entgldb.actors.tls.links import TlsLinks
from entgldb.actors.tls.proxy_header import (
    FIXED_BYTES,
    REST_BYTES_MAX,
    check_balancer,
    is_trusted,
    rest_bytes,
    source,
)
from entgldb.messages.errors import InvalidError, ProtocolError, Reason
from entgldb.messages.local.actors import LinkDown, LinkUp
from tests.unit.actors.gateway.server_certificate import issue_server_certificate
from tests.unit.actors.tls.links_rig import Node

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
CASES = 20_000
CLIENT_HELLO, ALERT = b"\x16\x03\x01" + bytes(20), b"\x15"


def header(
    host: str = "203.0.113.7", port: int = 40_000, command: int = PROXY, family: int = 0, more: bytes = b""
) -> bytes:
    address = ip_address(host)
    rest = address.packed + ip_address("::1" if address.version == 6 else "10.0.0.1").packed
    rest += struct.pack("!HH", port, 443) + more
    family = family or (0x21 if address.version == 6 else 0x11)
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


def parsed(data: bytes) -> tuple[str, int] | None:
    size = rest_bytes(data[:FIXED_BYTES])
    return source(data[:FIXED_BYTES], data[FIXED_BYTES : FIXED_BYTES + size])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (header(), ("203.0.113.7", 40_000)),
        (header("2001:db8::7", 1), ("2001:db8::7", 1)),
        (header("::ffff:203.0.113.7"), ("203.0.113.7", 40_000)),
        (header(more=b"\x04\x00\x03abc"), ("203.0.113.7", 40_000)),
        (SIGNATURE + struct.pack("!BBH", PROXY, 0, 0), None),
    ],
)
def test_a_header_names_the_client(data: bytes, told: tuple[str, int] | None) -> None:
    assert parsed(data) == told


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x16\x03\x01" + bytes(20), "no header of the PROXY protocol"),
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 1 2\r\n", "no header of the PROXY protocol"),
        (header(command=0x11), "version and command 0x11"),
        (header(command=0x22), "version and command 0x22"),
        (header(family=0x12), "family 0x12"),
        (header(family=0x31), "family 0x31"),
        (header(family=0x21), "12 bytes of addresses, 36 are needed"),
        (header(more=bytes(REST_BYTES_MAX)), "is longer than 2048"),
        (header(port=0), "names port 0"),
    ],
)
def test_a_header_that_is_none_is_refused_with_its_reason(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        parsed(data)


def test_bytes_at_random_name_an_address_or_are_refused() -> None:
    chance, named = random.Random(7), 0
    for _ in range(CASES):
        data = bytearray(header(more=chance.randbytes(chance.randrange(40))))
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            found = parsed(bytes(data[: chance.randrange(FIXED_BYTES, len(data) + 1)]))
        except ProtocolError:
            continue
        if found is not None:
            host, port = found
            assert ip_address(host)
            assert 0 < port < 65_536
            named += 1
    assert named > 100


def test_balancers_are_addresses_and_networks() -> None:
    trusted = tuple(map(check_balancer, ("10.0.0.5", "10.1.0.0/16", "2001:db8::/64")))
    assert [is_trusted(host, trusted) for host in ("10.0.0.5", "10.1.7.7", "2001:db8::9")] == [True] * 3
    assert [is_trusted(host, trusted) for host in ("10.0.0.6", "2001:db9::1", "fe80::1%eth0")] == [False] * 3
    assert is_trusted("192.0.2.1", ("*",))
    for wrong in ("balancer.example", "10.1.0.1/16", "*"):
        with pytest.raises(InvalidError, match="an address, or a network"):
            check_balancer(wrong)


# --- a listener ------------------------------------------------------------------------------------


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    made = issue_server_certificate(tmp_path)
    nodes: list[Node] = []

    def listen(*balancers: str) -> Node:
        server = ServerIdentity(str(made.certificate), str(made.key))
        nodes.append(
            Node(lambda loop: TlsLinks(loop, listen="127.0.0.1:0", server=server, balancers=balancers))
        )
        return nodes[-1]

    yield listen
    for node in nodes:
        node.loop.stop()


def connect(node: Node, *first: bytes) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", node.links.port()), 10)
    for part in first:
        made.sendall(part)
    return made


@contextmanager
def shake_hands(raw: socket.socket) -> Iterator[None]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(raw, do_handshake_on_connect=False) as secure:
        secure.do_handshake()
        yield


def ends(raw: socket.socket) -> bool:
    """Whether the other side ends it, and says nothing; at the end of TLS an alert comes."""
    with closing(raw):
        try:
            return raw.recv(1) in (b"", ALERT)
        except ConnectionResetError:
            return True


def test_the_address_of_a_link_is_that_of_the_client_behind_the_balancer(
    listening: Callable[..., Node],
) -> None:
    node = listening("127.0.0.0/8")
    told = header("2001:db8::7", 5_000)
    with shake_hands(connect(node, told[:5], told[5:20], told[20:])):
        assert node.up().address == "[2001:db8::7]:5000"
    unknown = SIGNATURE + struct.pack("!BBH", PROXY, 0, 0)
    with shake_hands(connect(node, unknown)):
        node.until(lambda: len(node.of(LinkUp)) == 2)
        assert node.up().address.startswith("127.0.0.1:")


def test_a_look_of_the_balancer_is_no_link_and_not_counted(listening: Callable[..., Node]) -> None:
    node = listening("*")
    assert ends(connect(node, header(command=LOCAL)))
    connect(node, header()[:20]).close()
    assert [down.text[-12:] for down in node.expect(LinkDown)] == ["PROXY header"]  # type: ignore[attr-defined]  # of LinkDown


def test_who_brings_no_header_gets_no_handshake(listening: Callable[..., Node]) -> None:
    node = listening("*")
    assert ends(connect(node, CLIENT_HELLO))
    assert (node.down().reason, node.down().text[:9]) == (Reason.MALFORMED.value, "no header")
    connect(node, header()[:20]).close()
    node.expect(LinkDown, 2)
    assert (node.down().reason, node.down().text[-12:]) == (Reason.MALFORMED.value, "PROXY header")


def test_a_header_that_does_not_come_is_not_waited_for(
    listening: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "HANDSHAKE_SECONDS_MAX", 0.2)
    node = listening("*")
    with closing(connect(node, header()[:20])):
        assert node.down().reason == Reason.HANDSHAKE_TIMEOUT.value


def test_others_than_the_balancers_are_turned_away(listening: Callable[..., Node]) -> None:
    node = listening("10.0.0.5")
    assert ends(connect(node, header()))
    assert node.down().reason == Reason.NOT_ALLOWED.value
    assert node.down().text == "127.0.0.1 was turned away"


def test_where_none_is_asked_for_a_header_is_no_part_of_tls(listening: Callable[..., Node]) -> None:
    node = listening()
    assert ends(connect(node, header()))
    assert node.down().reason == Reason.TLS_REFUSED.value
