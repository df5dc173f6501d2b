"""The verb for who belongs to the cluster: members by the keys of their certificates."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from entgldb.launch.cli.common import common, say, show, table, with_database

if TYPE_CHECKING:
    from entgldb.client.database import Database
    from entgldb.client.nodes import MemberRow

SHOWN: Final = 16
"""Digits of a key in the table; --json has all."""


@click.command()
@common
@click.option("--accept", "accepted", default="", metavar="N", help="The new key of node N counts.")
@click.option("--key", default="", help="The key to accept. [default: the one refused here lately]")
@with_database
def members(db: Database, as_json: bool, accepted: str, key: str) -> None:
    """Show who belongs to the cluster, by the key of each, and machines that were refused here lately.

    The first key of a node is pinned: a machine that shows another one under its name is refused, whatever
    certificate it has. Where a node was made anew, accept its new key: on all nodes it takes the place of
    the old one.

    \b
    Example:
      entgldb members
      entgldb members --accept lan-3
    """
    if accepted:
        counts = db.nodes.accept(accepted, key)
        if as_json:
            show({"node_id": accepted, "key": counts})
        else:
            say(f"{accepted} is the node with key {counts[:SHOWN]} from now on, on all nodes")
        return
    rows, refused = db.nodes.members(), db.nodes.refused()
    if as_json:
        show({"members": [row._asdict() for row in rows], "refused": refused})
        return
    table(("node", "key", "since", "last seen", "state"), map(_cells, rows))
    for row in refused:
        say(
            f"refused {_time(row['at_ms'])}: {row['node_id']} with key {row['key'][:SHOWN]} ({row['reason']})"
        )


def _cells(row: MemberRow) -> tuple[str, ...]:
    return row.node_id, (row.key or "?")[:SHOWN], _time(row.since), _time(row.last_seen), row.state


def _time(at_ms: int | None) -> str:
    return "?" if at_ms is None else time.strftime("%F %T", time.localtime(at_ms / 1000))
