"""A node as a service of systemd: the text of its unit, and where units are."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import Final, NamedTuple

from entgldb.messages.errors import ConfigError, EntglError, ErrorCode

MARK: Final = "# made by: entgldb service install"
"""The first line of a unit of ours; no other is replaced or removed."""
SYSTEM_UNITS: Final = Path("/etc/systemd/system")
_HOMES: Final = (Path("/home"), Path("/root"), Path("/run/user"))

_UNIT: Final = """\
{mark}
# for: {directory}
[Unit]
Description=EntglDB node {node_id}
Documentation=man:entgldb(1)
{order}\
# a node that does not come up is tried again, ever more slowly, as long as the machine runs
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={start}
ExecReload=/bin/kill -HUP $MAINPID
# for client secrets given as env:NAME; the file may be absent
EnvironmentFile=-{environment}
# the launcher tells its actors to stop; a signal to each of them would cut them short
KillMode=mixed
TimeoutStartSec=15min
TimeoutStopSec=20
# fed every 10 s while all actors serve
WatchdogSec=90
Restart=always
RestartSec=1
LimitNOFILE=16384
UMask=0077
{confined}
[Install]
WantedBy={target}
"""

_CONFINED: Final = """
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
# netlink tells which interfaces there are
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
"""

_SYSTEM_CONFINED: Final = """
User={user}
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ReadWritePaths={directory}
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateUsers=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
# not ProcSubset=pid: the node reads the id of this boot, and who locks its file
ProtectProc=invisible
RemoveIPC=yes
"""


class Service(NamedTuple):
    """A unit of systemd that is not installed yet."""

    name: str
    """Such as ``entgldb-lan-1.service``."""
    file: Path
    text: str


def plan(directory: Path, node_id: str, *, of_user: bool) -> Service:
    """The unit of the node in ``directory``: of the person who asks, or of the whole machine.

    Raises EntglError not-allowed where the node would run as root, ConfigError for a path that no unit can
    have.
    """
    root = directory.resolve()
    if "\n" in str(root):
        raise ConfigError(f"the path {str(root)!r} has a line break", hint="give the directory another name")
    owner = os.geteuid() if of_user else root.stat().st_uid
    if owner == 0:
        raise EntglError(
            "a node does not run as root" + ("" if of_user else f", to whom {root} belongs"),
            code=ErrorCode.NOT_ALLOWED,
            hint=f"useradd --system entgldb; chown -R entgldb: {root}",
        )
    confined = _CONFINED
    if not of_user:
        fields = {"user": _name_of(owner), "directory": _quoted(str(root)), "home": _home(root)}
        confined += _SYSTEM_CONFINED.format(**fields)
    name = f"entgldb-{node_id}.service"
    text = _UNIT.format(
        mark=MARK,
        directory=root,
        node_id=node_id,
        order="" if of_user else "Wants=network-online.target\nAfter=network-online.target\n",
        start=" ".join(map(_quoted, (sys.executable, "-m", "entgldb", "start", "--dir", str(root)))),
        environment=str(root / "entgldb.env").replace("%", "%%"),
        confined=confined,
        target="default.target" if of_user else "multi-user.target",
    )
    return Service(name, (_user_units() if of_user else SYSTEM_UNITS) / name, text)


def install(service: Service) -> None:
    """Write the unit. Raises EntglError in-use where a unit of another node or program has the name."""
    _check_ours(service)
    service.file.parent.mkdir(parents=True, exist_ok=True)
    fresh = service.file.with_name(f".{service.name}.new")
    fresh.write_text(service.text)
    fresh.chmod(0o644)
    fresh.replace(service.file)


def uninstall(service: Service) -> bool:
    """Remove the unit and nothing else; whether there was one. Raises EntglError as ``install`` does."""
    _check_ours(service)
    there = service.file.exists()
    service.file.unlink(missing_ok=True)
    return there


def _check_ours(service: Service) -> None:
    try:
        found = service.file.read_text(errors="replace")
    except FileNotFoundError:
        return
    if found.splitlines()[:2] != service.text.splitlines()[:2]:
        raise EntglError(
            f"{service.file} is not the unit of this node",
            code=ErrorCode.IN_USE,
            hint="look at it, then remove it",
        )


def _user_units() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "systemd" / "user"


def _name_of(owner: int) -> str:
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        return str(owner)


def _home(root: Path) -> str:
    """Homes are out of sight, unless the node or its Python is in one."""
    inside = [
        path for path in (root, Path(sys.prefix).resolve()) for home in _HOMES if path.is_relative_to(home)
    ]
    return "read-only" if inside else "yes"


def _quoted(word: str) -> str:
    """One word of a command line or list of paths, as systemd.syntax(7) has it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
