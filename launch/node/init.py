"""``entgldb init``: the directory of a new node, with its keys and its configuration."""

from __future__ import annotations

import errno
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from entgldb.actors.cluster_key import CLUSTER_KEY_BYTES, CLUSTER_KEY_NAME, read_cluster_keys
from entgldb.actors.oauth.profiles import PROFILES
from entgldb.actors.oauth.tenancy import BY_CLAIM, BY_MAP, WAYS
from entgldb.client.access import check_writable
from entgldb.launch.node.config import FILE_NAME
from entgldb.launch.node.config_tenants import check_storage
from entgldb.messages.errors import EntglError, ExistsError, InvalidError
from entgldb.messages.model import check_node_id
from entgldb.messages.remote_peers import check_authority, join_address, split_address
from entgldb.messages.secret import Secret
from entgldb.messages.tenants import check_tenant
from entgldb.storage.authorship.identity import owner_of
from entgldb.storage.file.durable import write_whole

PORT_MIN = 10_240
"""The lowest port that is picked: below are many well-known ones."""
PORT_TRIES = 100
ANY_HOST = "::"
"""All addresses, IPv6 and IPv4: the TLS port is meant for the network, everything else is loopback."""


@dataclass(frozen=True, slots=True)
class CloudOptions:
    """The options that only the cloud role needs; file paths as the user gave them."""

    tls_cert: str
    tls_key: str
    authority: str
    audience: str
    scopes: tuple[str, ...] = ("entgldb:sync",)
    allow_clients: tuple[str, ...] = ()
    authority_ca: str = ""
    token_profile: str = ""
    tenants: str = ""
    """How a client's tenant is found; empty: there are none."""
    tenant_claim: str = ""
    tenant_map: tuple[str, ...] = ()
    """``CLIENT=TENANT`` each."""
    storage: str = ""
    """The PostgreSQL of the tenants; empty: each has a file."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that ``init`` is told. ``port`` 0 picks a free one, which the configuration then keeps."""

    directory: Path
    node_id: str = ""
    host: str = ANY_HOST
    port: int = 0
    seeds: tuple[str, ...] = ()
    cluster_key_file: Path | None = None
    cluster_key: Secret | None = None
    """The content of its file, where a member gave it; None: from a file, or a new key."""
    cloud: CloudOptions | None = None
    settings: dict[str, dict[str, bool | int | float]] = field(default_factory=dict)
    """Further settings by section, such as ``{"sync": {"interval": 1.0}}``."""


@dataclass(frozen=True, slots=True)
class Made:
    """The node that ``init`` made."""

    directory: Path
    node_id: str
    role: str
    port: int
    key_file: Path | None


def init(plan: Plan) -> Made:
    """Make the directory of a node.

    Documents that ``entgldb.open`` has put there stay; the node has the id that they were written under.

    Raises ExistsError where there is a configuration already, InvalidError naming the
    option that is wrong, before anything is written.
    """
    node_id = check(plan)
    root = plan.directory.resolve()
    key = _cluster_key(plan)
    port = plan.port or pick_port(plan.host)
    text = _toml(plan, node_id, port)
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o700)
    if key is not None:
        write_whole(root / CLUSTER_KEY_NAME, key.reveal())
    # the configuration comes last: a directory without one is no node, so an init cut short can be repeated
    write_whole(root / FILE_NAME, text.encode())
    role = "lan" if plan.cloud is None else "cloud"
    return Made(root, node_id, role, port, None if key is None else root / CLUSTER_KEY_NAME)


def check(plan: Plan) -> str:
    """The id that the node will have; what ``init`` raises, before anything is written."""
    root = plan.directory.resolve()
    owner = owner_of(root)
    node_id = check_node_id(plan.node_id or owner or default_node_id(), "--node-id")
    if owner not in ("", node_id):
        raise InvalidError(
            f"--node-id {node_id}: {root} holds the documents of {owner}",
            hint="leave --node-id out, or choose another directory",
        )
    _check(plan)
    check_writable(root)
    if (root / FILE_NAME).exists():
        raise ExistsError(f"{root} holds a node already", hint=f"entgldb start --dir {root}")
    return node_id


def pick_port(host: str) -> int:
    """A TCP port that is free on ``host`` now, and that the kernel gives to no outgoing connection.

    It is written into a configuration and bound later, and at every start from then on: one of the kernel's
    ephemeral ports may be taken by then by any connection of any program. Raises InvalidError for no host.
    """
    if host == ANY_HOST and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"  # noqa: S104 -- what was asked for
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    below = _first_ephemeral_port()
    for _ in range(PORT_TRIES):
        port = PORT_MIN + secrets.randbelow(below - PORT_MIN) if below > PORT_MIN else 0
        with socket.socket(family) as trial:
            try:
                trial.bind(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4])
            except OSError as fault:
                if fault.errno == errno.EADDRINUSE:
                    continue
                raise InvalidError(f"--host {host}: {fault.strerror or fault}") from None
            return int(trial.getsockname()[1])
    raise EntglError(f"no free port was found on {host}", hint="give one with --port")


