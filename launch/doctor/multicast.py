"""Announcements by multicast DNS as a process beside the node hears them: what arrives here at all."""

from __future__ import annotations

import time
from typing import Final

from entgldb.client.health.finding import Finding, Look
from entgldb.launch.doctor.outside import Place
from entgldb.messages.errors import ConfigError

LISTEN_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.05
SERVICE: Final = "_entgldb._tcp.local."


def look(place: Place) -> Look:
    """Announcements heard in two seconds: of this cluster, its own among them, and of others."""
    settings = place.settings
    if isinstance(settings, ConfigError) or settings.sync.role == "cloud" or not settings.sync.discovery:
        return Look({}, [])
    from zeroconf import Error as ZeroconfError

    try:
        names = _heard()
    except (OSError, ZeroconfError, RuntimeError, ValueError) as fault:
        text = f"this machine does not do multicast: {fault or type(fault).__name__}"
        return Look({}, [Finding("network", "multicast", "", text)])
    ours = sum(name.startswith(f"{settings.sync.cluster}-") for name in names)
    facts = {"announcements_heard": {"cluster": ours, "others": len(names) - ours}}
    if place.running and not ours:
        text = "not even this node's own announcement is heard: UDP port 5353 is blocked, or not routed"
        return Look(facts, [Finding("network", "multicast", "", text)])
    return Look(facts, [])


def _heard() -> set[str]:
    from zeroconf import ServiceBrowser, ServiceStateChange, Zeroconf

    names: set[str] = set()

    def hear(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is not ServiceStateChange.Removed:
            names.add(name)

    zeroconf = Zeroconf()
    try:
        browser = ServiceBrowser(zeroconf, SERVICE, handlers=[hear])
        end = time.monotonic() + LISTEN_SECONDS
        while time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        browser.cancel()
    finally:
        zeroconf.close()
    return names
