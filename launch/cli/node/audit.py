"""``audit``: who did what on this node, and a proof that nobody has changed the answer."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from entgldb.launch.cli.common import FAILED, common, leave, plain, say, show, utc
from entgldb.launch.cli.data.durations import read_duration
from entgldb.messages.errors import EntglError, NoNodeError

if TYPE_CHECKING:
    from entgldb.messages.administration import Event
    from entgldb.storage.audit.rows import Row


@click.command()
@common
@click.option("--since", type=read_duration, default="never", metavar="TIME", help="So far back: 12h, 30d.")
@click.option("--verify", is_flag=True, help="Prove that the log is whole, in place of showing it.")
@click.option(
    "--noted", default="", metavar="ROW", help="With --verify: a row that was noted down has to be there."
)
def audit(directory: Path, as_json: bool, since: float, verify: bool, noted: str) -> None:
    """Show who did what on this node: peers, rules, members, keys, tokens, restores, refusals, leaders.

    The log is in the node's own file, is never replicated, and can be read while no node runs. Each row has a
    digest over the one before: `--verify` finds rows that were changed or taken away, and ends with 1 then.
    The newest rows can be missed only by somebody who has noted one elsewhere: `--verify` prints it.

    \b
    Example:
      entgldb audit --since 7d
      entgldb audit --verify
      entgldb audit --verify --noted 41:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    """
    from entgldb.storage.audit.reading import chained
    from entgldb.storage.file.open import open_reader

    with closing(open_reader(directory)) as connection:
        if verify:
            _verify(connection, noted, as_json=as_json)
            return
        from_ms = time.time() * 1000 - since * 1000
        rows = [row for row, _ in chained(connection) if row.at_ms >= from_ms]
    if as_json:
        show({"rows": [row._asdict() for row in rows]})
        return
    for row in rows:
        say(_line(row))


def note(directory: Path, event: Event, subject: str, outcome: str = "", key_id: str = "") -> None:
    """Have the audit log of the node in ``directory`` tell what this command does.

    A node that runs writes it down; where none does, this process writes into the file. Where there is no
    file yet, there is no log. A log that cannot be written is no reason to undo the act: a line says so.
    """
    from entgldb.client.database import connect
    from entgldb.messages.administration import Audited

    try:
        try:
            with connect(directory) as db:
                db.request(Audited(event.value, subject, outcome, key_id))
        except NoNodeError:
            _write(directory, event, subject, outcome, key_id)
    except EntglError as fault:
        say(f"note: this does not stand in the audit log: {fault.text}", err=True)


def _write(directory: Path, event: Event, subject: str, outcome: str, key_id: str) -> None:
    import os

    from entgldb.launch.node.config import load
    from entgldb.launch.node.files import locked
    from entgldb.storage.audit.rows import Act
    from entgldb.storage.audit.trail import Trail
    from entgldb.storage.file.open import FILE, open_file

    if not (directory / FILE).exists():
        return
    node_id = load(directory).store.node_id
    with locked(directory), closing(open_file(directory)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        who = f"uid {os.getuid()} pid {os.getpid()}"
        act = Act(event, subject, outcome, who, key_id)
        Trail(connection, node_id).note(act, time.time_ns() // 1_000_000)
        connection.execute("COMMIT")


def _verify(connection: Any, noted: str, *, as_json: bool) -> None:
    from entgldb.storage.audit.reading import verify
    from entgldb.storage.audit.rows import named

    found = verify(connection, noted)
    head = named(found.last, found.digest) if found.rows else ""
    if as_json:
        show({"rows": found.rows, "first": found.first, "newest": head, "faults": found.faults})
    else:
        for fault in found.faults:
            say(fault)
        how = "has faults" if found.faults else "is whole"
        say(f"the audit log {how}: {found.rows} rows from {found.first} on")
        if head:
            say(f"note this down elsewhere, to prove later that it was there: {head}")
    if found.faults:
        leave(FAILED)


def _line(row: Row) -> str:
    parts = [f"{row.number} {utc(row.at_ms)} {row.event}"]
    parts += [plain(part) for part in (row.subject, row.outcome) if part]
    parts += [f"key {plain(row.key_id)}"] if row.key_id else []
    parts += [f"by {plain(row.who)}"] if row.who else []
    parts += [f"on {row.node}"]
    parts += [f"and {row.left_out} more before"] if row.left_out else []
    return ", ".join(parts)
