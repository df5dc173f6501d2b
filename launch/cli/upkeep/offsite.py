"""Backups that go to a folder or a bucket, once or again and again."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import stat
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click

from entgldb._version import VERSION
from entgldb.integrations.offsite.ledger import Ledger
from entgldb.integrations.offsite.runs import Edge, Plan, run, run_every
from entgldb.integrations.offsite.shelf import Folder, Shelf
from entgldb.integrations.place import Place
from entgldb.launch.cli.bridges.reading import BridgeFile, part
from entgldb.launch.cli.common import say, show
from entgldb.messages.errors import ConfigError, InvalidError, NotAllowedError
from entgldb.messages.remote_peers import check_authority
from entgldb.messages.secret import Secret
from entgldb.storage.recovery import backup as backups

EVERY_SECONDS_MIN: Final = 60.0
_ENDPOINT: Final = "AWS_ENDPOINT_URL"
_KEYS: Final = ("access_key_id", "secret_access_key", "session_token")


def put_away(
    directory: Path, to: str, *, as_json: bool, every: float | None, keep: int, credentials: Path | None
) -> None:
    """Make one backup, or one each ``every`` seconds until SIGTERM. Raises EntglError."""
    if every is not None and not EVERY_SECONDS_MIN <= every < math.inf:
        raise click.UsageError(f"--every is {EVERY_SECONDS_MIN:.0f}s or more.")
    shelf = _shelf(to, credentials)

    def make(file: Path) -> backups.Manifest:
        return backups.write(directory, file, VERSION, time.time_ns() // 1_000_000, lambda *_: None)

    def done(name: str, manifest: Any, removed: list[str]) -> None:
        if as_json:
            show({"file": f"{shelf.place}/{name}", "removed": removed, **manifest._asdict()})
            return
        say(f"{shelf.place}/{name}: {manifest.documents} documents, read back and whole")
        for one in removed:
            say(f"{shelf.place}/{one}: removed")

    edge = Edge(lambda: time.time_ns() // 1_000_000, time.sleep, lambda text: say(text, err=True))
    with Place(directory, "backups-running"):  # one at a time: each would remove by its own ledger
        plan = Plan(directory, make, shelf, Ledger(directory, shelf.place), keep)
        # its own file is removed when it is told to end, too
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if every is None:
            run(plan, edge, done)
            return
        with contextlib.suppress(KeyboardInterrupt):
            run_every(plan, every, edge, done)


def _shelf(to: str, credentials: Path | None) -> Shelf:
    if not to.startswith("s3://"):
        if "://" in to:
            raise InvalidError(f"{to!r:.200} is no folder and no s3://BUCKET/PREFIX")
        return Folder(Path(to).absolute())
    parts = urlsplit(to)
    if not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidError(f"{to!r:.200} is not s3://BUCKET/PREFIX")
    options = {} if credentials is None else _credentials(credentials)
    named = os.environ.get(_ENDPOINT, "")
    if named and "endpoint" not in options:
        check_authority(named, _ENDPOINT)
        options["endpoint"] = named
    bucket: Shelf = part("entgldb.integrations.offsite.s3", "s3").Bucket(
        parts.netloc, parts.path, options, plaintext=str(options.get("endpoint", "")).startswith("http://")
    )
    return bucket


def _credentials(file: Path) -> dict[str, Any]:
    """The options that a file gives. Raises ConfigError, NotAllowedError for one that others may read."""
    given = BridgeFile(file)
    top = given.top
    found = {name: top.text(name) for name in (*_KEYS, "region")}
    found["endpoint"] = top.text("endpoint", check=lambda text: check_authority(text, "endpoint"))
    options: dict[str, Any] = {name: value for name, value in found.items() if value}
    if top.flag("virtual_hosted", False):
        options["virtual_hosted_style_request"] = True
    given.finish()
    clear = False
    for name in _KEYS:
        said = options.get(name, "")
        refers = said.startswith(("env:", "file:"))
        clear = clear or (bool(said) and not refers and name != "access_key_id")
        if said:
            options[name] = given.secret(said) if refers else Secret(said)
    if clear and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise NotAllowedError(f"{file} holds a secret, and others may read it", hint=f"chmod 600 {file}")
    if "access_key_id" in options and "secret_access_key" not in options:
        raise ConfigError(f"{file.name}: it: secret_access_key is missing")
    return options
