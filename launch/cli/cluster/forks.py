"""The verbs for forked logs: they show the branches, and decide which one stays."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from entgldb.launch.cli.common import common, plain, say, show, with_database

if TYPE_CHECKING:
    from entgldb.client.database import Database


@click.command()
@common
def forks(directory: Path, as_json: bool) -> None:
    """Show logs of which two branches exist, with both proofs: entries that one writer made under one number.

    Nothing more of such a log is taken until `heal-origin` decides; all others go on.

    Example: entgldb forks --json
    """
    from contextlib import closing

    from entgldb.client.upkeep.forks import listed
    from entgldb.storage.file.open import open_reader

    with closing(open_reader(directory)) as connection:
        rows = listed(connection)
    if as_json:
        show({"forks": rows})
        return
    for row in rows:
        found = time.strftime("%F %T", time.localtime(row["at_ms"] / 1000))
        state = "waits for heal-origin" if row["quarantined"] else "healed"
        say(f"{row['origin']} {row['seq']}, found {found}, {state}")
        for name in ("ours", "theirs"):
            say(f"  {name:<7}{_line(row[name])}")


@click.command()
@common
@click.option(
    "--keep", type=click.Choice(["ours", "theirs"]), required=True, help="As `entgldb forks` shows."
)
@click.argument("origin")
@with_database
def heal_origin(db: Database, as_json: bool, keep: str, origin: str) -> None:
    """Decide which branch of a forked log stays, for all nodes of the LAN.

    Every node takes the other branch out; its last put to each key is kept as a conflict, or as
    the document where the key has no other version.

    Example: entgldb heal-origin lan-1/0123456789abcdef0123456789abcdef --keep ours
    """
    changed = db.heal_origin(origin, keep)
    if as_json:
        show({"origin": origin, "keep": keep, "changed": changed})
    else:
        say(f"{origin}: {keep} stays")


def _line(proof: dict[str, Any] | None) -> str:
    if proof is None or "key" not in proof:
        return "unknown"
    at = time.strftime("%F %T", time.localtime(proof["at_ms"] / 1000))
    place = f"{proof['collection']}/{plain(proof['key'])}"
    return f"{proof['seq']} {proof['op']} {place} at {at}, {proof['hash'][:16]}"
