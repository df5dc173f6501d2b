"""The verb that waits until other nodes have what this one has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from entgldb.launch.cli.common import common, say, show, with_database

if TYPE_CHECKING:
    from entgldb.client.database import Database


@click.command("wait-synced")
@common
@click.option(
    "--peers", default="all", metavar="all|cloud|N|NODE,NODE", show_default=True, help="Who has to."
)
@click.option("--timeout", type=click.FloatRange(0.0), default=30.0, show_default=True, help="Seconds.")
@with_database
def wait_synced(db: Database, as_json: bool, peers: str, timeout: float) -> None:
    """Wait until other nodes have on their disks all that this one has now; exit code 5 when time is over.

    Example: entgldb wait-synced --peers cloud --timeout 60
    """
    spread = db.wait_synced(timeout, peers=_peers(peers))
    if as_json:
        show({"durable": spread.durable, "missing": spread.missing})
    else:
        say(str(spread))


def _peers(text: str) -> str | int | list[str]:
    from entgldb.client.spread import read_ack
    from entgldb.messages.limits import MEMBERS_MAX
    from entgldb.messages.model import whole_number

    count = whole_number(text, MEMBERS_MAX)
    return read_ack(text) if count is None else count
