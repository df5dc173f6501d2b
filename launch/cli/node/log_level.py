"""The verb for what a running node writes into its log."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import click

from entgldb.launch.cli.common import common, say, show, with_database
from entgldb.launch.cli.data.durations import read_duration, told

if TYPE_CHECKING:
    from entgldb.client.database import Database

CONFIGURED: Final = "configured"
LEVELS: Final = ("debug", "info", "warning", "error", CONFIGURED)


@click.command("log-level")
@common
@click.argument("level", type=click.Choice(LEVELS, case_sensitive=False), required=False, metavar="[LEVEL]")
@click.option(
    "--for", "seconds", type=read_duration, default="never", metavar="TIME", help="Such as 10m, 1h."
)
@with_database
def log_level(db: Database, as_json: bool, level: str | None, seconds: float) -> None:
    """Have all actors of a running node log at debug, info, warning, error, or as configured; or show it.

    It holds until the node is started again, or for the time of --for. At debug each write is a line with
    its request id and the versions that it made, and these are named on each node that gets them: so a
    request is followed from its client to every copy. No line holds a document, a key, a token or a secret.

    \b
    Example:
      entgldb log-level debug --for 10m
      entgldb log-level
    """
    if level is None:
        body: dict[str, Any] = db.status("node")["log"]
    else:
        from entgldb.client.wire import unless_refused
        from entgldb.messages.administration import SetLogLevel
        from entgldb.messages.client import Report

        wanted = "" if level.lower() == CONFIGURED else level.upper()
        answer = unless_refused(
            db.ask("node", SetLogLevel(wanted, 0.0 if seconds == math.inf else max(seconds, 0.1)))
        )
        body = answer.body if isinstance(answer, Report) else {}
    if as_json:
        show(body)
    else:
        left = "" if body["seconds"] is None else f", for {told(math.ceil(body['seconds']))} more"
        say(f"{str(body['level']).lower()}{left}")
