"""The verb for another client secret, and how the secrets of cloud peers stand."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from entgldb.client.peers import OVERLAP_SECONDS
from entgldb.launch.cli.common import common, say, show, with_database
from entgldb.launch.cli.data.durations import read_duration, told
from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import SECRET_BYTES_MAX, SECRET_OVERLAP_MS_MAX

if TYPE_CHECKING:
    from entgldb.client.database import Database
    from entgldb.client.peers import SecretRow


def given_secret(file: Path | None, *, from_stdin: bool) -> str | None:
    """The secret in a file, at the standard input or asked for on a terminal; None where there is neither.

    Never from an argument, which every user of the machine may read. Raises InvalidError.
    """
    try:
        if file is not None:
            with file.open(encoding="utf-8") as opened:
                secret = opened.read(SECRET_BYTES_MAX + 2)
        elif from_stdin:
            secret = sys.stdin.read(SECRET_BYTES_MAX + 2)
        elif sys.stdin.isatty():
            secret = click.prompt("Client secret", hide_input=True, err=True)
        else:
            return None
    except OSError as fault:
        raise InvalidError(f"{file} cannot be read: {fault.strerror}") from None
    except ValueError:
        # its words would quote the secret
        raise InvalidError(f"the client secret {f'in {file} ' if file else ''}is no text in UTF-8") from None
    secret = secret.rstrip("\r\n")
    if not secret or len(secret.encode("utf-8", "surrogatepass")) > SECRET_BYTES_MAX:
        raise InvalidError(f"the client secret is empty or longer than {SECRET_BYTES_MAX} bytes")
    return secret


@click.command("rotate-secret")
@common
@click.argument("node_id", metavar="N")
@click.option("--client-secret-stdin", "from_stdin", is_flag=True, help="Read it from stdin.")
@click.option(
    "--client-secret-file", "file", type=click.Path(path_type=Path), help="Read it from a file, now."
)
@click.option(
    "--overlap",
    type=read_duration,
    metavar="TIME",
    default=told(OVERLAP_SECONDS),
    show_default=True,
    help="How long the one before counts beside it, such as 12h.",
)
@with_database
def rotate_secret(
    db: Database, as_json: bool, node_id: str, from_stdin: bool, file: Path | None, overlap: float
) -> None:
    """Give the client of cloud peer N another secret, without an interruption.

    The gateway uses the new one at once, and the one before as long as the authority refuses the new one. The
    one before goes, on all nodes, once the authority has taken the new one twice, a minute apart, or when the
    overlap is over; then remove it at the authority. Without an option it is asked for on a terminal.

    \b
    Example: entgldb rotate-secret cloud-1 --client-secret-file new.txt --overlap 2h
    """
    if file is not None and from_stdin:
        raise click.UsageError("--client-secret-file and --client-secret-stdin exclude each other.")
    if not 0 < overlap * 1000 <= SECRET_OVERLAP_MS_MAX:
        raise InvalidError(f"--overlap is more than 0 and at most {told(SECRET_OVERLAP_MS_MAX / 1000)}")
    secret = given_secret(file, from_stdin=from_stdin)
    if secret is None:
        raise InvalidError(
            "the client secret is missing", hint="--client-secret-stdin or --client-secret-file"
        )
    db.peers.rotate_secret(node_id, secret, overlap=overlap)
    row = next(one for one in db.peers.secrets() if one.node_id == node_id)
    if as_json:
        show(row._asdict())
    else:
        say(f"{node_id} has another client secret on all nodes; {_until(row)}")
        say("entgldb members tells when the one before is gone: remove it at the authority then")


def standing(rows: Iterable[SecretRow]) -> Iterator[str]:
    """A line for each secret with which something is to be done or going on."""
    for row in rows:
        if row.known_outside:
            yield f"the secret of {row.node_id} is known to a node that was expelled: give the client another"
            yield f"  one at the authority, then here: entgldb rotate-secret {row.node_id}"
        elif row.changes_over_until is not None:
            yield f"the secret of {row.node_id} changes over; {_until(row)}"


def _until(row: SecretRow) -> str:
    at = time.localtime((row.changes_over_until or 0) / 1000)
    return f"the one before counts beside it until {time.strftime('%F %T', at)} at the latest"
