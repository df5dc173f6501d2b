"""One file for whoever helps: status, configuration, findings, logs, versions of a node; no secrets."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from entgldb._version import VERSION
from entgldb.actors.node.reloading import FIXED, LIVE, SLICES
from entgldb.client.database import Database
from entgldb.launch.doctor.examine import examine
from entgldb.launch.doctor.outside import Place
from entgldb.launch.doctor.redacting import text_without, without
from entgldb.launch.node.config import FILE_NAME
from entgldb.messages.errors import ConfigError, EntglError, ExistsError
from entgldb.messages.remote_peers import RemotePeer
from entgldb.messages.settings import NodeSettings

LOG_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of each log file the last so many go in."""
LOG_FILES_MAX: Final = 8
KEY_FILES: Final = ("cluster.key", "actors.key", "node.key", "http.key", "client.key", "http-tokens.json")
"""Their contents are taken out wherever they stand; the files themselves never go in."""
CONFIG_BYTES_MAX: Final = 1024 * 1024


def write(directory: Path, file: Path, progress: Callable[[str], None] = lambda topic: None) -> list[str]:
    """Write the bundle as a ZIP file of mode 0600, whole or not at all; the names in it.

    Raises ExistsError, OSError.
    """
    place = Place(directory)
    peers = _peers(place)
    secrets = _known_secrets(place, peers)
    looks = examine(directory, progress=progress)
    doctor = {
        topic: {"facts": look.facts, "findings": [one.fields() for one in look.findings]}
        for topic, look in looks.items()
    }
    status = _status(place)
    parts: dict[str, Any] = {
        "versions.json": versions(),
        "status.json": status,
        "alarms.json": status.get("alarms", []),
        "doctor.json": doctor,
        "configuration.json": configuration(place),
        "remote_peers.json": [_shown(peer) for peer in peers],
        "indexes.json": _indexes(place),
    }
    texts = {name: json.dumps(without(part, secrets), indent=2, default=str) for name, part in parts.items()}
    texts |= {f"log/{log.name}": text_without(_tail(log), secrets) for log in _logs(place.directory)}
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ExistsError(f"{file} is there already", hint="give another name") from None
    try:
        with os.fdopen(handle, "wb") as output, zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in texts.items():
                archive.writestr(name, text)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return list(texts)


def versions() -> dict[str, str]:
    """Of what runs here."""
    return {
        "entgldb": VERSION,
        "python": sys.version,
        "sqlite": sqlite3.sqlite_version,
        "system": platform.platform(),
        "machine": platform.machine(),
    }


def configuration(place: Place) -> dict[str, Any]:
    """Each setting with its value and where it comes from; a value of the environment is not told."""
    if isinstance(place.settings, ConfigError):
        return {"faults": place.settings.text.splitlines()}
    written = _written(place.directory / FILE_NAME)
    found = {}
    for field, name in sorted({**LIVE, **FIXED}.items(), key=lambda item: item[1]):
        if field == "initial_peers":
            continue  # with remote_peers.json all is said
        section, _, key = name.partition(".")
        table = written.get(section)
        raw = table.get(key) if isinstance(table, dict) else None
        from_environment = isinstance(raw, str) and "${" in raw
        origin = "default" if raw is None else f"{FILE_NAME}, environment" if from_environment else FILE_NAME
        found[name] = {"value": raw if from_environment else _value(place.settings, field), "origin": origin}
    return found


def _written(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_bytes()[:CONFIG_BYTES_MAX].decode())
    except (OSError, ValueError):
        return {}


def _value(settings: NodeSettings, field: str) -> Any:
    """Of the node, or of the first of its actors that has the field."""
    holders = (settings, *(getattr(settings, name) for name in SLICES))
    value = next((getattr(one, field) for one in holders if hasattr(one, field)), None)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _known_secrets(place: Place, peers: list[RemotePeer]) -> set[str]:
    """Values that must not stand anywhere in the bundle."""
    found = {os.environ.get("ENTGLDB_CLIENT_SECRET", "")}
    for name in KEY_FILES:
        try:
            data = (place.directory / name).read_bytes()
        except OSError:
            continue
        found |= {data.hex(), *data.decode(errors="ignore").split()}
    ways = [peer.oauth2 for peer in peers if peer.oauth2 is not None]
    for reference in (one for way in ways for one in (way.client_secret, way.previous_secret)):
        kind, _, name = reference.partition(":")
        if kind == "env":
            found.add(os.environ.get(name, ""))
    return found


def _peers(place: Place) -> list[RemotePeer]:
    try:
        with Database(place.directory) as db:
            return list(db.peers.get_all_remote_peers())
    except EntglError:
        return []


def _shown(peer: RemotePeer) -> dict[str, Any]:
    oauth2 = peer.oauth2
    return {
        "node_id": peer.node_id,
        "address": peer.address,
        "type": peer.type.name,
        "enabled": peer.enabled,
        "max_rate": peer.max_rate,
        "authority": None if oauth2 is None else oauth2.authority,
        "client_id": None if oauth2 is None else oauth2.client_id,
        "scopes": [] if oauth2 is None else list(oauth2.scopes),
        "held_as": None if oauth2 is None else oauth2.client_secret.partition(":")[0],
    }


def _status(place: Place) -> dict[str, Any]:
    if not place.running:
        return {}
    try:
        with Database(place.directory) as db:
            return db.status("node")
    except EntglError as fault:
        return {"fault": fault.text}


def _indexes(place: Place) -> list[dict[str, Any]]:
    try:
        with Database(place.directory) as db:
            # the filter of a partial index may hold values of documents
            return [{**one._asdict(), "where": one.where is not None} for one in db.indexes()]
    except EntglError:
        return []


def _logs(directory: Path) -> list[Path]:
    return sorted((directory / "log").glob("*.log*"))[:LOG_FILES_MAX]


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_BYTES_MAX))
            return file.read(LOG_BYTES_MAX).decode(errors="replace")
    except OSError as fault:
        return f"cannot be read: {fault.strerror}"