def _first_ephemeral_port() -> int:
    """From here on the kernel takes ports for outgoing connections (ip(7), ip_local_port_range)."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768


def default_node_id() -> str:
    """From the name of this host, and unlike those of other nodes here."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()).strip("-._")[:40]
    return f"{host or 'node'}-{secrets.token_hex(2)}"


def _check(plan: Plan) -> None:
    for seed in plan.seeds:
        split_address(seed, "--seed")
    if not 0 <= plan.port < 65536:
        raise InvalidError(f"--port {plan.port} is not a port")
    if plan.cloud is None:
        return
    if plan.cluster_key_file is not None:
        raise InvalidError("--cluster-key-file: a cloud node never holds the cluster key")
    check_authority(plan.cloud.authority, "--authority")
    if not plan.cloud.audience:
        raise InvalidError("--audience is missing")
    if plan.cloud.token_profile not in ("", *PROFILES):
        raise InvalidError(f"--token-profile: one of {', '.join(PROFILES)}")
    _check_tenants(plan.cloud)
    files = (
        ("--tls-cert", plan.cloud.tls_cert),
        ("--tls-key", plan.cloud.tls_key),
        ("--authority-ca", plan.cloud.authority_ca),
    )
    for option, file in files:
        if (file or option != "--authority-ca") and not Path(file).is_file():
            raise InvalidError(f"{option} {file or 'is missing'}: no such file")


def _check_tenants(cloud: CloudOptions) -> None:
    if cloud.tenants not in ("", *WAYS):
        raise InvalidError(f"--tenants: one of {', '.join(WAYS)}")
    for option, given, way in (
        ("--tenant-claim", cloud.tenant_claim, BY_CLAIM),
        ("--tenant-map", cloud.tenant_map, BY_MAP),
    ):
        if bool(given) != (cloud.tenants == way):
            raise InvalidError(f"{option} goes with --tenants {way}, and is needed there")
    _tenant_map(cloud)
    if cloud.storage and not cloud.tenants:
        raise InvalidError("--storage goes with --tenants")
    if cloud.storage:
        check_storage(cloud.storage)


def _tenant_map(cloud: CloudOptions) -> dict[str, str]:
    """Client id -> tenant. Raises InvalidError."""
    found: dict[str, str] = {}
    for pair in cloud.tenant_map:
        client, _, tenant = pair.rpartition("=")
        if not client or client in found:
            raise InvalidError(f"--tenant-map {pair!r:.80}: CLIENT=TENANT is expected, each client once")
        found[client] = check_tenant(tenant)
    return found


def _cluster_key(plan: Plan) -> Secret | None:
    if plan.cloud is not None:
        return None
    if plan.cluster_key:
        return plan.cluster_key
    if plan.cluster_key_file is not None:
        try:
            return read_cluster_keys(plan.cluster_key_file).content
        except OSError as fault:
            raise InvalidError(f"--cluster-key-file {plan.cluster_key_file}: {fault.strerror}") from None
    kept = plan.directory / CLUSTER_KEY_NAME
    if kept.exists():
        return read_cluster_keys(kept).content
    return Secret(secrets.token_bytes(CLUSTER_KEY_BYTES))


def _toml(plan: Plan, node_id: str, port: int) -> str:
    loopback = plan.host in ("127.0.0.1", "::1", "localhost")
    sections: dict[str, dict[str, object]] = {
        "node": {"id": node_id, "role": "lan" if plan.cloud is None else "cloud"},
        # nobody else on the network could reach a loopback listener, so it is not announced there
        "network": {
            "listen": join_address(plan.host, port),
            "seeds": plan.seeds,
            "discovery": plan.cloud is None and not loopback,
        },
    }
    if plan.cloud is not None:
        cloud = plan.cloud
        sections["cloud"] = {
            "tls_cert": str(Path(cloud.tls_cert).resolve()),
            "tls_key": str(Path(cloud.tls_key).resolve()),
            "authority": cloud.authority,
            "authority_ca": str(Path(cloud.authority_ca).resolve()) if cloud.authority_ca else "",
            "audience": cloud.audience,
            "scopes": cloud.scopes,
            "allow_clients": cloud.allow_clients,
            "token_profile": cloud.token_profile or "rfc9068",
        }
        if cloud.tenants:
            sections["cloud"]["tenants"] = cloud.tenants
        if cloud.tenant_claim:
            sections["cloud"]["tenant_claim"] = cloud.tenant_claim
        if cloud.tenant_map:
            sections["cloud"]["tenant_map"] = _tenant_map(cloud)
        if cloud.storage:
            sections["cloud"]["storage"] = cloud.storage
    for name, values in plan.settings.items():
        sections.setdefault(name, {}).update(values)
    lines = ["# A node of EntglDB. Strings may use ${NAME} and ${NAME:?what is missing}."]
    for name, table in sections.items():
        lines += ["", f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_value(key)} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
