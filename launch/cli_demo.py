"""``entgldb demo``."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from entgldb.launch.cli_common import FAILED, json_option, leave, show


@click.command()
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the directories of the nodes in DIR, which must be empty or new.",
)
@json_option
def demo(keep: Path | None, as_json: bool) -> None:
    """The whole of EntglDB in twelve steps, each checked from outside the nodes.

    Starts an authorization server, cloud nodes and three LAN nodes as real processes, and stops them.

    Example: entgldb demo --keep /tmp/demo
    """
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise click.UsageError(f"{keep} is not empty.")
    from entgldb.launch.demo import quiet, run_demo, speak, table

    # a terminated demo shall leave no process either
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    result = run_demo(keep, quiet if as_json else speak)
    if as_json:
        show(result.fields())
    else:
        click.echo(table(result))
    if not result.ok:
        leave(FAILED)
