"""Links over real TLS on loopback: who gets in, what a bad peer can do, and how a link ends."""

from __future__ import annotations

import gc
import socket
import ssl
import time
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from entgldb.actors.side_loop import SideLoop
from entgldb.actors.tls import entrance
from entgldb.actors.tls import identity as tls
from entgldb.actors.tls import link as link_module
from entgldb.actors.tls import links as links_module
from entgldb.actors.tls.identity import LanIdentity
from entgldb.actors.tls.links import TlsLinks, host_of
from entgldb.messages import codec, wire
from entgldb.messages.errors import ConfigError, ErrorCode, Reason
from entgldb.messages.framing import frame
from entgldb.messages.limits import FRAME_BYTES_MAX, HELLO_BYTES_MAX, LINK_QUEUE_BYTES_MAX
from entgldb.messages.local.actors import FrameIn, LinkDown, LinkUp
from entgldb.messages.schema import Channel
from entgldb.messages.secret import Secret
from tests.unit.actors.tls.links_rig import BEAT, KEY, Node, bye, identity

OTHER_KEY = Secret(bytes(32))
LONG_AGO = datetime(1971, 1, 1, tzinfo=UTC)
Make = Callable[..., Node]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    nodes: list[Node] = []

    def lan(node_id: str, key: Secret = KEY, now: datetime | None = None) -> Node:
        who = identity(tmp_path / node_id, node_id, key, now)
        node = Node(lambda loop: TlsLinks(loop, lan=who, listen="127.0.0.1:0"))
        nodes.append(node)
        return node

    yield lan
    for node in nodes:
        node.loop.stop()
    for node in nodes:
        down = [m.link for m in node.seen if isinstance(m, LinkDown)]
        assert len(down) == len(set(down)), "LinkDown twice"


def connected(make: Make) -> tuple[Node, Node, int, int]:
    one, two = make("lan-1"), make("lan-2")
    one.links.dial(two.address)
    return one, two, one.up().link, two.up().link


def raw_link(node: Node, who: LanIdentity) -> ssl.SSLSocket:
    """A TLS connection to ``node`` whose bytes the test decides about."""
    link = who.client.wrap_socket(socket.create_connection(("127.0.0.1", node.links.port()), timeout=15))
    node.up()
    return link


def test_one_key_connects_and_each_side_knows_the_other(make: Make) -> None:
    one, two, mine, theirs = connected(make)
    assert replace(one.up(), key="", under="") == LinkUp(mine, False, two.address, "lan-2")
    assert (two.up().inbound, two.up().node_id) == (True, "lan-1")
    assert one.links.send(mine, bye(1))
    assert two.links.send(theirs, BEAT)
    (got,) = two.expect(FrameIn)
    assert isinstance(got, FrameIn)
    assert got.link == theirs
    assert codec.decode(got.payload, Channel.PEER).message == bye(1)
    one.expect(FrameIn)


def test_a_link_has_a_small_buffer_for_what_is_not_decrypted_yet_whatever_came_in_it(make: Make) -> None:
    one, two, mine, theirs = connected(make)
    large = bye(links_module.TLS_READ_BYTES + 1000)
    assert one.links.send(mine, large)
    (got,) = two.expect(FrameIn)
    assert isinstance(got, FrameIn)
    assert codec.decode(got.payload, Channel.PEER).message == large
    transport: Any = two.links._links[theirs].writer.transport
    assert len(transport._ssl_protocol.get_buffer(-1)) == links_module.TLS_READ_BYTES


def test_small_packets_are_not_delayed(make: Make) -> None:
    one, two, mine, theirs = connected(make)
    for node, number in ((one, mine), (two, theirs)):
        transport = node.links._links[number].writer.transport
        assert transport is not None
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_another_key_is_refused_on_both_sides(make: Make) -> None:
    ours, strange = make("lan-1"), make("lan-2", OTHER_KEY)
    strange.links.dial(ours.address)
    assert strange.down().reason == Reason.TLS_REFUSED
    assert ours.down().reason == Reason.TLS_REFUSED
    ours.links.dial(strange.address)
    ours.expect(LinkDown, 2)
    strange.expect(LinkDown, 2)
    assert {down.reason for down in ours.of(LinkDown) + strange.of(LinkDown)} == {Reason.TLS_REFUSED}
    assert not ours.of(LinkUp)
    assert not strange.of(LinkUp)


