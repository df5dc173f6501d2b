"""The configuration of a node: read once, checked whole, handed on as frozen settings.

A node reads ``entgldb.toml`` in its directory. ``--config`` may name another TOML file instead, or an
``appsettings.json`` whose ``EntglDb`` block adds ``InitialRemotePeers`` to the directory's own file.
``${NAME}`` and ``${NAME:?message}`` in any string stand for environment variables. All faults are
reported at once, each with its place, as one ConfigError.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from entgldb.actors.cluster_key import CLUSTER_KEY_NAME, read_cluster_keys
from entgldb.actors.oauth.profiles import PROFILES
from entgldb.actors.tls.proxy_header import check_balancer
from entgldb.launch.node.config_fields import Faults, Section, expand
from entgldb.launch.node.config_peers import initial_peers
from entgldb.launch.node.config_tenants import tenants
from entgldb.messages.errors import EntglError, InvalidError
from entgldb.messages.limits import ANNOUNCED_MAX, HEARTBEAT_SECONDS_MAX
from entgldb.messages.model import check_node_id
from entgldb.messages.remote_peers import check_authority, split_address
from entgldb.messages.settings import (
    ElectionSettings,
    GatewaySettings,
    HttpSettings,
    NodeSettings,
    OplogSettings,
    StoreSettings,
    SyncSettings,
)
from entgldb.messages.strict_json import read_json
from entgldb.web.door.place import read_place

FILE_NAME: Final = "entgldb.toml"
ROLES: Final = ("lan", "cloud")
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
LOG_FORMATS: Final = ("text", "json")
_SECTIONS: Final = {
    "node",
    "network",
    "sync",
    "election",
    "gateway",
    "verify",
    "retention",
    "cloud",
    "disk",
    "http",
    "log",
    "EntglDb",
    "InitialRemotePeers",
}
_NAMED: Final = (
    "node",
    "network",
    "sync",
    "election",
    "gateway",
    "retention",
    "cloud",
    "disk",
    "verify",
    "http",
    "log",
)
_HOURS_MAX: Final = 10 * 365 * 24.0
_DEFAULTS_OPLOG = OplogSettings("", "")
_DEFAULTS_SYNC = SyncSettings("", "", "", "", "")
_DEFAULTS_ELECTION = ElectionSettings("", "")
_DEFAULTS_GATEWAY = GatewaySettings("", "", "", "")


def load(
    directory: str | Path,
    config_file: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    http: str | None = None,
) -> NodeSettings:
    """The settings of the node in ``directory``; ``http`` is taken instead of ``http.listen``.

    ``environ`` defaults to the environment of this process. Raises ConfigError with every fault found.
    """
    root = Path(directory).resolve()
    file = Path(config_file) if config_file is not None else None
    overlay = file if file is not None and file.suffix == ".json" else None
    base = file if file is not None and overlay is None else root / FILE_NAME
    faults = Faults()
    values = _environment() if environ is None else environ
    tables = expand(_read(base, faults), base.name, values, faults)
    faults.raise_all()
    if http is not None and isinstance(section := tables.setdefault("http", {}), dict):
        section["listen"] = http
    peers = _blocks(tables, base, faults)
    if overlay is not None:
        extra = expand(_read(overlay, faults), overlay.name, values, faults)
        faults.raise_all()
        peers += _blocks({"EntglDb": _no_case(extra, "EntglDb")}, overlay, faults)
    settings = _Builder(root, base, tables, faults).build(tuple(peers), str(overlay or base))
    faults.raise_all()
    return settings


def _environment() -> Mapping[str, str]:
    import os

    return os.environ


def _read(file: Path, faults: Faults) -> dict[str, Any]:
    """The file as nested dicts; an empty one and a fault when it cannot be read."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        found = read_json(text, "it") if file.suffix == ".json" else tomllib.loads(text)
    except OSError as fault:
        faults.add(str(file), fault.strerror or "cannot be read", "entgldb init --dir DIR")
    except InvalidError as fault:
        faults.add(file.name, fault.text)
    except (ValueError, RecursionError) as fault:
        faults.add(file.name, f"not valid {file.suffix[1:].upper()}: {fault}")
    else:
        if isinstance(found, dict):
            return found
        faults.add(file.name, "an object is expected at the top")
    return {}


def _no_case(table: Mapping[str, Any], name: str) -> Any:
    """A key as .NET configuration finds it: by its letters, in any case."""
    return next((value for key, value in table.items() if key.lower() == name.lower()), None)


