"""The verbs that read or write many documents: import, export, changes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from entgldb.launch.cli_common import common, show, with_database
from entgldb.messages.errors import InvalidError, UnsupportedError

if TYPE_CHECKING:
    from entgldb.launch.client import Database

PROGRESS_SECONDS: Final = 0.1
"""Between two lines of progress on a terminal."""


@click.command("import")
@common
@click.argument("collection")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--key", default="_key", show_default=True, metavar="FIELD", help="Field that is the key.")
@with_database
def import_(db: Database, as_json: bool, collection: str, file: Path, key: str) -> None:
    """Store every line of a JSON Lines file as a document.

    The key is taken from FIELD. The field _key, as `export` writes it, is left out of the document;
    any other field stays in it. Importing a file again changes nothing but versions.

    Example: entgldb import airports airports.jsonl --key icao
    """
    begun = time.monotonic()
    with nullcontext(sys.stdin) if str(file) == "-" else file.open(encoding="utf-8-sig") as lines:
        number = db[collection].put_many(_progress(_pairs(lines, key, str(file)), begun))
    seconds = time.monotonic() - begun
    if as_json:
        show({"collection": collection, "documents": number, "seconds": round(seconds, 3)})
    else:
        click.echo(f"imported {number} documents into {collection} in {seconds:.1f} s")


def _pairs(lines: TextIO, field: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as fault:
            raise InvalidError(f"{name}, line {number}: not JSON: {fault}") from None
        if not isinstance(document, dict):
            raise InvalidError(f"{name}, line {number}: not a JSON object")
        value = document.get(field)
        if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
            raise InvalidError(
                f"{name}, line {number}: no field {field} that could be a key",
                hint="entgldb import COLLECTION FILE --key FIELD",
            )
        if field == "_key":
            del document[field]
        yield str(value), document


def _progress(pairs: Iterable[tuple[str, Any]], begun: float) -> Iterator[tuple[str, Any]]:
    """The same pairs, with a line that counts them on a terminal."""
    terminal, shown = sys.stderr.isatty(), begun
    number = 0
    for number, pair in enumerate(pairs, 1):
        yield pair
        now = time.monotonic()
        if terminal and now - shown >= PROGRESS_SECONDS:
            shown = now
            click.echo(f"\r{number} documents, {number / (now - begun):.0f}/s ", err=True, nl=False)
    if terminal and number:
        click.echo("\r\x1b[K", err=True, nl=False)


@click.command()
@common
@click.argument("collection")
@with_database
def export(db: Database, as_json: bool, collection: str) -> None:
    """Write a collection as JSON Lines, by key; the key stands in the field _key.

    With --json every line carries schema_version, key and document instead.

    Example: entgldb export users > users.jsonl
    """
    for document in db[collection].find():
        if as_json:
            show({"key": document.key, "document": document})
        elif "_key" in document:
            raise UnsupportedError(
                f"document {document.key!r:.80} has a field _key of its own",
                hint=f"entgldb export {collection} --json",
            )
        else:
            click.echo(json.dumps({"_key": document.key, **document}, ensure_ascii=False))


@click.command()
@common
@click.argument("collection", required=False)
@click.option("--since", metavar="TOKEN", help="Go on after this token; now: what comes from here on.")
@click.option("--follow", is_flag=True, help="Wait for more until Ctrl-C.")
@with_database
def changes(db: Database, as_json: bool, collection: str | None, since: str | None, follow: bool) -> None:
    """Show what was written, oldest first, each key with its present version.

    At the end it tells the token to go on from, which goes with the node, whatever COLLECTION says: on
    standard error, with --json in a last line that has nothing else.

    \b
    Example:
      entgldb changes users --follow
      entgldb changes users --since now --follow
    """
    found = db.changes(db.token() if since == "now" else since, collection=collection, follow=follow)
    for change in found:
        if as_json:
            show(
                {
                    "token": change.token,
                    "collection": change.collection,
                    "key": change.key,
                    "document": change.document,
                    "deleted": change.document is None,
                    "version": {"origin": change.version.origin, "seq": change.version.seq},
                    "at_ms": change.at_ms,
                }
            )
        else:
            text = "deleted" if change.document is None else json.dumps(change.document, ensure_ascii=False)
            click.echo(f"{change.token}\t{change.collection}\t{change.key}\t{text}")
        if follow:
            sys.stdout.flush()
    if as_json:
        show({"token": found.token})
    else:
        click.echo(f"next: --since {found.token}", err=True)
