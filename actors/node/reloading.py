"""Reload: which settings take effect while a node runs, and which wait for its next start."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Final, NamedTuple

from entgldb.messages.settings import NodeSettings

SLICES: Final = ("store", "oplog", "sync", "election", "gateway")
LIVE: Final = {
    "seeds": "network.seeds",
    "sync_interval": "sync.interval",
    "heartbeat_interval": "sync.heartbeat_interval",
    "live_push": "sync.live_push",
    "shared": "cloud.shared",
    "tenant_idle": "cloud.tenant_idle",
    "tenants_open": "cloud.tenants_open",
    "priority": "election.priority",
    "takeover_delay": "election.takeover_delay",
    "gateway_timeout": "election.gateway_timeout",
    "backoff_first": "gateway.backoff_first",
    "backoff_max": "gateway.backoff_max",
    "soft_floor": "disk.soft_floor",
    "hard_floor": "disk.hard_floor",
    "verify_interval": "verify.interval",
    "retention_hours": "retention.hours",
    "retention_bytes": "retention.bytes",
    "absence_limit": "retention.absence_limit",
    "log_level": "node.log_level",
    "initial_peers": "InitialRemotePeers",
}
"""Field of a slice -> its name in the file."""
FIXED: Final = {
    "node_id": "node.id",
    "role": "node.role",
    "cluster": "cluster.key",
    "listen": "network.listen",
    "discovery": "network.discovery",
    "announce": "network.announce",
    "tls_cert": "cloud.tls_cert",
    "tls_key": "cloud.tls_key",
    "authority": "cloud.authority",
    "authority_ca": "cloud.authority_ca",
    "audience": "cloud.audience",
    "scopes": "cloud.scopes",
    "allow_clients": "cloud.allow_clients",
    "token_profile": "cloud.token_profile",
    "http": "http",
    "log_format": "log.format",
    "tenants": "cloud.tenants",
    "storage": "cloud.storage",
    "proxy": "cloud.proxy",
    "tenant_claim": "cloud.tenant_claim",
    "tenant_map": "cloud.tenant_map",
}
"""The settings from which sockets, certificates and files were made at the start."""


class Merged(NamedTuple):
    """The settings that a node runs with after a reload; the names are those of the file, sorted."""

    settings: NodeSettings
    changed: list[str]
    restart_needed: list[str]


def merge(running: NodeSettings, read: NodeSettings) -> Merged:
    """The running settings with the part of ``read`` that takes effect at once; the rest stays as it runs
    and is named."""
    changed: set[str] = set()
    restart: set[str] = set()
    settings = _merge(running, read, changed, restart)
    return Merged(settings, sorted(changed), sorted(restart))


def _merge(running: Any, read: Any, changed: set[str], restart: set[str]) -> Any:
    kept = {}
    for field in fields(running):
        name, old, new = field.name, getattr(running, field.name), getattr(read, field.name)
        if name in SLICES:
            kept[name] = _merge(old, new, changed, restart)
        elif name in LIVE:
            kept[name] = new
            if new != old:
                changed.add(LIVE[name])
        elif name in FIXED and new != old:
            restart.add(FIXED[name])
    return replace(running, **kept)
