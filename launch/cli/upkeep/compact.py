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
    """Forget what may be forgotten, then rewrite the file without its free pages.

    Works on a running node: readers go on; writers wait while the file is rewritten, about a second for
    each 100 MB that stay. It needs free space of twice what stays.

    Example: entgldb compact -d n1
    """
    answer = unless_refused(db.ask("oplog", Compact(), timeout=PATIENCE_SECONDS))
    body = answer.body if isinstance(answer, Report) else {}
    if as_json:
        show(body)
    else:
        before, after = body["before"] / 1e6, body["after"] / 1e6
        say(f"{before:.1f} MB before, {after:.1f} MB after; writers waited {body['seconds']:.1f} s")
