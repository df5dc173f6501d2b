"""Discovery by real multicast on loopback; and what happens where multicast does not work."""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import time
from collections.abc import Callable

import pytest
from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncZeroconf

from entgldb.actors.line import NOTHING, Flow
from entgldb.actors.ports import CloudTarget
from entgldb.actors.side_loop import SideLoop
from entgldb.actors.sync import discovery
from entgldb.actors.sync.discovery import Discovery
from entgldb.messages.local.actors import DiscoveryTold, PeerFound
from entgldb.messages.schema import Message
from entgldb.messages.settings import SyncSettings

CLUSTER = "00112233aabbccdd"


class Listening:
    """Links that only have a port."""

    def __init__(self, port: int) -> None:
        self._port = port

    def dial(self, address: str) -> int:
        raise AssertionError(address)

    def dial_cloud(self, target: CloudTarget) -> int:
        raise AssertionError(target)

    def send(self, link: int, message: Message) -> bool:
        raise AssertionError(message)

    def flow(self, link: int) -> Flow:
        return NOTHING

    def close(self, link: int, reason: str, text: str = "") -> None:
        raise AssertionError(reason)

    def good_until_ms(self) -> int:
        return 0

    def admit(self, link: int, client_id: str) -> None:
        raise AssertionError(link)

    def port(self) -> int:
        return self._port


class Finder:
    def __init__(
        self,
        node_id: str,
        port: int,
        cluster: str = CLUSTER,
        host: str = "127.0.0.1",
        announce: tuple[str, ...] = (),
    ) -> None:
        self.loop = SideLoop(node_id)
        settings = SyncSettings(node_id, "/nowhere", "lan", cluster, f"{host}:0", announce=announce)
        self.discovery = Discovery(self.loop, settings, Listening(port))
        self.loop.start()
        self.found: set[tuple[str, str]] = set()
        self.told: DiscoveryTold | None = None

    def until(self, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20
        while not done():
            assert time.monotonic() < deadline, self.found
            select.select([self.loop.fileno()], [], [], 0.05)
            for _, message in self.loop.drain():
                if isinstance(message, DiscoveryTold):
                    self.told = message
                    continue
                assert isinstance(message, PeerFound)
                self.found.add((message.node_id, message.address))


@pytest.mark.slow
def test_members_of_a_cluster_find_each_other_and_nobody_else() -> None:
    stranger = Finder("other", 7003, "ffff0000ffff0000")
    # the last has no room in the record any more
    announce = ("198.51.100.7:9000", "[2001:db8::7]:9000", f"{'x' * 240}:9000")
    one, two = Finder("lan-1", 7001), Finder("lan-2", 7002, announce=announce)
    try:
        one.until(lambda: len(one.found) == 3)
        two.until(lambda: two.found)
        assert one.found == {("lan-2", address) for address in ("127.0.0.1:7002", *announce[:2])}
        assert two.found == {("lan-1", "127.0.0.1:7001")}
        one.until(lambda: one.told is not None and one.told.heard >= 1 and one.told.strangers >= 1)
        assert one.told is not None
        assert (one.told.works, one.told.addresses) == (True, ("127.0.0.1",))
        stranger.until(lambda: stranger.told is not None and stranger.told.strangers >= 2)
        assert stranger.found == set()
    finally:
        for finder in (stranger, one, two):
            finder.loop.stop()


@pytest.mark.slow
@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_members_find_each_other_where_there_is_version_6_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    own = [address for address in discovery._own_addresses(both=True) if ":" in address]
    if not own:
        pytest.skip("this machine has no address of IPv6 but that of loopback")
    monkeypatch.setattr(discovery, "_own_addresses", lambda both: own)
    one, two = Finder("lan-1", 7001, host="[::]"), Finder("lan-2", 7002, host="[::]")
    try:
        one.until(lambda: one.found)
        two.until(lambda: two.found)
        assert {(node_id, address.rpartition(":")[2]) for node_id, address in one.found} == {
            ("lan-2", "7002")
        }
        assert all(address.startswith("[") for _, address in one.found | two.found)
    finally:
        for finder in (one, two):
            finder.loop.stop()


def test_a_failure_of_multicast_is_logged_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[bool] = []

    def fail(**_: object) -> AsyncZeroconf:
        tries.append(True)
        raise OSError(19, "No such device")

    monkeypatch.setattr(discovery, "AsyncZeroconf", fail)
    monkeypatch.setattr(discovery, "RETRY_SECONDS", 0.01)
    with caplog.at_level(logging.WARNING):
        finder = Finder("lan-1", 7001)
        finder.until(lambda: len(tries) >= 3)
        finder.loop.stop()
    assert "No such device" in caplog.text
    assert finder.told is not None
    assert (finder.told.works, finder.told.text) == (False, "[Errno 19] No such device")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("name", "change", "asked"),
    [
        (f"{CLUSTER}-0badcafe.{discovery.SERVICE}", ServiceStateChange.Added, 1),
        (f"{CLUSTER}-0badcafe.{discovery.SERVICE}", ServiceStateChange.Updated, 1),
        (f"{CLUSTER}-0badcafe.{discovery.SERVICE}", ServiceStateChange.Removed, 0),
        (f"ffff0000ffff0000-0badcafe.{discovery.SERVICE}", ServiceStateChange.Added, 0),
        ("own", ServiceStateChange.Added, 0),
    ],
)
def test_only_announcements_of_other_members_are_looked_up(
    monkeypatch: pytest.MonkeyPatch, name: str, change: ServiceStateChange, asked: int
) -> None:
    looked_up: list[str] = []

    async def look_up(self: Discovery, zeroconf: Zeroconf, service_type: str, name: str) -> None:
        looked_up.append(name)

    monkeypatch.setattr(Discovery, "_look_up", look_up)
    side = SideLoop("lan-1")
    made = Discovery(side, SyncSettings("lan-1", "/nowhere", "lan", CLUSTER, "0.0.0.0:0"), Listening(1))

    async def hear() -> None:
        heard = made._name if name == "own" else name
        made._heard(Zeroconf.__new__(Zeroconf), discovery.SERVICE, heard, change)
        await asyncio.gather(*made._lookups)

    asyncio.run(hear())
    side.stop()
    assert len(looked_up) == asked
