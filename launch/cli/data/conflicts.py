"""The verbs about concurrent writes and versions: collection, conflicts, resolve, history, undelete."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from entgldb.launch.cli.common import as_json_text, common, plain, read_json, say, show, with_database
from entgldb.launch.cli.data.durations import read_duration, told
from entgldb.launch.cli.data.telling import hint_at, no_document, version_fields

if TYPE_CHECKING:
    from entgldb.client.database import Database
    from entgldb.messages.model import Version


def _word(version: Version | None) -> str:
    from entgldb.client.conflicts import version_text

    return "none" if version is None else version_text(version)


def _text(document: Any) -> str:
    return "deleted" if document is None else as_json_text(document)


@click.command()
@common
@click.argument("name")
@click.option("--conflict", type=click.Choice(["lww", "merge"]), help="Set the rule, on all nodes.")
@click.option(
    "--expire-after",
    type=read_duration,
    metavar="TIME",
    help="How long what is written from now on lives, on all nodes: 90s, 15m, 12h, 30d or never.",
)
@with_database
def collection(
    db: Database, as_json: bool, name: str, conflict: str | None, expire_after: float | None
) -> None:
    """Show or set how a collection settles concurrent writes, and how long its documents live.

    lww: of two documents the later one stands, the other is kept as a conflict. merge: fields are merged,
    of each field the later value stands. Set it once all nodes have this release of entgldb.

    \b
    Example:
      entgldb collection users --conflict merge
      entgldb collection sessions --expire-after 30d
    """
    changed = conflict is not None and db.set_conflict_rule(name, conflict)
    if expire_after is not None:
        changed |= db.set_expiry(name, None if expire_after == math.inf else expire_after)
    rule, life = db.conflict_rule(name), db.expiry(name)
    if as_json:
        show({"collection": name, "conflict": rule, "expire_after": life, "changed": changed})
    else:
        lives = "" if life is None else f", expires after {told(life)}"
        say(f"{name}: {rule}{lives}" + (", now on its way to all nodes" if changed else ""))


@click.command()
@common
@click.argument("collection", required=False)
@with_database
def conflicts(db: Database, as_json: bool, collection: str | None) -> None:
    """Show what lost to a concurrent write, beside what stands; it is kept, not applied.

    \b
    Example:
      entgldb conflicts users
      entgldb resolve users u1 lan-2/0f3c...:17 --take loser
    """
    if collection:
        hint_at(db, collection)
    found = db.conflicts(collection)
    for lost in found:
        if as_json:
            show(
                {
                    "collection": lost.collection,
                    "key": lost.key,
                    "rule": lost.rule,
                    "version": version_fields(lost.version),
                    "document": lost.document,
                    "at_ms": lost.at_ms,
                    "winner": {
                        "version": version_fields(lost.winner),
                        "document": lost.winner_document,
                        "at_ms": lost.winner_at_ms,
                    },
                }
            )
        else:
            say(lost.collection, plain(lost.key), lost.rule)
            say("  lost", _word(lost.version), _text(lost.document))
            say("  stands", _word(lost.winner), _text(lost.winner_document))
    if not found and not as_json:
        say("note: no version waits for a decision", err=True)


@click.command()
@common
@click.argument("collection")
@click.argument("key")
@click.argument("version")
@click.argument("document", required=False, metavar="[JSON|-]")
@click.option("--take", type=click.Choice(["loser", "winner"]), help="Which of the two is to stand.")
@with_database
def resolve(
    db: Database,
    as_json: bool,
    collection: str,
    key: str,
    version: str,
    document: str | None,
    take: str | None,
) -> None:
    """Settle a conflict, on all nodes: VERSION is what lost, as `conflicts` prints it.

    A new write settles it: of what lost (--take loser), of what stands (--take winner), or of a document.

    Example: entgldb resolve users u1 lan-2/0f3c...:17 --take loser
    """
    from entgldb.client.conflicts import read_version

    if (take is None) == (document is None):
        raise click.UsageError("Give either --take loser, --take winner, or a document.")
    choice = take if take is not None else read_json(document or "", "the document")
    made = db.resolve(collection, key, read_version(version), choice)
    if as_json:
        show({"collection": collection, "key": key, "resolved": version, "version": version_fields(made)})
    else:
        say(f"settled {collection}/{plain(key)}: {_word(made)}")


@click.command()
@common
@click.argument("collection")
@click.argument("key")
@with_database
def history(db: Database, as_json: bool, collection: str, key: str) -> None:
    """Show the versions of a document, newest first, as far as this node's log has them.

    Exit code 3 when nothing is known of it.

    Example: entgldb history users u1
    """
    from datetime import UTC, datetime

    told = db[collection].history(key)
    if not told.versions and not told.endings:
        raise no_document(db, collection, key, "no version of")
    if as_json:
        versions = [
            {**past._asdict(), "version": version_fields(past.version), "parent": version_fields(past.parent)}
            for past in told.versions
        ]
        endings = [{"version": version_fields(version), "reason": reason} for version, reason in told.endings]
        show({"collection": collection, "key": key, "versions": versions, "endings": endings})
        return
    for past in told.versions:
        at = datetime.fromtimestamp(past.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        say(f"{at}Z", past.op, past.state, _word(past.version))
        if past.document is not None:
            say(f"  {_text(past.document)}")
        elif past.change:
            say(f"  changed {_text(past.change)}")
    for version, reason in told.endings:
        say(f"the log ends here: {_word(version)} {reason}")


@click.command()
@common
@click.argument("collection")
@click.argument("key")
@with_database
def undelete(db: Database, as_json: bool, collection: str, key: str) -> None:
    """Bring a deleted document back: its newest live version that this node still has is written again.

    Exit code 3, and why, when there is none any more.

    Example: entgldb undelete users u1
    """
    version = db[collection].undelete(key)
    if as_json:
        show({"collection": collection, "key": key, "version": version_fields(version)})
    else:
        say(f"brought back {collection}/{plain(key)} as {_word(version)}")
