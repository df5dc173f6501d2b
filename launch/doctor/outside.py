"""A node as its directory shows it: lock, configuration, permissions, certificate, port."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from entgldb.client.health.finding import NODE, Finding, Look
from entgldb.launch.node import config
from entgldb.launch.node.files import in_use, read_record, running
from entgldb.messages.errors import ConfigError, EntglError, NoNodeError
from entgldb.messages.remote_peers import split_address
from entgldb.messages.settings import NodeSettings

_LISTEN: Final = "0A"
"""The state of a listening socket in proc(5)."""
SECRET_FILES: Final = ("cluster.key", "node.key", "actors.key", "http-tokens.json", "entgldb.db")
CERTIFICATE_DAYS_MIN: Final = 14
"""A node renews its own certificate when 30 of 90 days are left; that of a cloud its issuer does."""


class Place:
    """The directory of a node, with all that is read of it once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.running = self.directory.is_dir() and running(self.directory)

    @cached_property
    def settings(self) -> NodeSettings | ConfigError:
        """Its configuration, or every fault of it."""
        try:
            return config.load(self.directory)
        except ConfigError as fault:
            return fault

    @cached_property
    def record(self) -> dict[str, Any]:
        """``node.json`` of a node that serves; empty where none does."""
        with contextlib.suppress(NoNodeError):
            return read_record(self.directory)
        return {}


def node(place: Place, silence: str) -> Look:
    """Whether a node runs here, and could. ``silence``: why one that runs has not answered."""
    if not place.directory.is_dir():
        text = f"{place.directory} is no directory"
        return Look({"state": "absent"}, [Finding(NODE, "no-directory", str(place.directory), text)])
    state = "down" if not place.running else "silent" if silence else "running"
    found = []
    if place.running and not place.record:
        holder = in_use(place.directory).text
        if "open in process" in holder:
            state = "opened"
            found.append(Finding(NODE, "opened", "", f"{holder}: a program uses it without a node"))
    if state == "down":
        found.append(Finding(NODE, "node-down", "", f"no node is running in {place.directory}"))
    elif state == "silent":
        found.append(Finding(NODE, "no-answer", "", f"the node runs and does not answer: {silence}"))
    if isinstance(place.settings, ConfigError):
        found += [Finding(NODE, "config", "", line) for line in place.settings.text.splitlines()]
    found += _permissions(place.directory)
    return Look({"directory": str(place.directory), "state": state}, found)


def _permissions(directory: Path) -> list[Finding]:
    found = []
    if directory.stat().st_mode & 0o077:
        text = f"others of this machine may look into {directory}: chmod 700"
        found.append(Finding(NODE, "too-open", str(directory), text))
        # inside a directory of 0700 nobody else gets to a file
        for name in SECRET_FILES:
            with contextlib.suppress(FileNotFoundError):
                if (directory / name).stat().st_mode & 0o077:
                    found.append(Finding(NODE, "too-open", name, f"others may read {name}: chmod 600"))
    return found


def certificate(place: Place) -> Look:
    """How long the certificate that this node shows is good."""
    if isinstance(place.settings, ConfigError):
        return Look({}, [])
    cloud = place.settings.sync.role == "cloud"
    file = Path(place.settings.sync.tls_cert) if cloud else place.directory / "node.crt"
    try:
        leaf = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as fault:
        if not cloud and isinstance(fault, FileNotFoundError):
            return Look({}, [])  # made at the first start
        text = f"{file} cannot be read: {fault}"
        return Look({}, [Finding("network", "certificate", str(file), text)])
    now, ends = datetime.now(UTC), leaf.not_valid_after_utc
    days = (ends - now).days
    facts = {"certificate": {"file": str(file), "ends": ends.isoformat(), "days_left": days}}
    # a node that is down makes its own anew when it starts
    due = cloud or place.running
    if leaf.not_valid_before_utc > now:
        text = f"{file} is good from {leaf.not_valid_before_utc:%F} on: is the clock right?"
    elif due and days < CERTIFICATE_DAYS_MIN:
        how = "have it renewed" if cloud else "the node renews it by itself: look into its log"
        text = f"{file} ends in {days} days: {how}" if ends > now else f"{file} has ended on {ends:%F}: {how}"
    else:
        return Look(facts, [])
    return Look(facts, [Finding("network", "certificate", str(file), text)])


def port(place: Place) -> Look:
    """Whether somebody listens on the port where this node should, or nobody who would keep it from that."""
    if isinstance(place.settings, ConfigError):
        return Look({}, [])
    listen = place.settings.sync.listen
    try:
        _, number = split_address(listen)
    except EntglError:
        return Look({"listen": listen}, [])
    number = int((place.record.get("ports") or {}).get("sync") or number)
    facts: dict[str, Any] = {"listen": listen}
    if not number:
        return Look(facts, [])
    listening = _somebody_listens(number)
    facts["port"] = {"number": number, "listening": listening}
    if place.running and place.record and listening is False:
        text = f"nobody listens at port {number}, where this node should"
        return Look(facts, [Finding("network", "port-closed", listen, text)])
    if not place.running and listening:
        text = f"another program listens at port {number}: end it, or change network.listen"
        return Look(facts, [Finding("network", "port-taken", listen, text)])
    return Look(facts, [])


def _somebody_listens(number: int) -> bool | None:
    """By the kernel's tables (proc(5)): to connect would be counted as a refusal. None: there are none."""
    tables = [Path(f"/proc/net/{name}") for name in ("tcp", "tcp6")]
    try:
        texts = [table.read_text() for table in tables if table.exists()]
    except OSError:
        return None
    rows = [line.split() for text in texts for line in text.splitlines()[1:]]
    return any(int(row[1].rpartition(":")[2], 16) == number and row[3] == _LISTEN for row in rows)
