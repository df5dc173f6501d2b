"""Many at one listener: strangers who say little keep nobody out, and members who come at once all get in."""

from __future__ import annotations

import itertools
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from entgldb.actors.tls import entrance
from entgldb.actors.tls import links as links_module
from entgldb.actors.tls.links import TlsLinks
from entgldb.messages.errors import Reason
from entgldb.messages.limits import LINK_STRANGERS_MAX
from entgldb.messages.local.actors import LinkDown, LinkUp
from tests.unit.actors.tls.links_rig import Node, identity
from tests.unit.actors.tls.test_links import raw_link


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    who = identity(tmp_path / "lan-1", "lan-1")
    made = Node(lambda loop: TlsLinks(loop, lan=who, listen="127.0.0.1:0"))
    yield made
    made.loop.stop()


@pytest.fixture
def few_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "LINK_WAITING_MAX", LINK_STRANGERS_MAX)


@pytest.mark.usefixtures("few_wait")
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00"], ids=["nothing", "a beginning"])
def test_silent_strangers_keep_no_member_out(node: Node, tmp_path: Path, said: bytes) -> None:
    """More of them than there is room for, from several addresses: each time the oldest goes."""
    with ExitStack() as open_ones:
        for number in range(2 * LINK_STRANGERS_MAX):
            stranger = open_ones.enter_context(socket.socket())
            stranger.bind((f"127.0.0.{2 + number % 4}", 0))
            stranger.connect(("127.0.0.1", node.links.port()))
            stranger.send(said)
        gone = node.expect(LinkDown, LINK_STRANGERS_MAX)
        assert {each.reason for each in gone} == {Reason.TOO_MANY_LINKS}  # type: ignore[attr-defined]  # LinkDown only
        with raw_link(node, identity(tmp_path / "x", "lan-2")):
            node.expect(LinkUp, 1)


def test_strangers_who_begin_and_say_no_more_keep_no_member_out(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are spoken to, as many as may be, and have their turn; the member is of the same address."""
    monkeypatch.setattr(entrance, "TURN_SECONDS", 0.2)
    monkeypatch.setattr(links_module, "TURNS_SECONDS", 0.1)
    hello = client_hello()
    with ExitStack() as open_ones:
        for _ in range(LINK_STRANGERS_MAX):
            stranger = socket.create_connection(("127.0.0.1", node.links.port()), timeout=15)
            open_ones.enter_context(stranger).send(hello)
        with raw_link(node, identity(tmp_path / "x", "lan-2")):
            node.expect(LinkUp, 1)
        assert node.down().reason == Reason.TOO_MANY_LINKS


def client_hello() -> bytes:
    """The first record of a client of TLS."""
    sent = ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    with suppress(ssl.SSLWantReadError):
        client.wrap_bio(ssl.MemoryBIO(), sent).do_handshake()
    return sent.read()


def test_as_many_as_come_at_once_get_in(node: Node, tmp_path: Path) -> None:
    """Members, of one address, three times as many as are spoken to at one time: nobody is hung up on."""
    crowd = [identity(tmp_path / f"m{number}", f"m-{number}").client for number in range(4)]
    with ExitStack() as open_ones:
        opened = [
            open_ones.enter_context(socket.create_connection(("127.0.0.1", node.links.port()), timeout=60))
            for _ in range(3 * LINK_STRANGERS_MAX)
        ]
        pairs = list(zip(opened, itertools.cycle(crowd), strict=False))
        # all have begun before one of them goes on
        begun = [Slow(sock, context) for sock, context in pairs]
        for one in begun:
            one.go_on()
        node.expect(LinkUp, len(begun))
        assert node.of(LinkDown) == []


class Slow:
    """A client of TLS that has sent its first record, and goes on when it is told to."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock, self._taken, self._sent = sock, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._taken, self._sent)
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        sock.sendall(self._sent.read())

    def go_on(self) -> None:
        while True:
            self._taken.write(self._sock.recv(65_536))
            try:
                self._tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                continue
            finally:
                self._sock.sendall(self._sent.read())