def _blocks(tables: Mapping[str, Any], file: Path, faults: Faults) -> list[Any]:
    """InitialRemotePeers of a file, at the top or inside the EntglDb block."""
    found: list[Any] = []
    block = _no_case(tables, "EntglDb")
    if block is not None and not isinstance(block, dict):
        faults.add(f"{file.name}: EntglDb", "an object is expected")
        block = None
    for key in block or {}:
        if key.lower() != "initialremotepeers":
            faults.add(f"{file.name}: EntglDb.{key}", "unknown setting; InitialRemotePeers is known")
    for place, holder in (("EntglDb.", block or {}), ("", tables)):
        entries = _no_case(holder, "InitialRemotePeers")
        if entries is not None:
            found += initial_peers(entries, f"{file.name}: {place}InitialRemotePeers", file.parent, faults)
    return found


class _Builder:
    """Turns the tables of entgldb.toml into settings, noting faults as it goes."""

    def __init__(self, root: Path, file: Path, tables: dict[str, Any], faults: Faults) -> None:
        self.root, self.file, self.faults = root, file, faults
        for name in sorted(set(tables) - _SECTIONS):
            faults.add(f"{file.name}: {name}", "unknown section")
        self.sections = [Section(name, tables.get(name, {}), file.name, faults) for name in _NAMED]
        (
            self.node,
            self.network,
            self.sync,
            self.election,
            self.gateway,
            self.retention,
            self.cloud,
            self.disk,
            self.verify,
            self.http,
            self.log,
        ) = self.sections

    def build(self, peers: tuple[Any, ...], config_file: str) -> NodeSettings:
        node_id = self.node.text("id", required=True, check=check_node_id)
        role = self.node.choice("role", ROLES, "lan")
        log_level = self.node.choice("log_level", LOG_LEVELS, "INFO")
        key_file, cluster = self._cluster(role)
        directory = str(self.root)
        store = self._store(node_id, directory, role, cluster, key_file)
        sync = self._sync(node_id, role, cluster)
        settings = NodeSettings(
            store=replace(
                store, tenants=bool(sync.tenants), storage=sync.storage, sync_interval=sync.sync_interval
            ),
            oplog=self._oplog(node_id, role, store.hard_floor, sync),
            sync=sync,
            election=self._election(node_id, role),
            gateway=self._gateway(node_id, role, cluster, key_file),
            initial_peers=peers,
            log_level=log_level,
            config_file=config_file,
            http=self._http(),
            log_format=self.log.choice("format", LOG_FORMATS, "text"),
        )
        for section in self.sections:
            section.finish()
        return settings

    def _store(self, node_id: str, directory: str, role: str, cluster: str, key_file: str) -> StoreSettings:
        default = StoreSettings(node_id, directory, role, cluster, key_file)
        soft = self.disk.size("soft_floor", default.soft_floor)
        hard = self.disk.size("hard_floor", min(default.hard_floor, soft))
        if hard > soft:
            self.disk.fault("hard_floor", f"is above soft_floor, {soft}")
        return replace(default, soft_floor=soft, hard_floor=hard)

    def _cluster(self, role: str) -> tuple[str, str]:
        """The path of the cluster key, and the cluster's name, which follows from the key."""
        if role == "cloud":
            return "", ""
        key_file = self.root / CLUSTER_KEY_NAME
        try:
            return str(key_file), cluster_name(key_file)
        except (OSError, EntglError) as fault:
            text = fault.text if isinstance(fault, EntglError) else str(fault.strerror)
            self.faults.add(str(key_file), text, "entgldb init --cluster-key-file FILE")
            return "", ""

    def _oplog(self, node_id: str, role: str, hard_floor: int, sync: SyncSettings) -> OplogSettings:
        default, retention = _DEFAULTS_OPLOG, self.retention
        return OplogSettings(
            node_id=node_id,
            directory=str(self.root),
            role=role,
            retention_hours=retention.number("hours", default.retention_hours, _HOURS_MAX),
            retention_bytes=int(retention.number("bytes", default.retention_bytes, 2.0**50)),
            absence_limit=retention.number("absence_limit", default.absence_limit, _HOURS_MAX),
            verify_interval=self.verify.seconds_or_never("interval", default.verify_interval),
            hard_floor=hard_floor,
            shared=sync.shared,
            tenants=bool(sync.tenants),
            storage=sync.storage,
        )

    def _sync(self, node_id: str, role: str, cluster: str) -> SyncSettings:
        default = _DEFAULTS_SYNC
        return SyncSettings(
            node_id=node_id,
            directory=str(self.root),
            role=role,
            cluster=cluster,
            listen=self.network.text("listen", required=True, check=_listen),
            seeds=self.network.texts("seeds", check=_seed),
            discovery=self.network.flag("discovery", role == "lan"),
            announce=self._announce(role),
            sync_interval=self.sync.seconds("interval", default.sync_interval),
            heartbeat_interval=self._beat(),
            live_push=self.sync.flag("live_push", default.live_push),
            **self._cloud(role),
        )

    def _announce(self, role: str) -> tuple[str, ...]:
        found = self.network.texts("announce", check=_announced)
        if len(found) > ANNOUNCED_MAX:
            self.network.fault("announce", f"at most {ANNOUNCED_MAX} addresses")
        if found and role == "cloud":
            self.network.fault("announce", "a cloud node is dialled as the list of remote peers says")
        return found

    def _beat(self) -> float:
        default = _DEFAULTS_SYNC.heartbeat_interval
        return self.sync.number("heartbeat_interval", default, HEARTBEAT_SECONDS_MAX)

    def _cloud(self, role: str) -> dict[str, Any]:
        if role != "cloud":
            self.cloud.refuse_all('only a node with role = "cloud" has this section')
            return {}
        return {
            "tls_cert": self._file(self.cloud, "tls_cert"),
            "tls_key": self._file(self.cloud, "tls_key"),
            "authority": self.cloud.text("authority", required=True, check=check_authority),
            "authority_ca": self._file(self.cloud, "authority_ca", required=False),
            "audience": self.cloud.text("audience", required=True),
            "scopes": self.cloud.texts("scopes") or ("entgldb:sync",),
            "allow_clients": self.cloud.texts("allow_clients"),
            "token_profile": self.cloud.choice("token_profile", tuple(PROFILES), "rfc9068"),
            "shared": self.cloud.flag("shared", False),
            "proxy": self.cloud.all_or_texts("proxy", check=check_balancer),
            **tenants(self.cloud),
        }

    def _file(self, section: Section, name: str, *, required: bool = True) -> str:
        value = section.text(name, required=required)
        if not value:
            return ""
        file = self.root / value
        if not file.is_file():
            section.fault(name, f"no file {file}")
        return str(file)

    def _http(self) -> HttpSettings:
        certificate, key = (self._file(self.http, name, required=False) for name in ("tls_cert", "tls_key"))
        if bool(certificate) != bool(key):
            self.http.fault("tls_cert", "goes with tls_key")
        return HttpSettings(
            listen=self.http.text("listen", check=_http_listen),
            names=self.http.texts("names"),
            tls_cert=certificate,
            tls_key=key,
            tokens=self.http.flag("tokens", False),
        )

    def _election(self, node_id: str, role: str) -> ElectionSettings:
        default = _DEFAULTS_ELECTION
        return ElectionSettings(
            node_id=node_id,
            role=role,
            priority=self.election.integer("priority", default.priority),
            takeover_delay=self.election.seconds("takeover_delay", default.takeover_delay),
            gateway_timeout=self.election.seconds("gateway_timeout", default.gateway_timeout),
        )

    def _gateway(self, node_id: str, role: str, cluster: str, key_file: str) -> GatewaySettings:
        default = _DEFAULTS_GATEWAY
        return GatewaySettings(
            node_id=node_id,
            directory=str(self.root),
            role=role,
            cluster=cluster,
            key_file=key_file,
            sync_interval=self.sync.seconds("interval", default.sync_interval),
            heartbeat_interval=self._beat(),
            backoff_first=self.gateway.seconds("backoff_first", default.backoff_first),
            backoff_max=self.gateway.seconds("backoff_max", default.backoff_max),
            live_push=self.sync.flag("live_push", default.live_push),
        )


def cluster_name(key_file: Path) -> str:
    """The first 16 hex digits of SHA-256(first CA's public key): all nodes of a cluster have it in common."""
    # certificates cost every importer 80 ms; only whoever starts a node needs them
    from entgldb.actors.tls import certificates

    return certificates.name_of(read_cluster_keys(key_file))


def _listen(value: str) -> str:
    split_address(value, "listen")
    return value


def _http_listen(value: str) -> str:
    read_place(value)
    return value


def _announced(value: str) -> str:
    host, port = split_address(value, "announce")
    if port == 0 or host in ("0.0.0.0", "::"):  # noqa: S104 -- it is refused
        raise InvalidError("an address that others can dial is expected")
    return value


def _seed(value: str) -> str:
    split_address(value, "seed")
    return value
