"""Finding peers by DNS service discovery (RFC 6763) over multicast DNS (RFC 6762), with zeroconf.

An address that discovery finds is a hint: TLS decides whom a node believes. If multicast does not work, the
node lives by its seeds and by the peers it remembers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from ipaddress import ip_address
from typing import Final

from ifaddr import get_adapters  # zeroconf itself finds interfaces with it
from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceInfo, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from entgldb.actors.ports import Links
from entgldb.actors.side_loop import SideLoop
from entgldb.messages.errors import EntglError
from entgldb.messages.limits import ANNOUNCED_MAX
from entgldb.messages.local.actors import DiscoveryTold, PeerFound
from entgldb.messages.model import check_node_id
from entgldb.messages.remote_peers import is_address
from entgldb.messages.settings import SyncSettings

log = logging.getLogger(__name__)

SERVICE: Final = "_entgldb._tcp.local."
LOOKUP_MS: Final = 3000
"""How long an announcement's details are asked for."""
LOOKUPS_MAX: Final = 64
"""Lookups under way at once; announcements beyond it are passed over until they are repeated."""
ADDRESSES_TOLD_MAX: Final = 16
"""Own addresses of which ``status`` tells."""
ADDRESSES_MAX: Final = 4
"""Addresses taken from one announcement."""
TXT_BYTES_MAX: Final = 250
"""Of the announced addresses in one string, which has 255 bytes with its name."""
RETRY_SECONDS: Final = 30.0
"""After multicast failed, such as before the network is up."""


class Discovery:
    """Announces this node's listener and posts PeerFound for every other member of its cluster."""

    def __init__(self, loop: SideLoop, settings: SyncSettings, links: Links) -> None:
        self._loop = loop
        self._settings = settings
        self._links = links
        self._multicast: AsyncZeroconf | None = None
        self._lookups: set[asyncio.Task[None]] = set()
        self._addresses: tuple[str, ...] = ()
        self._known = self._strangers = 0
        # a new name each time: the one of a life that ended by a crash may still be cached elsewhere
        self._name = f"{settings.cluster}-{os.urandom(4).hex()}.{SERVICE}"
        loop.at_end(self._end)
        loop.spawn(self._run())

    async def _run(self) -> None:
        while True:
            try:
                await self._begin()
            except (OSError, ZeroconfError, RuntimeError, ValueError) as fault:
                log.warning("%s: no discovery by multicast for now: %s", self._loop.name, fault)
                self._loop.post(DiscoveryTold(False, str(fault) or type(fault).__name__))
                await self._end()
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _begin(self) -> None:
        host = self._settings.listen.rpartition(":")[0].strip("[]")
        everywhere = not host or ip_address(host).is_unspecified
        addresses = _own_addresses(both=host == "::") if everywhere else [host]
        self._multicast = _multicast(addresses) if everywhere else AsyncZeroconf(interfaces=[host])
        await self._multicast.zeroconf.async_wait_for_start()
        AsyncServiceBrowser(self._multicast.zeroconf, [SERVICE], handlers=[self._heard])
        info = ServiceInfo(
            SERVICE,
            self._name,
            port=self._links.port(),
            addresses=[_packed(address) for address in addresses],
            properties={"node": self._settings.node_id, "cluster": self._settings.cluster, **self._also()},
            server=f"{self._name.partition('.')[0]}.local.",
        )
        await (await self._multicast.async_register_service(info))
        self._addresses = tuple(addresses[:ADDRESSES_TOLD_MAX])
        self._tell()

    def _also(self) -> dict[str, str]:
        """The announced addresses, as many as one string of a TXT record has room for (RFC 6763, 6.1)."""
        fitting = ""
        for address in self._settings.announce:
            longer = f"{fitting},{address}" if fitting else address
            fitting = longer if len(longer) <= TXT_BYTES_MAX else fitting
        return {"at": fitting} if fitting else {}

    def _heard(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        ours = name.startswith(f"{self._settings.cluster}-") and name != self._name
        if name != self._name and state_change is ServiceStateChange.Added:
            self._known, self._strangers = self._known + ours, self._strangers + (not ours)
            if self._addresses:
                self._tell()
        if ours and state_change is not ServiceStateChange.Removed and len(self._lookups) < LOOKUPS_MAX:
            task = asyncio.get_running_loop().create_task(self._look_up(zeroconf, service_type, name))
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)

    def _tell(self) -> None:
        self._loop.post(DiscoveryTold(True, "", self._addresses, self._known, self._strangers))

    async def _look_up(self, zeroconf: Zeroconf, service_type: str, name: str) -> None:
        try:
            info = AsyncServiceInfo(service_type, name)
            if not await info.async_request(zeroconf, LOOKUP_MS):
                return
            properties = info.decoded_properties
            node_id = check_node_id(properties.get("node") or "")
        except (EntglError, OSError, ZeroconfError, ValueError) as fault:
            log.info("%s: an announcement is unusable: %s", self._loop.name, fault)
            return
        if properties.get("cluster") == self._settings.cluster and node_id != self._settings.node_id:
            for address in info.parsed_scoped_addresses()[:ADDRESSES_MAX]:
                host = f"[{address}]" if ":" in address else address
                self._loop.post(PeerFound(node_id, f"{host}:{info.port}"))
            for address in (properties.get("at") or "").split(",")[:ANNOUNCED_MAX]:
                if is_address(address):
                    self._loop.post(PeerFound(node_id, address))

    async def _end(self) -> None:
        multicast, self._multicast = self._multicast, None
        if multicast is not None:
            for task in self._lookups:
                task.cancel()
            await multicast.async_close()


def _own_addresses(*, both: bool) -> list[str]:
    """Those of this machine that others can reach it by; of IPv6 too where the listener takes ``both``."""
    found = [ip.ip if isinstance(ip.ip, str) else ip.ip[0] for each in get_adapters() for ip in each.ips]
    if not both or not socket.has_dualstack_ipv6():
        found = [address for address in found if ":" not in address]
    return [address for address in found if not ip_address(address).is_loopback]


def _multicast(addresses: list[str]) -> AsyncZeroconf:
    """On all interfaces, in whichever of IPv4 and IPv6 they have."""
    versions = {ip_address(address).version for address in addresses}
    if 6 not in versions:
        return AsyncZeroconf()
    return AsyncZeroconf(ip_version=IPVersion.All if 4 in versions else IPVersion.V6Only)


def _packed(address: str) -> bytes:
    return ip_address(address.partition("%")[0]).packed
