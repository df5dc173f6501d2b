"""The verbs that keep a node's data safe from its disk: backup and restore."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from entgldb._version import VERSION
from entgldb.launch.cli.common import common, say, show
from entgldb.launch.cli.data.durations import read_duration
from entgldb.messages.errors import InvalidError


@click.command()
@common
@click.option("--verify", is_flag=True, help="Make nothing: read FILE against itself and its manifest.")
@click.option("--to", metavar="PLACE", help="A folder, or s3://BUCKET/PREFIX; instead of FILE.")
@click.option("--every", type=read_duration, metavar="TIME", help="--to again and again: 90m, 6h, 1d.")
@click.option("--keep", type=click.IntRange(1, 1000), default=10, show_default=True, help="--to: so many.")
@click.option(
    "--credentials",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="--to s3://...: TOML, see docs/integrations.md. [default: AWS_* of the environment]",
)
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
def backup(
    directory: Path, as_json: bool, verify: bool, file: Path | None, to: str | None, **offsite: Any
) -> None:
    """Copy a node, running or stopped, into FILE, and what it is into FILE.json; or put such copies away.

    The copy is checked as a whole and is written whole or not at all. It holds no private key, and client
    secrets only as they are stored: sealed, or as references.

    With --to it gets a name of its own, is read back where it was put, and the oldest of this node that
    are more than --keep are removed there; nothing else is.

    \b
    Example:
      entgldb backup -d n1 /backups/n1.db
      entgldb backup --verify /backups/n1.db
      entgldb backup -d n1 --to s3://backups/site --every 6h --keep 10
    """
    if (file is None) == (to is None) or (to is not None and verify):
        raise click.UsageError("One of FILE and --to is needed; --verify goes with FILE.")
    if to is not None:
        from entgldb.launch.cli.upkeep.offsite import put_away

        put_away(directory, to, as_json=as_json, **offsite)
        return
    assert file is not None
    from entgldb.storage.recovery import backup as backups

    if verify:
        manifest = backups.verify(file)
    else:
        manifest = backups.write(directory, file, VERSION, time.time_ns() // 1_000_000, _told)
    facts = {"file": str(file), "verified": True, **manifest._asdict()}
    if as_json:
        show(facts)
        return
    say(
        f"{file}: node {manifest.node_id}, {manifest.documents} documents, {manifest.entries} log entries,"
        f" as of {_time(manifest.at_ms)}; {'it is whole' if verify else 'checked'}"
    )


@click.command()
@common
@click.option("--authoritative", is_flag=True, help="What the backup holds wins on all nodes.")
@click.option("--dry-run", is_flag=True, help="Check FILE and show what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask for the node's name.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=False, path_type=Path))
def restore(
    directory: Path, as_json: bool, authoritative: bool, dry_run: bool, yes: bool, file: Path
) -> None:
    """Put a backup into the directory of a node that is stopped.

    The database that is there now is set aside. The node goes on under a new incarnation and, when it is
    started, gets from its peers all that happened since. With --authoritative every document of the backup
    is written anew, with the clock of now: it wins over whatever was written before this moment, on all
    nodes. Documents made since, of which the backup knows nothing, stay; so does the list of remote peers.

    \b
    Example:
      entgldb stop -d n1
      entgldb restore -d n1 /backups/n1.db
      entgldb restore -d n1 /backups/n1.db --authoritative --dry-run
    """
    from entgldb.launch.cli.node.audit import note
    from entgldb.launch.node.config import load
    from entgldb.launch.node.files import locked
    from entgldb.messages.administration import Event
    from entgldb.storage.recovery import backup as backups
    from entgldb.storage.recovery import restore as restores

    node_id = load(directory).store.node_id
    if dry_run or (authoritative and not yes):
        manifest = backups.verify(file)
        counts = restores.preview(file) if authoritative else {}
        _tell_plan(file, manifest, counts, as_json=as_json, done=dry_run)
        if dry_run:
            return
        typed = click.prompt(f"Type the node's name, {node_id}, to go on", err=True)
        if typed != node_id:
            raise InvalidError("that is not the node's name: nothing was changed")
    with locked(directory):
        done = restores.restore(
            file, directory.resolve(), node_id, time.time_ns() // 1_000_000, authoritative=authoritative
        )
    note(directory, Event.INCARNATION, done.origin, f"restored from {file.name}")
    _tell_restored(directory, done, as_json=as_json)


def _tell_plan(file: Path, manifest: Any, counts: dict[str, int], *, as_json: bool, done: bool) -> None:
    if as_json and done:
        show({"file": str(file), "dry_run": True, **manifest._asdict(), "reissue": counts})
        return
    say(
        f"{file}: node {manifest.node_id} as of {_time(manifest.at_ms)}, {manifest.documents} documents",
        err=as_json,
    )
    for collection, count in counts.items():
        say(f"would be written anew: {count} documents of {collection}", err=as_json)


def _tell_restored(directory: Path, done: Any, *, as_json: bool) -> None:
    if as_json:
        show(
            {
                "directory": str(directory),
                "origin": done.origin,
                "documents": done.manifest.documents,
                "reissued": done.reissued,
                "set_aside": done.set_aside,
            }
        )
        return
    say(f"restored {done.manifest.documents} documents as of {_time(done.manifest.at_ms)}")
    if done.reissued:
        say(f"written anew, to win on all nodes: {done.reissued} documents")
    if done.set_aside:
        say(f"what was there is kept in {directory / done.set_aside}; remove it when all is well")
    say(f"next: entgldb start --dir {directory}")


def _told(pages: int, of: int) -> None:
    """Progress, for a person at a terminal."""
    if sys.stderr.isatty():
        click.echo(f"\r{100 * pages // max(1, of)} %", err=True, nl=pages >= of)


def _time(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000))
