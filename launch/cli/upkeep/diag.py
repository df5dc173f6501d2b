"""``entgldb diag``: one file for whoever helps."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from entgldb.launch.cli.common import common, say, show


@click.command()
@common
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar="FILE"
)
def diag(directory: Path, as_json: bool, output: Path) -> None:
    """Write what helps to understand a node into a ZIP file: without secrets, and without documents.

    In it: the status, the configuration with where each value comes from, doctor's findings, alarms,
    remote peers, indexes, the logs, slow queries with their plans, versions. Keys, tokens and client
    secrets are taken out, by name, by form, and by value. Node ids, addresses and names of collections
    stay: look into it before you send it.

    Example: entgldb diag -o node.zip
    """
    from entgldb.launch.doctor.bundle import write

    shown = sys.stderr.isatty()
    names = write(directory, output, _progress if shown else lambda topic: None)
    if shown:
        click.echo("\r\x1b[K", nl=False, err=True)
    if as_json:
        show({"file": str(output), "parts": names})
    else:
        say(f"{output}: {', '.join(names)}")


def _progress(topic: str) -> None:
    click.echo(f"\r\x1b[Kexamining {topic}", nl=False, err=True)
