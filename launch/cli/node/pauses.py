"""The verbs that pause and resume the links of one node."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from entgldb.launch.cli.common import common, say, show, utc, with_database
from entgldb.launch.cli.data.durations import read_duration, told

if TYPE_CHECKING:
    from entgldb.client.database import Database

KINDS = click.Choice(["lan", "cloud"])


@click.command()
@common
@click.argument("what", type=KINDS, metavar="lan|cloud")
@click.option(
    "--for", "seconds", type=read_duration, default="never", metavar="TIME", help="Such as 90s, 15m, 2h."
)
@with_database
def pause(db: Database, as_json: bool, what: str, seconds: float) -> None:
    """Have this node alone keep no links: to nodes of its LAN, or to clouds; writes go on and wait.

    It survives restarts, and ends by itself after --for, whatever becomes of the wall clock. A gateway whose
    cloud links are paused hands over to another node, which goes on. To have no node speak to a cloud
    peer, disable that peer (disable-peer). On a cloud node, cloud are its clients.

    \b
    Example:
      entgldb pause cloud --for 2h
      entgldb resume cloud
    """
    rows = _set(db, what, paused=True, seconds=0.0 if seconds == math.inf else max(seconds, 0.1))
    if as_json:
        show({"pauses": rows})
    else:
        _say(rows)


@click.command()
@common
@click.argument("what", type=KINDS, metavar="[lan|cloud]", required=False)
@with_database
def resume(db: Database, as_json: bool, what: str | None) -> None:
    """End a pause of this node's links: of one kind, or of all.

    Example: entgldb resume cloud
    """
    rows: list[Any] = list(db.status("store").get("pauses") or [])
    before = [row["what"] for row in rows]
    for kind in [what] if what else before:
        rows = _set(db, kind, paused=False)
    if as_json:
        show({"pauses": rows})
        return
    for kind in [what] if what else before:
        say(f"{kind} sync of this node {'is resumed' if kind in before else 'was not paused'}")
    if not what and not before:
        say("nothing was paused")
    _say(rows)


def _set(db: Database, what: str, *, paused: bool, seconds: float = 0.0) -> list[Any]:
    from entgldb.messages.administration import PauseSync
    from entgldb.messages.client import Report

    answer = db.request(PauseSync(what, paused, seconds))
    return list(answer.body["pauses"]) if isinstance(answer, Report) else []


def _say(rows: list[Any]) -> None:
    for row in rows:
        until = "until it is resumed"
        if row["left"] is not None:
            until = f"for {told(math.ceil(row['left']))} more, until {utc(row['until_ms'])}"
        say(f"{row['what']} sync of this node is paused {until}")
