"""The verbs around a node's life: init, start, stop, version."""

from __future__ import annotations

import gc
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from entgldb._version import VERSION
from entgldb.launch.cli.common import asked, common, say, show

if TYPE_CHECKING:
    from entgldb.launch.node.init import Made, Plan


@click.command()
@common
@click.option("--node-id", default="", metavar="ID", help="[default: made from the host name]")
@click.option("--cluster-key-file", type=click.Path(path_type=Path), help="Join the cluster of this key.")
@click.option("--role", type=click.Choice(["lan", "cloud"]), default="lan", show_default=True)
@click.option(
    "--host",
    default="::",
    show_default=True,
    help="Address the TLS port listens on (:: is IPv4 and IPv6).",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="TLS port. [default: a free one]")
@click.option("--join", "code", default="", metavar="CODE", help="Become a member by the code of a member.")
@click.option("--seed", "seeds", multiple=True, metavar="HOST:PORT", help="A node to dial; repeatable.")
@click.option("--tls-cert", default="", metavar="F", help="Cloud role: server certificate, PEM.")
@click.option("--tls-key", default="", metavar="F", help="Cloud role: its private key, PEM.")
@click.option("--authority", default="", metavar="URL", help="Cloud role: whose tokens are accepted.")
@click.option("--audience", default="", metavar="A", help="Cloud role: the audience they are for.")
@click.option("--scope", "scopes", multiple=True, metavar="S", help="Cloud role. [default: entgldb:sync]")
@click.option("--allow-client", "allow_clients", multiple=True, metavar="ID", help="Cloud role: only these.")
@click.option("--authority-ca", default="", metavar="F", help="Cloud role: CA of the authority, PEM.")
@click.option(
    "--token-profile",
    default="",
    metavar="P",
    help="Cloud role: rfc9068, keycloak, auth0 or entra. [default: rfc9068]",
)
@click.option("--tenants", default="", metavar="WAY", help="Cloud role: serve many, by client, claim or map.")
@click.option(
    "--tenant-claim", default="", metavar="C", help="Cloud role, by claim: the claim that names one."
)
@click.option(
    "--tenant-map",
    multiple=True,
    metavar="CLIENT=TENANT",
    help="Cloud role, by map: whose tenant a client is of; repeatable.",
)
@click.option("--storage", default="", metavar="URL", help="Cloud role: the PostgreSQL of its tenants.")
def init(
    directory: Path,
    as_json: bool,
    node_id: str,
    cluster_key_file: Path | None,
    role: str,
    host: str,
    port: int,
    seeds: tuple[str, ...],
    code: str,
    scopes: tuple[str, ...],
    **cloud: str | tuple[str, ...],
) -> None:
    """Make the directory of a new node: its configuration and, on a LAN, the cluster key.

    The first node of a LAN makes the key. The others join by the code that entgldb invite shows on a member
    (--join - asks for it), or are given a copy of its cluster.key.

    \b
    Example:
      entgldb init -d n1 --node-id lan-1
      entgldb init -d n2 --join 0G50-0181-4KEG-0000-0006-J
      entgldb init -d n2 --node-id lan-2 --cluster-key-file n1/cluster.key --seed 10.0.5.1:9000
    """
    from entgldb.launch.node.init import CloudOptions, Plan

    if role == "lan" and any(cloud.values()):
        raise click.UsageError("The TLS and authority options belong to --role cloud.")
    if code and (role == "cloud" or cluster_key_file is not None):
        raise click.UsageError("--join is for a LAN node, and brings the cluster key with it.")
    options = None
    if role == "cloud":
        options = CloudOptions(scopes=scopes or ("entgldb:sync",), **cloud)  # type: ignore[arg-type]  # click gives str and tuple where declared so
    plan = Plan(directory, node_id, host, port, seeds, cluster_key_file, cloud=options)
    made = _made(plan, code)
    if as_json:
        show(
            {"directory": str(made.directory), "node_id": made.node_id, "role": made.role, "port": made.port}
        )
        return
    say(f"{made.role} node {made.node_id} in {made.directory}, TLS port {made.port}")
    if made.key_file is not None and cluster_key_file is None and not code:
        say(f"keep {made.key_file} secret; entgldb invite lets other machines join")
    say(f"next: entgldb start --dir {directory}")


