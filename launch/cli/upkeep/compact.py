"""``entgldb compact``: the file of a running node, as small as it can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from entgldb.client.wire import unless_refused
from entgldb.launch.cli.common import common, say, show, with_database
from entgldb.messages.administration import Compact
from entgldb.messages.client import Report

if TYPE_CHECKING:
    from entgldb.client.database import Database

PATIENCE_SECONDS: Final = 3600.0


@click.command()
@common
@with_database
def compact(db: Database, as_json: bool) -> None:
    """Forget what may be forgotten, then give the file's free pages back to the disk.

    Works on a running node, in steps of some 50 ms: readers and writers go on.

    Example: entgldb compact -d n1
    """
    answer = unless_refused(db.ask("oplog", Compact(), timeout=PATIENCE_SECONDS))
    body = answer.body if isinstance(answer, Report) else {}
    if as_json:
        show(body)
    else:
        before, after = body["before"] / 1e6, body["after"] / 1e6
        took = f"{body['seconds']:.1f} s, of which writers waited {body['longest_s']:.2f} s at most"
        say(f"{before:.1f} MB before, {after:.1f} MB after; in {took}")
