"""``entgldb why``: is a document here, where did it come from, who has it, and why has somebody not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from entgldb.launch.cli.common import NOT_FOUND, common, database, leave, plain, say, show
from entgldb.messages.errors import EntglError, NotFoundError


@click.command()
@common
@click.argument("collection")
@click.argument("key")
@click.option("--on", default="", metavar="N", help="Tell of this node only.")
def why(directory: Path, as_json: bool, collection: str, key: str, on: str) -> None:
    """Tell whether a document is here and on the other nodes, where it came from, and why it is missing.

    Works without a running node, too, as far as its file knows. The reasons: peer-offline, not-yet-sent,
    held-clock, quarantined, overwritten, deleted, expired, filtered, auth, disk-full, behind-snapshot,
    unknown.
    Exits with 3 when no node that is known has it.

    \b
    Example:
      entgldb why users u1
      entgldb why users u1 --on lan-3
    """
    from entgldb.client.upkeep.why import trace

    told = trace(directory, collection, key, _live(directory))
    rows = told["nodes"]
    if on:
        rows = [row for row in rows if row["node_id"] == on]
        if not rows:
            raise NotFoundError(f"no node {on:.80} is known here", hint="entgldb nodes")
    if as_json:
        show({**told, "nodes": rows})
    else:
        _tell(collection, key, rows, told["versions"])
    if not any(row["has"] for row in rows):
        leave(NOT_FOUND)


def _live(directory: Path) -> dict[str, Any]:
    """The status of the running node; empty where none runs or answers."""
    try:
        with database(directory) as db:
            return dict(db.status("node"))
    except EntglError:
        return {}


def _tell(collection: str, key: str, rows: list[dict[str, Any]], versions: list[dict[str, Any]]) -> None:
    for row in rows:
        place = f"{row['node_id']}{' (this node)' if row['here'] else ''}"
        say(f"{place:<24} {'has it' if row['has'] else 'has it not: ' + row['reason']}")
    if not versions:
        say(f"no version of {collection} {plain(key)} is known here")
    for one in versions:
        came = "" if one["came_from"] is None else f", came from {one['came_from']} {_time(one['came_ms'])}"
        state = "shown" if one["shown"] else one["reason"]
        say(f"  {one['op']} {one['origin']} {one['seq']}, written {_time(one['written_ms'])}{came}: {state}")


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