def test_a_stranger_without_a_certificate_never_gets_a_link(make: Make) -> None:
    node = make("lan-1")
    naked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    naked.check_hostname, naked.verify_mode = False, ssl.CERT_NONE
    with naked.wrap_socket(socket.create_connection(("127.0.0.1", node.links.port()), timeout=15)):
        assert node.down().reason == Reason.TLS_REFUSED
    assert not node.of(LinkUp)


def test_a_clock_that_is_off_is_called_so(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_BUILT", LONG_AGO)
    ours, off = make("lan-1"), make("lan-2", now=datetime.now(UTC) - timedelta(days=200))
    ours.links.dial(off.address)
    assert ours.down().reason == Reason.CLOCK
    off.links.dial(ours.address)
    ours.expect(LinkDown, 2)
    assert ours.down().reason == Reason.CLOCK


def test_garbage_instead_of_tls_is_refused_and_harms_nobody(make: Make) -> None:
    node = make("lan-1")
    with socket.create_connection(("127.0.0.1", node.links.port()), timeout=15) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
        assert node.down().reason == Reason.TLS_REFUSED
    other = make("lan-2")
    other.links.dial(node.address)
    assert node.up().node_id == "lan-2"


def test_a_silent_stranger_is_given_up(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "HANDSHAKE_SECONDS_MAX", 0.2)
    node = make("lan-1")
    with socket.create_connection(("127.0.0.1", node.links.port())):
        assert node.down().reason == Reason.HANDSHAKE_TIMEOUT


def test_a_first_frame_larger_than_a_hello_closes_the_link(make: Make, tmp_path: Path) -> None:
    node = make("lan-1")
    with raw_link(node, identity(tmp_path / "x", "lan-2")) as link:
        link.sendall((HELLO_BYTES_MAX + 1).to_bytes(4, "big"))
        assert node.down().reason == Reason.MALFORMED


def test_later_frames_may_be_large_but_not_oversize(make: Make, tmp_path: Path) -> None:
    node = make("lan-1")
    with raw_link(node, identity(tmp_path / "x", "lan-2")) as link:
        link.sendall(frame(codec.encode(BEAT)) + frame(codec.encode(bye(HELLO_BYTES_MAX))))
        node.expect(FrameIn, 2)
        link.sendall((FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
        assert node.down().reason == Reason.MALFORMED


def test_a_link_cut_in_the_middle_of_a_frame_gives_no_frame(make: Make, tmp_path: Path) -> None:
    node = make("lan-1")
    link = raw_link(node, identity(tmp_path / "x", "lan-2"))
    whole = frame(codec.encode(bye(100)))
    link.sendall(whole + whole[:50])
    node.expect(FrameIn)
    link.close()
    assert node.down().reason == Reason.PEER_CLOSED
    assert len(node.of(FrameIn)) == 1


def test_what_was_queued_is_written_before_a_close(make: Make) -> None:
    one, two, mine, _ = connected(make)
    for _ in range(40):
        assert one.links.send(mine, bye(60_000))
    one.links.close(mine, Reason.DUPLICATE_LINK, "one is enough")
    down = one.down()
    assert (down.link, down.reason, down.text) == (mine, Reason.DUPLICATE_LINK, "one is enough")
    assert two.down().reason == Reason.PEER_CLOSED
    assert len(two.of(FrameIn)) == 40
    assert isinstance(two.seen[-1], LinkDown)


def test_closing_twice_and_after_the_end_says_down_once(make: Make) -> None:
    one, _, mine, _ = connected(make)
    one.links.close(mine, Reason.ISOLATED)
    one.links.close(mine, Reason.STOPPING)
    assert one.down().reason == Reason.ISOLATED
    one.links.close(mine, Reason.STOPPING)
    assert not one.links.send(mine, BEAT)
    assert not one.links.send(4711, BEAT)


def test_both_sides_may_close_at_once(make: Make) -> None:
    one, two, mine, theirs = connected(make)
    one.links.close(mine, Reason.DUPLICATE_LINK)
    two.links.close(theirs, Reason.DUPLICATE_LINK)
    assert {one.down().reason, two.down().reason} <= {Reason.DUPLICATE_LINK, Reason.PEER_CLOSED}


def test_a_dial_closed_before_it_is_open_ends_at_once(make: Make) -> None:
    node = make("lan-1")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        link = node.links.dial(f"127.0.0.1:{mute.getsockname()[1]}")
        with mute.accept()[0]:
            node.links.close(link, Reason.ISOLATED)
            assert (node.down().link, node.down().reason) == (link, Reason.ISOLATED)
    assert not node.of(LinkUp)


def test_a_slow_reader_is_dropped_and_memory_stays_bounded(make: Make, tmp_path: Path) -> None:
    node = make("lan-1")
    with raw_link(node, identity(tmp_path / "x", "lan-2")):
        sent = 0
        while node.links.send(node.up().link, bye(1_000_000)):
            sent += 1_000_000
            assert sent < 4 * LINK_QUEUE_BYTES_MAX
        assert node.down().reason == Reason.SLOW_READER
    assert sent >= LINK_QUEUE_BYTES_MAX - 2_000_000


def test_a_peer_that_reads_nothing_cannot_hold_a_close_up(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "CLOSE_SECONDS_MAX", 0.2)
    node = make("lan-1")
    with raw_link(node, identity(tmp_path / "x", "lan-2")):
        for _ in range(12):
            assert node.links.send(node.up().link, bye(1_000_000))
        node.links.close(node.up().link, Reason.ISOLATED)
        assert node.down().reason == Reason.ISOLATED


def test_an_actor_that_does_not_keep_up_is_not_read_ahead_without_bound(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links_module, "READ_AHEAD_BYTES_MAX", 1_000_000)
    one, two, mine, _ = connected(make)
    for _ in range(24):
        assert one.links.send(mine, bye(60_000))
    seen = 0
    for _ in range(9):
        assert one.links.send(mine, bye(1_000_000))
    two.until(lambda: two.links._paused)
    waiting = two.loop.drain()
    seen = sum(isinstance(message, FrameIn) for _, message in waiting)
    assert seen < 33, "all was read ahead"
    two.expect(FrameIn, 33 - seen - len(two.of(FrameIn)))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nobody.invalid:9000", "no address", "::"])
def test_a_dial_that_cannot_work_ends_in_one_link_down(make: Make, address: str) -> None:
    node = make("lan-1")
    link = node.links.dial(address)
    down = node.down()
    assert (down.link, down.reason) in ((link, Reason.UNREACHABLE), (link, Reason.INVALID))
    assert down.text


def test_a_member_that_opens_too_many_links_loses_its_oldest(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrance, "LINKS_PER_MEMBER_MAX", 2)
    node = make("lan-1")
    who, other = identity(tmp_path / "x", "lan-2"), identity(tmp_path / "y", "lan-3")
    with raw_link(node, other), raw_link(node, who), raw_link(node, who), raw_link(node, who):
        ups = node.expect(LinkUp, 4)
        down = node.down()
        oldest = next(up.link for up in ups if up.node_id == "lan-2")  # type: ignore[attr-defined]  # LinkUp only
        assert (down.link, down.reason) == (oldest, Reason.TOO_MANY_LINKS)


def test_too_many_links_are_turned_away(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "LINKS_MAX", 2)
    node = make("lan-1")
    who = identity(tmp_path / "x", "lan-2")
    with raw_link(node, who), raw_link(node, who) as second:
        node.expect(LinkUp, 2)
        with socket.create_connection(("127.0.0.1", node.links.port()), timeout=15) as third:
            assert third.recv(1) == b""
        assert node.down().reason == Reason.TOO_MANY_LINKS
        second.close()
        node.expect(LinkDown, 2)
        raw_link(node, who).close()
        node.expect(LinkUp, 3)


def test_a_refused_stranger_leaves_nothing_to_the_collector(make: Make) -> None:
    """TLS takes some 100 KB for each; the collector comes late, and a flood is faster."""
    node, without = make("lan-1"), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    without.check_hostname, without.verify_mode = False, ssl.CERT_NONE
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            plain = socket.create_connection(("127.0.0.1", node.links.port()), 15)
            with without.wrap_socket(plain) as refused, suppress(OSError):
                refused.recv(1)
        node.expect(LinkDown, 20)
        node.until(lambda: not [one for one in gc.get_objects() if isinstance(one, SSLProtocol)])
    finally:
        gc.enable()


def test_a_taken_port_is_a_fault_of_the_start(make: Make, tmp_path: Path) -> None:
    node = make("lan-1")
    side = SideLoop("second")
    with pytest.raises(ConfigError, match="cannot listen") as caught:
        TlsLinks(side, lan=identity(tmp_path / "x", "lan-2"), listen=node.address)
    assert caught.value.code is ErrorCode.IN_USE
    with pytest.raises(ConfigError, match="certificate"):
        TlsLinks(side, listen="127.0.0.1:0")
    side.stop()


def test_stopping_the_loop_writes_what_is_queued(make: Make) -> None:
    one, two, mine, _ = connected(make)
    one.links.send(mine, bye(60_000))
    one.loop.stop()
    two.down()
    assert len(two.of(FrameIn)) == 1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", one.links.port()))


def test_a_certificate_due_for_renewal_is_renewed_while_running(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_BUILT", LONG_AGO)
    monkeypatch.setattr(links_module, "RENEWAL_LOOK_SECONDS", 0.01)
    old = datetime.now(UTC) - timedelta(days=70)
    node = make("lan-1", now=old)
    peer = make("lan-2")
    peer.links.dial(node.address)
    link, key = node.up().link, peer.up().key
    before = (tmp_path / "lan-1" / "node.crt").read_bytes()
    file = tmp_path / "lan-1" / "node.crt"
    monkeypatch.setattr(links_module, "RENEWAL_SECONDS", 0.01)
    node.until(lambda: file.read_bytes() != before)
    # no link is dropped for it, and the pinned key is shown on the next, too
    assert node.links.send(link, BEAT)
    peer.expect(FrameIn)
    peer.links.dial(node.address)
    peer.expect(LinkUp, 2)
    assert peer.up().key == key != ""
    assert not node.of(LinkDown)


def test_a_certificate_of_1970_is_looked_at_again_when_a_handshake_is_refused(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_BUILT", LONG_AGO)
    monkeypatch.setattr(links_module, "RENEWAL_LOOK_SECONDS", 0.2)
    late, peer = make("lan-1", now=LONG_AGO), make("lan-2")
    peer.links.dial(late.address)
    assert peer.down().reason == Reason.CLOCK
    peer.until(lambda: peer.of(LinkUp) or (peer.links.dial(late.address) and False))
    assert peer.up().node_id == "lan-1"


def test_a_certificate_is_looked_at_again_when_the_clock_is_set(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links_module, "RENEWAL_LOOK_SECONDS", 0.05)
    real, ahead = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    node = make("lan-1")
    file = tmp_path / "lan-1" / "node.crt"
    before = file.read_bytes()
    ahead = 70 * 24 * 3600.0
    node.until(lambda: file.read_bytes() != before)


def test_many_frames_flow_in_order(make: Make) -> None:
    one, two, mine, _ = connected(make)
    count = 20_000
    for number in range(count):
        assert one.links.send(mine, wire.Heartbeat(number, 0, 0))
    frames = two.expect(FrameIn, count)
    numbers = [codec.decode(got.payload, Channel.PEER).message for got in frames if isinstance(got, FrameIn)]
    assert [beat.clock_ms for beat in numbers if isinstance(beat, wire.Heartbeat)] == list(range(count))


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_listener_of_all_addresses_takes_both_versions(tmp_path: Path, host: str) -> None:
    one = Node(lambda loop: TlsLinks(loop, lan=identity(tmp_path / "a", "lan-1"), listen="[::]:0"))
    two = Node(lambda loop: TlsLinks(loop, lan=identity(tmp_path / "b", "lan-2"), listen="[::1]:0"))
    try:
        two.links.dial(f"{host}:{one.links.port()}")
        assert one.up().address.startswith(f"{host}:")
        assert two.up().node_id == "lan-1"
    finally:
        one.loop.stop()
        two.loop.stop()


def test_a_machine_without_ipv6_listens_at_all_addresses_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    one = Node(lambda loop: TlsLinks(loop, lan=identity(tmp_path / "a", "lan-1"), listen="[::]:0"))
    two = Node(lambda loop: TlsLinks(loop, lan=identity(tmp_path / "b", "lan-2")))
    try:
        two.links.dial(f"127.0.0.1:{one.links.port()}")
        assert two.up().node_id == "lan-1"
    finally:
        one.loop.stop()
        two.loop.stop()


def test_a_link_local_address_is_told_with_its_zone_and_version_4_as_such() -> None:
    zone = socket.if_nameindex()[0]
    assert host_of(("fe80::1", 7000, 0, zone[0])) == f"fe80::1%{zone[1]}"
    assert host_of(("::ffff:10.0.0.1", 7000, 0, 0)) == "10.0.0.1"
    assert host_of(("10.0.0.1", 7000)) == "10.0.0.1"
