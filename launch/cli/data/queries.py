"""The verbs that ask: by filters, orders and pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from entgldb.launch.cli.common import (
    as_json_text,
    common,
    plain,
    read_json,
    read_stdin,
    say,
    show,
    with_database,
)
from entgldb.launch.cli.data.telling import hint_at
from entgldb.messages.errors import InvalidError
from entgldb.messages.strict_json import read_json as read_any

if TYPE_CHECKING:
    from entgldb.client.collection import Collection
    from entgldb.client.database import Database

nocase_option = click.option(
    "--nocase", "collation", flag_value="nocase", help="Compare texts without regard to case."
)


@click.command()
@common
@click.argument("collection")
@click.argument("filter", default="{}", metavar="[FILTER]")
@click.option(
    "--sort", multiple=True, metavar="F", help="Field path to sort by, -F for descending; may be repeated."
)
@click.option("--limit", type=click.IntRange(0), metavar="N", help="At most so many.")
@click.option("--skip", type=click.IntRange(0), default=0, metavar="N", help="Leave out the first.")
@click.option("--after", metavar="CURSOR", help="Go on behind the cursor that a find with --limit told.")
@click.option("--fields", multiple=True, metavar="F", help="Show this field path alone; may be repeated.")
@nocase_option
@click.option("--explain", is_flag=True, help="Tell how it is found, and which index would help.")
@with_database
def find(
    db: Database,
    as_json: bool,
    collection: str,
    filter: str,
    explain: bool,
    limit: int | None,
    fields: tuple[str, ...],
    **how: Any,
) -> None:
    """Show the documents a filter matches, one per line.

    A filter is a JSON object: {"age": 36}, {"age": {"$gte": 30}}, {"$or": [...]};
    docs/queries.md has all operators. {"tags": "a"} also finds an array that has it.

    Example: entgldb find users '{"age": {"$gte": 30}}' --sort -age --limit 10
    """
    wanted = read_json(filter, "the filter")
    if explain:
        _explain(db[collection], as_json, wanted, how)
        return
    found = db[collection].find(wanted, limit=limit, fields=fields or None, **how)
    number = 0
    for document in found:
        number += 1
        if as_json:
            place = {} if limit is None else {"cursor": found.cursor}
            show({"key": document.key, "document": document, **place})
        else:
            say(plain(document.key), as_json_text(document))
    if limit and number == limit and not as_json:
        say(f"note: there may be more. Try: --after {found.cursor}", err=True)
    if not number:
        hint_at(db, collection)


def _explain(collection: Collection, as_json: bool, wanted: dict[str, Any], how: dict[str, Any]) -> None:
    plan = collection.explain(wanted, sort=how["sort"], collation=how["collation"])
    if as_json:
        show({"collection": collection.name, **plan._asdict()})
    else:
        say(str(plan))


@click.command()
@common
@click.argument("collection")
@click.argument("filter", default="{}", metavar="[FILTER]")
@nocase_option
@with_database
def count(db: Database, as_json: bool, collection: str, filter: str, collation: str | None) -> None:
    """Count the documents a filter matches.

    Example: entgldb count airports '{"country": "IT"}'
    """
    number = db[collection].count(read_json(filter, "the filter"), collation=collation)
    if as_json:
        show({"collection": collection, "count": number})
    else:
        say(str(number))
    if not number:
        hint_at(db, collection)


@click.command()
@common
@click.argument("collection")
@click.argument("path")
@click.argument("filter", default="{}", metavar="[FILTER]")
@nocase_option
@with_database
def distinct(
    db: Database, as_json: bool, collection: str, path: str, filter: str, collation: str | None
) -> None:
    """Show the different values at a field path, as JSON, one per line; of an array, its elements.

    Example: entgldb distinct airports country '{"elevation": {"$gt": 4000}}'
    """
    values = db[collection].distinct(path, read_json(filter, "the filter"), collation=collation)
    if as_json:
        show({"collection": collection, "path": path, "values": values})
    for value in () if as_json else values:
        say(as_json_text(value))
    if not values:
        hint_at(db, collection)


@click.command()
@common
@click.argument("collection")
@click.argument("pipeline", default="-", metavar="[JSON|-]")
@nocase_option
@with_database
def aggregate(db: Database, as_json: bool, collection: str, pipeline: str, collation: str | None) -> None:
    """Show what the stages $match, $group, $sort and $limit make of a collection, one result per line.

    docs/queries.md describes them.

    Example: entgldb aggregate airports '[{"$group": {"_id": "$country", "n": {"$count": {}}}}]'
    """
    stages = read_any(read_stdin() if pipeline == "-" else pipeline, "the pipeline")
    if not isinstance(stages, list):
        raise InvalidError("the pipeline is no JSON array", hint='[{"$match": {...}}, {"$limit": 10}]')
    results = db[collection].aggregate(stages, collation=collation)
    for one in results:
        if as_json:
            show({"result": one})
        else:
            say(as_json_text(one))
    if not results:
        hint_at(db, collection)
