"""The verbs that make a node a service of systemd."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from entgldb.launch.cli.common import common, say, show
from entgldb.messages.errors import EntglError

if TYPE_CHECKING:
    from entgldb.launch.node.service import Service

_RUNS: Final = Path("/run/systemd/system")
"""It is there where systemd runs the machine (sd_booted(3))."""
user_option = click.option("--user", "of_user", is_flag=True, help="A service of yours, not of the machine.")


@click.group()
def service() -> None:
    """Have systemd run the node: install, uninstall, show."""


@service.command()
@common
@user_option
def install(directory: Path, as_json: bool, of_user: bool) -> None:
    """Have systemd start the node with the machine.

    It watches the node, and starts it anew when it fails. The node runs as the owner of its directory,
    never as root, and may write there alone. --user: as you, while you are logged in (or always, after
    `loginctl enable-linger`).

    \b
    Example:
      sudo entgldb service install -d /var/lib/entgldb
      entgldb service install --user -d n1
    """
    from entgldb.launch.node import service as services

    planned = _planned(directory, of_user=of_user)
    services.install(planned)
    done = _systemctl(of_user, ["daemon-reload"], ["enable", "--now", planned.name])
    if as_json:
        show({"unit": planned.name, "file": str(planned.file), "started": done})
        return
    say(f"installed {planned.file}")
    user = "--user " if of_user else ""
    if done:
        say(f"started; look at it with: systemctl {user}status {planned.name}")
    else:
        say(f"systemd does not run here; where it does: systemctl {user}enable --now {planned.name}")


@service.command()
@common
@user_option
def uninstall(directory: Path, as_json: bool, of_user: bool) -> None:
    """Stop the service and remove its unit. The node's directory stays as it is.

    Example: sudo entgldb service uninstall -d /var/lib/entgldb
    """
    from entgldb.launch.node import service as services

    planned = _planned(directory, of_user=of_user)
    if planned.file.exists():
        _systemctl(of_user, ["disable", "--now", planned.name])
    there = services.uninstall(planned)
    _systemctl(of_user, ["daemon-reload"])
    if as_json:
        show({"unit": planned.name, "file": str(planned.file), "removed": there})
    else:
        say(f"removed {planned.file}" if there else f"there was no {planned.file}")


@service.command("show")
@common
@user_option
def show_(directory: Path, as_json: bool, of_user: bool) -> None:
    """Show the unit that `install` would write.

    Example: entgldb service show -d n1 > entgldb.service
    """
    planned = _planned(directory, of_user=of_user)
    if as_json:
        show({"unit": planned.name, "file": str(planned.file), "text": planned.text})
    else:
        for line in planned.text.splitlines():
            say(line)


def _planned(directory: Path, *, of_user: bool) -> Service:
    from entgldb.launch.node.config import load
    from entgldb.launch.node.service import plan

    return plan(directory, load(directory).store.node_id, of_user=of_user)


def _systemctl(of_user: bool, *commands: list[str]) -> bool:
    """Whether systemd runs here and was told. Raises EntglError with its words where it refuses."""
    if not _RUNS.is_dir():
        return False
    for words in commands:
        command = ["systemctl", *(["--user"] if of_user else []), *words]
        told = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- our own words
        if told.returncode:
            said = (told.stderr.strip().splitlines() or [f"code {told.returncode}"])[-1]
            raise EntglError(f"{' '.join(command)}: {said}", hint="systemctl status; journalctl -xe")
    return True
