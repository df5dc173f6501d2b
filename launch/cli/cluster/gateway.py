"""The verb that tells who speaks to the clouds, and why the others do not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from entgldb.launch.cli.common import DEGRADED, common, leave, say, show, table, utc, with_database
from entgldb.messages.errors import UnsupportedError

if TYPE_CHECKING:
    from entgldb.client.database import Database


@click.command()
@common
@click.option("--history", is_flag=True, help="Also the gateways before, the newest first.")
@with_database
def gateway(db: Database, as_json: bool, history: bool) -> None:
    """Show which node is gateway, since when and why, and why each other node is not; 5 where nobody is.

    The gateway is the one node that speaks to the clouds. The first that differs decides: cloud peers that
    a node reaches, those whose secret it can resolve, election.priority, the smaller node id. Ranks are
    known of nodes that are linked with this one. The history is what this node has seen since it was
    started, at most 64 elections; earlier ones stand in its log.

    Example: entgldb gateway --history
    """
    body = db.status("node")
    if body.get("role") != "lan":
        raise UnsupportedError("a cloud node elects nobody", hint="entgldb status")
    told = found(body)
    if not history:
        del told["history"]
    if as_json:
        show(told)
    else:
        _say(told)
    if told["gateway"] is None:
        leave(DEGRADED)


def found(body: dict[str, Any]) -> dict[str, Any]:
    """The report of the node, as far as it is about the gateway."""
    election, past = body.get("election") or {}, body.get("gateways") or []
    latest = past[0] if past else {}
    return {
        "gateway": election.get("gateway"),
        "epoch": election.get("epoch"),
        "is_gateway": election.get("is_gateway"),
        "since_ms": latest.get("at_ms"),
        "why": latest.get("why", ""),
        "nodes": election.get("ranking") or [],
        "history": past,
    }


def _say(told: dict[str, Any]) -> None:
    mine = ", this node" if told["is_gateway"] else ""
    since = "" if told["since_ms"] is None else f", since {utc(told['since_ms'])} ({_ago(told['since_ms'])})"
    say(f"gateway {told['gateway'] or 'nobody'} (epoch {told['epoch']}{mine}){since}")
    if told["why"]:
        say(f"because {told['why']}")
    rows = [
        (row["node_id"], *_rank(row), "leads" if row["leads"] else row["why_not"]) for row in told["nodes"]
    ]
    table(("node", "reaches", "secrets", "priority", "why not"), rows)
    for past in told.get("history", ()):
        say(f"{utc(past['at_ms'])} epoch {past['epoch']} {past['gateway'] or 'nobody'}: {past['why']}")


def _rank(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple("?" if row[name] is None else str(row[name]) for name in ("reach", "resolvable", "priority"))


def _ago(ms: int) -> str:
    seconds = max(0, int(time.time() - ms / 1000))
    minutes = seconds // 60
    return (
        f"{minutes // 1440} d"
        if minutes >= 1440
        else f"{minutes // 60} h"
        if minutes >= 60
        else f"{minutes} min"
        if minutes
        else f"{seconds} s"
    )
