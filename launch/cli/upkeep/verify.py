"""``entgldb verify``: is the file whole, and do all nodes show the same?"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from entgldb.launch.cli.common import DEGRADED, common, database, leave, plain, say, show
from entgldb.messages.errors import NoAnswerError, NoNodeError

if TYPE_CHECKING:
    from entgldb.client.database import Database

POLL: Final = 0.1
"""Seconds between looks at how a comparison is getting on."""
BAD: Final = ("differing", "no-answer", "peer-offline")


@click.command()
@common
@click.option(
    "--peer", default="", metavar="N", help="Compare with this node only. [default: all that are linked]"
)
@click.option("--repair", is_flag=True, help="Replace rows that are wrong by rule, on both sides.")
@click.option("--local", is_flag=True, help="Look at the file only; no running node is needed.")
@click.option("--deep", is_flag=True, help="Check every signature, and every page of the file, too.")
@click.option("--timeout", type=click.FloatRange(1, 86_400), default=600, show_default=True, help="s")
def verify(
    directory: Path, as_json: bool, peer: str, repair: bool, local: bool, deep: bool, timeout: float
) -> None:
    """Check the file of a node, and compare its documents with those of other nodes.

    The file: chains of the log, the newest signature of each, digests, rows, counts; this works without a
    running node, too. With other nodes: fingerprints of ranges of keys, and rows that differ are listed. An
    entry that is merely on its way is no difference. --repair replaces rows where a rule tells which side is
    right; the others stay, listed. Exits with 5 when something is wrong.

    \b
    Example:
      entgldb verify
      entgldb verify --peer lan-2 --repair
    """
    findings, rows = _look(directory, deep)
    peers: list[dict[str, Any]] = []
    compared = not local
    if not local:
        try:
            with database(directory) as db:
                peers = _compare(db, peer, repair, timeout)
        except NoNodeError:
            if peer or repair:
                raise
            compared = False
    if as_json:
        body = {"findings": [one._asdict() for one in findings], "rows": rows, "compared": compared}
        show({**body, "peers": peers, "ok": not _wrong(findings, peers)})
    else:
        _tell(findings, rows, peers, compared)
    if _wrong(findings, peers):
        leave(DEGRADED)


def _wrong(findings: list[Any], peers: list[dict[str, Any]]) -> bool:
    return bool(findings) or any(row["result"] in BAD for row in peers)


def _look(directory: Path, deep: bool) -> tuple[list[Any], int]:
    from entgldb.storage.recovery.check import Checkup

    checkup = Checkup.open(directory, _progress if sys.stderr.isatty() else lambda what, done, total: None)
    try:
        return checkup.run(deep=deep), checkup.rows
    finally:
        checkup.close()
        if sys.stderr.isatty():
            click.echo("\r\x1b[K", nl=False, err=True)


def _progress(what: str, done: int, total: int) -> None:
    click.echo(f"\r\x1b[K{what} {done} of {total}", nl=False, err=True)


def _compare(db: Database, peer: str, repair: bool, timeout: float) -> list[dict[str, Any]]:
    runs = db.verify(peer, repair=repair)
    deadline = time.monotonic() + timeout
    while True:
        rows = db.status("oplog")["verify"]["peers"]
        mine = [row for row in rows if row["node_id"] in runs]
        if not any(row["running"] for row in mine):
            return mine
        if time.monotonic() > deadline:
            raise NoAnswerError(
                f"still comparing after {timeout:.0f} s", hint="entgldb status tells how it ends"
            )
        time.sleep(POLL)


def _tell(findings: list[Any], rows: int, peers: list[dict[str, Any]], compared: bool) -> None:
    for one in findings:
        say(f"{one.kind} {one.where}: {one.text}  -> {one.hint}")
    say(f"file: {rows} rows read, {len(findings) or 'nothing'} wrong")
    for row in peers:
        for collection, key, decision in row["keys"]:
            say(f"{row['node_id']} {collection} {plain(key)}: {_MEANING[decision]}")
        say(
            f"{row['node_id']}: {row['result']}, {row['differing']} differ, {row['waiting']} on their way,"
            f" {row['bytes']} bytes exchanged"
        )
    if not compared:
        say("no node was asked to compare")
    elif not peers:
        say("no peer is linked now")


_MEANING: Final = {
    "take": "the row there is right",
    "keep": "the row here is right",
    "undecided": "no rule tells which is right; write it again",
}
