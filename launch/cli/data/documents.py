"""The verbs for single documents, and for collections as a whole."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, TextIO

import click

from entgldb.launch.cli.common import as_json_text, common, plain, read_json, say, show, table, with_database
from entgldb.launch.cli.data.durations import expire_option
from entgldb.launch.cli.data.telling import no_document, reach, version_fields, written_fields
from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import DEPTH_MAX
from entgldb.messages.strict_json import read_object

if TYPE_CHECKING:
    from entgldb.client.database import Database
    from entgldb.messages.model import Version


request_option = click.option(
    "--request",
    metavar="ID",
    help="Any text that names this write: repeated with the same ID it is not done again.",
)


def ack_options(function: Any) -> Any:
    """``--ack`` and ``--ack-timeout``; the verb takes them as ``ack``, to be given to ``with_ack``."""

    @functools.wraps(function)
    def verb(*, ack: str, ack_timeout: float, **options: Any) -> Any:
        from entgldb.client.spread import read_ack

        return function(ack=(read_ack(ack), ack_timeout), **options)

    for option in (
        click.option(
            "--ack-timeout", type=click.FloatRange(0.0), default=10.0, show_default=True, help="Seconds."
        ),
        click.option(
            "--ack",
            default="local",
            show_default=True,
            metavar="local|peers:N|all|cloud|NODE,NODE",
            help="Wait until they have it on their disks, too; exit code 5 when the time is over.",
        ),
    ):
        verb = option(verb)
    return verb


if_version_option = click.option(
    "--if-version",
    metavar="ORIGIN:SEQ",
    help="Refuse where another version stands; `get --json` tells it.",
)


def read_if_version(text: str | None) -> Version | None:
    """The version that must stand. Raises InvalidError."""
    from entgldb.client.conflicts import read_version

    return None if text is None else read_version(text)


def _changed(collection: str, key: str, printed: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The document that ``get --json`` had printed, changed to ``fields``. Raises InvalidError."""
    from entgldb.client.writes import document
    from entgldb.messages.model import Version
    from entgldb.storage.documents.reading import Read

    # the printed text is one level around a document
    got = read_object(printed, "--base", DEPTH_MAX + 1)
    try:
        version = Version(str(got["version"]["origin"]), int(got["version"]["seq"]))
        text = json.dumps(got["document"], ensure_ascii=False)
        good = (got["collection"], got["key"]) == (collection, key)
    except (ValueError, TypeError, KeyError):
        good = False
    if not good:
        raise InvalidError(
            f"--base is not what was got of {collection}/{key}",
            hint=f"entgldb get {collection} {key} --json > FILE",
        )
    made = document(collection, key, Read(text, version))
    made.clear()
    made.update(fields)
    return made


@click.command()
@common
@click.argument("collection")
@click.argument("key")
@click.argument("document", default="-", metavar="[JSON|-]")
@click.option(
    "--base",
    type=click.File(encoding="utf-8"),
    metavar="FILE",
    help="What `get --json` printed: where the collection merges, only what differs from it is written.",
)
@if_version_option
@expire_option
@request_option
@ack_options
@with_database
def put(
    db: Database,
    as_json: bool,
    collection: str,
    key: str,
    document: str,
    base: TextIO | None,
    if_version: str | None,
    expire_after: float | None,
    request: str | None,
    ack: tuple[Any, float],
) -> None:
    """Store a document; it is durable when this returns.

    Without --base the document is put whole, over whatever is there.

    \b
    Example:
      entgldb put users u1 '{"name": "Ada", "age": 36}'
      entgldb put orders o1 '{"sum": 12}' --ack peers:1
    """
    fields = read_json(document, "the document")
    if base is not None:
        fields = _changed(collection, key, base.read(), fields)
    acked = db[collection].with_ack(*ack)
    condition = read_if_version(if_version)
    version = acked.put(key, fields, if_version=condition, expire_after=expire_after, request=request)
    if as_json:
        show({"collection": collection, "key": key, **written_fields(version)})
    else:
        say(f"stored {collection}/{plain(key)} as {version.seq} of {version.origin}{reach(version)}")


@click.command()
@common
@click.argument("collection")
@click.argument("document", default="-", metavar="[JSON|-]")
@click.option(
    "--key", metavar="KEY", help="Its key; without one the document gets a new one, which is shown."
)
@expire_option
@request_option
@ack_options
@with_database
def insert(
    db: Database,
    as_json: bool,
    collection: str,
    document: str,
    key: str | None,
    expire_after: float | None,
    request: str | None,
    ack: tuple[Any, float],
) -> None:
    """Store a document under a new key, or refuse where this node has one under its key.

    Example: entgldb insert users '{"name": "Ada", "age": 36}'
    """
    fields, acked = read_json(document, "the document"), db[collection].with_ack(*ack)
    made = acked.insert(fields, key=key, expire_after=expire_after, request=request)
    version = made.version
    assert version is not None
    if as_json:
        show({"collection": collection, "key": made.key, **written_fields(version)})
    else:
        place = f"{collection}/{plain(made.key)}"
        say(f"inserted {place} as {version.seq} of {version.origin}{reach(version)}")


@click.command()
@common
@click.argument("collection")
@click.argument("key")
@with_database
def get(db: Database, as_json: bool, collection: str, key: str) -> None:
    """Show a document; exit code 3 when there is none.

    Example: entgldb get users u1
    """
    document = db[collection].get(key)
    if document is None:
        raise no_document(db, collection, key)
    if as_json:
        show(
            {
                "collection": collection,
                "key": key,
                "version": version_fields(document.version),
                "document": document,
            }
        )
    else:
        say(as_json_text(document))


@click.command()
@common
@click.argument("collection")
@click.argument("key")
@if_version_option
@request_option
@ack_options
@with_database
def delete(
    db: Database,
    as_json: bool,
    collection: str,
    key: str,
    if_version: str | None,
    request: str | None,
    ack: tuple[Any, float],
) -> None:
    """Delete a document; exit code 3 when there is none.

    Example: entgldb delete users u1
    """
    acked = db[collection].with_ack(*ack)
    version = acked.delete(key, if_version=read_if_version(if_version), request=request)
    if version is None:
        raise no_document(db, collection, key)
    if as_json:
        show({"collection": collection, "key": key, **written_fields(version)})
    else:
        say(f"deleted {collection}/{plain(key)}{reach(version)}")


@click.command()
@common
@click.option("--system", is_flag=True, help="Those of EntglDB itself, too.")
@with_database
def collections(db: Database, as_json: bool, system: bool) -> None:
    """Show the collections that ever had a document on this node, and how many each has now.

    Example: entgldb collections
    """
    rows = [(name, db[name].count(), db.conflict_rule(name)) for name in db.collections(system=system)]
    if as_json:
        show({"collections": [{"collection": n, "documents": many, "conflict": r} for n, many, r in rows]})
        return
    if rows:
        table(("collection", "documents", "conflict"), [(name, str(many), rule) for name, many, rule in rows])
    else:
        say("note: there has never been a document here. Try: entgldb put --help", err=True)
