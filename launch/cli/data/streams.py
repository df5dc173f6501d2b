"""The verbs that read or write many documents: import, export, changes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from entgldb.launch.cli.common import as_json_text, common, hint_at, plain, say, show, with_database
from entgldb.messages.errors import EntglError, TokenExpired

if TYPE_CHECKING:
    from entgldb.client.database import Database

PROGRESS_SECONDS: Final = 0.1
"""Between two lines of progress on a terminal."""


@click.command("import")
@common
@click.argument("collection")
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, readable=False, allow_dash=True, path_type=Path)
)
@click.option("--key", default="_key", show_default=True, metavar="FIELD", help="Field that is the key.")
@with_database
def import_(db: Database, as_json: bool, collection: str, file: Path, key: str) -> None:
    """Store every line of a JSON Lines file as a document.

    The key is taken from FIELD: text, or in the whole file whole numbers. The field _key, as `export` writes
    it, is left out of the document; any other field stays in it. A fault names its line, and how many
    documents were stored before it. Importing a file again changes nothing but versions.

    Example: entgldb import airports airports.jsonl --key icao
    """
    from entgldb.launch.cli.data.importing import Lines

    begun = time.monotonic()
    with nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb") as opened:
        lines = Lines(opened, str(file), key, collection)
        try:
            number = db[collection].put_many(_progress(lines, begun))
        except EntglError as fault:
            fault.text = f"{fault.text.removesuffix('.')}; {lines.stored(fault.stored)}"
            raise
    seconds = time.monotonic() - begun
    if as_json:
        show({"collection": collection, "documents": number, "seconds": round(seconds, 3)})
    else:
        say(f"imported {number} documents into {collection} in {seconds:.1f} s")


def _progress(pairs: Iterable[tuple[str, Any]], begun: float) -> Iterator[tuple[str, Any]]:
    """The same pairs, with a line that counts them on a terminal."""
    terminal, shown = sys.stderr.isatty(), begun
    try:
        for number, pair in enumerate(pairs, 1):
            yield pair
            now = time.monotonic()
            if terminal and now - shown >= PROGRESS_SECONDS:
                shown = now
                click.echo(f"\r{number} documents, {number / (now - begun):.0f}/s ", err=True, nl=False)
    finally:
        if shown != begun:
            click.echo("\r\x1b[K", err=True, nl=False)


@click.command()
@common
@click.argument("collection")
@with_database
def export(db: Database, as_json: bool, collection: str) -> None:
    """Write a collection as JSON Lines, by key; the key stands in the field _key.

    A document that has a field _key of its own stands whole in the field _document. With --json every line
    carries schema_version, key and document instead.

    Example: entgldb export users > users.jsonl
    """
    from entgldb.launch.cli.data.importing import exported

    document = None
    for document in db[collection].find():
        if as_json:
            show({"key": document.key, "document": document})
        else:
            say(as_json_text(exported(document.key, document)))
    if document is None:
        hint_at(db, collection)


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
    if collection:
        hint_at(db, collection)
    try:
        _show_changes(db, as_json, collection, db.token() if since == "now" else since, follow)
    except TokenExpired as fault:
        fault.hint = f"entgldb changes {collection or ''}".strip() + ": every document comes once more"
        raise


def _show_changes(
    db: Database, as_json: bool, collection: str | None, since: str | None, follow: bool
) -> None:
    found = db.changes(since, collection=collection, follow=follow)
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
            text = "deleted" if change.document is None else as_json_text(change.document)
            say(change.token, change.collection, plain(change.key), text)
        if follow:
            sys.stdout.flush()
    if as_json:
        show({"token": found.token})
    else:
        click.echo(f"next: --since {found.token}", err=True)
