"""The verbs that change what stands: the node decides in the transaction that writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from entgldb.launch.cli.common import common, plain, read_json, say, show, with_database
from entgldb.launch.cli.data.documents import ack_options, if_version_option, read_if_version, request_option
from entgldb.launch.cli.data.queries import nocase_option
from entgldb.launch.cli.data.telling import hint_at, no_document, reach, written_fields
from entgldb.storage.rules.updating.parse import UPDATE_DEPTH_MAX

if TYPE_CHECKING:
    from entgldb.client.database import Database


@click.command()
@common
@click.argument("collection")
@click.argument("key")
@click.argument("operators", default="-", metavar="[OPERATORS|-]")
@click.option("--upsert", is_flag=True, help="Begin with an empty document where there is none.")
@if_version_option
@request_option
@ack_options
@with_database
def update(
    db: Database,
    as_json: bool,
    collection: str,
    key: str,
    operators: str,
    upsert: bool,
    if_version: str | None,
    request: str | None,
    ack: tuple[Any, float],
) -> None:
    """Change fields of the document that stands; exit code 3 when there is none.

    $set $unset $inc $mul $min $max $push $pull $addToSet $rename are known, with paths like address.city.

    Example: entgldb update users u1 '{"$inc": {"logins": 1}, "$set": {"address.city": "Bari"}}'
    """
    version = (
        db[collection]
        .with_ack(*ack)
        .update(
            key,
            read_json(operators, "the update", UPDATE_DEPTH_MAX),
            if_version=read_if_version(if_version),
            upsert=upsert,
            request=request,
        )
    )
    if version is None:
        raise no_document(db, collection, key)
    if as_json:
        show({"collection": collection, "key": key, **written_fields(version)})
    else:
        say(f"{collection}/{plain(key)} is {version.seq} of {version.origin}{reach(version)}")


@click.command()
@common
@click.argument("collection")
@click.argument("filter", metavar="FILTER")
@click.argument("operators", default="-", metavar="[OPERATORS|-]")
@nocase_option
@with_database
def update_many(
    db: Database, as_json: bool, collection: str, filter: str, operators: str, collation: str | None
) -> None:
    """Change fields of all documents a filter matches; '{}' matches all.

    Each part of up to 500 is one transaction, in which the node looks again whether they match.

    Example: entgldb update-many users '{"age": {"$gte": 18}}' '{"$set": {"adult": true}}'
    """
    wanted = read_json(filter, "the filter")
    told = read_json(operators, "the update", UPDATE_DEPTH_MAX)
    number = db[collection].update_many(wanted, told, collation=collation)
    _tell(db, as_json, collection, "updated", number)


@click.command()
@common
@click.argument("collection")
@click.argument("filter", metavar="FILTER")
@nocase_option
@with_database
def delete_many(db: Database, as_json: bool, collection: str, filter: str, collation: str | None) -> None:
    """Delete all documents a filter matches; '{}' matches all.

    Each part of up to 500 is one transaction, in which the node looks again whether they match.

    Example: entgldb delete-many sessions '{"expires": {"$lt": 1790000000}}'
    """
    number = db[collection].delete_many(read_json(filter, "the filter"), collation=collation)
    _tell(db, as_json, collection, "deleted", number)


def _tell(db: Database, as_json: bool, collection: str, done: str, number: int) -> None:
    if as_json:
        show({"collection": collection, done: number})
    else:
        say(f"{done} {number} document{'' if number == 1 else 's'} of {collection}")
    if not number:
        hint_at(db, collection)
