"""The verbs that read or write many documents: import, export, changes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from entgldb.launch.cli.common import as_json_text, common, plain, read_json, say, show, with_database
from entgldb.launch.cli.data.telling import hint_at, version_fields
from entgldb.messages.errors import EntglError, TokenExpired

if TYPE_CHECKING:
    from entgldb.client.database import Database
    from entgldb.client.feed import Following
    from entgldb.client.feeds.selecting import Selected
    from entgldb.storage.documents.feed import Changes


format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    help="[default: by the name of the file, else jsonl]",
)
delimiter_option = click.option(
    "--delimiter",
    default=",",
    show_default=True,
    metavar="CHARACTER|tab",
    callback=lambda ctx, parameter, text: _delimiter(text),
    help="Between the cells of a CSV file.",
)


def _delimiter(text: str) -> str:
    made = "\t" if text == "tab" else text
    if len(made) != 1 or made in '\r\n"\0' or not made.isascii():
        raise click.BadParameter(f"{text!r} is not one character, such as ; or tab.")
    return made


@click.command("import")
@common
@click.argument("collection")
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, readable=False, allow_dash=True, path_type=Path)
)
@click.option("--key", default="_key", show_default=True, metavar="FIELD", help="Field that is the key.")
@format_option
@delimiter_option
@click.option("--typed", is_flag=True, help="CSV: cells that read as JSON, such as 12 or true, are that.")
@with_database
def import_(
    db: Database,
    as_json: bool,
    collection: str,
    file: Path,
    key: str,
    form: str | None,
    delimiter: str,
    typed: bool,
) -> None:
    """Store every line of a JSON Lines file, or every row of a CSV file, as a document.

    The key is taken from FIELD: text, or in the whole file whole numbers. The field _key, as `export` writes
    it, is left out of the document; any other field stays in it. A fault names its line, and how many
    documents were stored before it. Importing a file again changes nothing but versions.

    The first row of a CSV file names the fields. Each cell is text, unless --typed; an empty one is no field.

    \b
    Example:
      entgldb import airports airports.jsonl --key icao
      entgldb import prices prices.csv --key article --typed
    """
    from entgldb.client.streams.lines import Lines
    from entgldb.client.streams.tabular import Rows

    begun = time.monotonic()
    with nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb") as opened:
        read: Lines | Rows = (
            Rows(opened, str(file), key, collection, delimiter=delimiter, typed=typed)
            if (form or _form_of(file)) == "csv"
            else Lines(opened, str(file), key, collection)
        )
        try:
            number = db[collection].put_many(_progress(read, opened, file))
        except EntglError as fault:
            fault.text = f"{fault.text.removesuffix('.')}; {read.given.stored(fault.stored)}"
            raise
    seconds = time.monotonic() - begun
    if as_json:
        show({"collection": collection, "documents": number, "seconds": round(seconds, 3)})
    else:
        say(f"imported {number} documents into {collection} in {seconds:.1f} s")


def _form_of(file: Path) -> str:
    return "csv" if file.suffix.lower() in (".csv", ".tsv") else "jsonl"


def _progress(pairs: Iterable[tuple[str, Any]], opened: BinaryIO, file: Path) -> Iterator[tuple[str, Any]]:
    """The same pairs, with a bar that shows on a terminal how far the file is read."""
    if str(file) == "-" or not sys.stderr.isatty():
        yield from pairs
        return
    with click.progressbar(length=file.stat().st_size, label=file.name, file=sys.stderr) as bar:
        for pair in pairs:
            yield pair
            bar.update(opened.tell() - bar.pos)


@click.command()
@common
@click.argument("collection")
@format_option
@delimiter_option
@with_database
def export(db: Database, as_json: bool, collection: str, form: str | None, delimiter: str) -> None:
    """Write a collection as JSON Lines or CSV, by key; the key stands in the field _key.

    A document that has a field _key of its own stands whole in the field _document. With --json every line
    carries schema_version, key and document instead. CSV has a column for each field that any document has;
    arrays and objects stand in it as JSON: `import --typed` reads them back.

    \b
    Example:
      entgldb export users > users.jsonl
      entgldb export users --format csv > users.csv
    """
    if form == "csv":
        found = _export_rows(db, collection, delimiter)
    else:
        found = _export_lines(db, as_json, collection)
    if not found:
        hint_at(db, collection)


def _export_lines(db: Database, as_json: bool, collection: str) -> bool:
    """Whether there was a document."""
    from entgldb.client.streams.lines import exported

    document = None
    for document in db[collection].find():
        if as_json:
            show({"key": document.key, "document": document})
        else:
            say(as_json_text(exported(document.key, document)))
    return document is not None


def _export_rows(db: Database, collection: str, delimiter: str) -> bool:
    from entgldb.client.streams.tabular import Writer, columns

    writer = Writer(sys.stdout, columns(db[collection].find()), delimiter)
    document = None
    for document in db[collection].find():
        writer.write(document.key, document)
    return document is not None


@click.command()
@common
@click.argument("collection", required=False)
@click.option("--since", metavar="TOKEN", help="Go on after this token; now: what comes from here on.")
@click.option("--follow", is_flag=True, help="Wait for more until Ctrl-C.")
@click.option("--filter", "wanted", metavar="JSON", help="Documents that match it, and all deletes.")
@with_database
def changes(
    db: Database, as_json: bool, collection: str | None, since: str | None, follow: bool, wanted: str | None
) -> None:
    """Show what was written, oldest first, each key with its present version.

    At the end it tells the token to go on from, which goes with the node, whatever COLLECTION says: on
    standard error, with --json in a last line that has nothing else.

    \b
    Example:
      entgldb changes users --follow
      entgldb changes users --since now --follow
      entgldb changes users --filter '{"age": {"$gt": 30}}'
    """
    if collection:
        hint_at(db, collection)
    try:
        matching = None if wanted is None else read_json(wanted, "the filter")
        found = db.changes(since, collection=collection, filter=matching, follow=follow)
        _show_changes(found, as_json, flush=follow)
    except TokenExpired as fault:
        fault.hint = f"entgldb changes {collection or ''}".strip() + ": every document comes once more"
        raise


def _show_changes(found: Changes | Following | Selected, as_json: bool, *, flush: bool) -> None:
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
        if flush:
            sys.stdout.flush()
    if as_json:
        show({"token": found.token})
    else:
        click.echo(f"next: --since {found.token}", err=True)


@click.command()
@common
@click.argument("collection")
@click.argument("filter", default="{}", metavar="[FILTER]")
@click.option("--since", metavar="TOKEN", help="Go on after this token; now: what comes from here on.")
@with_database
def watch(db: Database, as_json: bool, collection: str, filter: str, since: str | None) -> None:
    """Show documents that enter a filter, change within it and leave it, until Ctrl-C.

    Without --since it begins with all that match.

    Example: entgldb watch orders '{"state": "open"}' --since now
    """
    hint_at(db, collection)
    for event in db[collection].watch(read_json(filter, "the filter"), since=since):
        if as_json:
            show({**event._asdict(), "version": version_fields(event.version)})
        else:
            text = "deleted" if event.document is None else as_json_text(event.document)
            say(event.token, event.kind, plain(event.key), text)
        sys.stdout.flush()