def _made(plan: Plan, code: str) -> Made:
    """The node of ``plan``; with a code (``-`` asks for it) as a member of its inviter's cluster."""
    if not code:
        from entgldb.launch.node.init import init as make

        return make(plan)
    from entgldb.launch.joining.newcomer import become_member

    return become_member(plan, asked(code))


@click.command()
@common
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="entgldb.toml or appsettings.json. [default: DIR/entgldb.toml]",
)
@click.option("--detach", is_flag=True, help="Return when the node is ready; it goes on.")
@click.option("--http", metavar="HOST:PORT", help="Serve HTTP there, too. [default: http.listen]")
@click.option("--rebuild", is_flag=True, help="Set a damaged database aside first; the peers refill it.")
def start(
    directory: Path, as_json: bool, config: Path | None, detach: bool, http: str | None, rebuild: bool
) -> None:
    """Run the node until SIGTERM or Ctrl-C.

    With --http the node has an HTTP server beside it, which is begun again when it dies; port 0 is any.
    An appsettings.json adds its EntglDb block to the directory's own configuration. With --rebuild the
    database is begun anew under a new incarnation; the node's own writes that can be read, and that no peer
    has, are written again after the first sync.

    \b
    Example:
      entgldb start -d n1 --detach
      entgldb start -d n1 --http 127.0.0.1:8080
      entgldb start -d n1 --detach --rebuild
    """
    if rebuild:
        _rebuild(directory, config)
    if not detach:
        gc.disable()  # until the launcher forks: of what is loaded now hardly anything is garbage
        from entgldb.launch.node.config import load
        from entgldb.launch.node.launcher import run_node

        def ready(facts: dict[str, Any]) -> None:
            if "http" in facts:
                show({"directory": str(directory), **facts}) if as_json else say(f"serving {facts['http']}")

        run_node(directory, lambda: load(directory, config, http=http), ready)
        return
    from entgldb.launch.node.process import start_detached

    facts = start_detached(directory, config, http)
    if as_json:
        show({"directory": str(directory), **facts})
    else:
        served = f", {facts['http']}" if "http" in facts else ""
        say(f"started in {directory}, pid {facts.get('pid')}{served}")


def _rebuild(directory: Path, config: Path | None) -> None:
    from entgldb.launch.node.config import load
    from entgldb.launch.node.files import locked
    from entgldb.storage.recovery.rebuild import rebuild

    node_id = load(directory, config).store.node_id
    with locked(directory):
        done = rebuild(directory.resolve(), node_id, time.time_ns() // 1_000_000)
    say(
        f"the database is kept as {done.set_aside}; {done.salvaged} own writes were read of it,"
        f" {done.unreadable} rows could not be",
        err=True,
    )


@click.command()
@common
def stop(directory: Path, as_json: bool) -> None:
    """Stop the running node in good order, and wait until its last process is gone.

    Example: entgldb stop -d n1
    """
    from entgldb.launch.node.process import stop_node

    seconds = stop_node(directory)
    if as_json:
        show({"directory": str(directory), "seconds": round(seconds, 3)})
    else:
        say(f"stopped in {seconds:.1f} s")


@click.command()
@common
def version(directory: Path, as_json: bool) -> None:
    """Show the version of EntglDB and of what it runs on.

    Example: entgldb version --json
    """
    import sqlite3

    facts = {
        "version": VERSION,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "platform": platform.platform(),
    }
    if as_json:
        show(facts)
    else:
        say(f"entgldb {VERSION}, Python {facts['python']}, SQLite {facts['sqlite']}")
