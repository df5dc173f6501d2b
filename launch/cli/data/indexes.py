"""The verbs for the indexes of a node."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from entgldb.launch.cli.common import common, plain, say, show, with_database
from entgldb.messages.errors import NoNodeError
from entgldb.messages.limits import DEPTH_MAX
from entgldb.messages.strict_json import read_object

if TYPE_CHECKING:
    from entgldb.client.database import Database
    from entgldb.storage.indexes.listing import IndexInfo


@click.group()
def index() -> None:
    """Make, show and drop the indexes of a node.

    Example: entgldb index create users address.city
    """


@index.command()
@common
@click.argument("collection")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--unique", is_flag=True, help="Refuse writes on this node that repeat another document's values."
)
@click.option("--where", metavar="JSON", help="Index only documents that match this filter.")
@click.option("--text", is_flag=True, help="Index the words of the fields, for $text.")
@click.option("--everywhere", is_flag=True, help="On every node of the cluster.")
@click.option("--name", help="[default: made of the paths]")
@with_database
def create(
    db: Database,
    as_json: bool,
    collection: str,
    paths: tuple[str, ...],
    unique: bool,
    where: str | None,
    text: bool,
    everywhere: bool,
    name: str | None,
) -> None:
    """Make an index; the node builds it while writes go on.

    Values fall where a path begins with '-': put '--' before the paths then.

    \b
    Example:
      entgldb index create users email --unique --everywhere
      entgldb index create --where '{"state": "open"}' orders -- customer -placed
      entgldb index create notes title body --text
    """
    condition = None if where is None else read_object(where, "--where", DEPTH_MAX)
    made = db[collection].create_index(
        paths, unique=unique, where=condition, text=text, everywhere=everywhere, name=name
    )
    (info,) = [one for one in db[collection].indexes() if one.name == made]
    if as_json:
        show(info._asdict())
    elif info.ready:
        say(f"indexed {collection}: {plain(made)}")
    else:
        say(f"index {plain(made)} of {collection} is being built; entgldb index list tells how far it is")


@index.command("list")
@common
@click.argument("collection", required=False)
@with_database
def list_(db: Database, as_json: bool, collection: str | None) -> None:
    """Show the indexes of the node, or of one collection.

    Example: entgldb index list users
    """
    found = db.indexes(collection)
    refused = _refused(db) if collection is None else []
    if as_json:
        show({"indexes": [one._asdict() for one in found], "refused": refused})
        return
    for one in found:
        say(plain(one.collection), plain(one.name), ", ".join(map(plain, one.paths)), _kind(one))
    for text in refused:
        say(f"not here: {plain(text)}")


@index.command()
@common
@click.argument("collection")
@click.argument("name")
@with_database
def drop(db: Database, as_json: bool, collection: str, name: str) -> None:
    """Drop an index.

    One made with --everywhere is dropped on every node.

    Example: entgldb index drop users email
    """
    db[collection].drop_index(name)
    if as_json:
        show({"collection": collection, "dropped": name})
    else:
        say(f"dropped {plain(name)} of {collection}")


@index.command()
@common
@click.argument("collection")
@click.argument("name")
@with_database
def rebuild(db: Database, as_json: bool, collection: str, name: str) -> None:
    """Build an index again from nothing, where verify found it wrong.

    Example: entgldb index rebuild users email
    """
    db[collection].rebuild_index(name)
    if as_json:
        show({"collection": collection, "rebuilt": name})
    else:
        say(f"index {plain(name)} of {collection} is built again; entgldb index list tells how far it is")


@index.command()
@common
@click.argument("collection")
@click.argument("name")
@with_database
def shared(db: Database, as_json: bool, collection: str, name: str) -> None:
    """Show values of a unique index that several documents have.

    Other nodes wrote them meanwhile.

    Example: entgldb index shared users email
    """
    found = db[collection].shared_values(name)
    if as_json:
        show({"collection": collection, "index": name, "shared": [one._asdict() for one in found]})
        return
    for one in found:
        say(json.dumps(one.values, ensure_ascii=False), ", ".join(map(plain, one.keys)))


def _refused(db: Database) -> list[str]:
    """The indexes that every node shall have and this one has not, with the reason."""
    try:
        told: Any = db.status("store").get("indexes")
    except NoNodeError:
        # the file tells of the indexes without a node
        return []
    return list(told["refused"])


def _kind(info: IndexInfo) -> str:
    words = []
    if info.unique:
        words.append("unique")
    if info.text:
        words.append("text")
    if info.where is not None:
        words.append("where " + json.dumps(info.where, ensure_ascii=False))
    if info.everywhere:
        words.append("everywhere")
    if not info.ready:
        words.append(f"being built, {info.walked} of {info.documents}")
    return ", ".join(words)
