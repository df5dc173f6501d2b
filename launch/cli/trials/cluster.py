"""``entgldb cluster``: a local playground until Ctrl-C."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from entgldb.launch.cli.common import SCHEMA_VERSION, json_option

if TYPE_CHECKING:
    from entgldb.launch.playground.cluster import Playground


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--lan", type=click.IntRange(1, 16), default=3, show_default=True, help="LAN nodes.")
@click.option("--cloud", type=click.IntRange(0, 8), default=1, show_default=True, help="Cloud nodes.")
@json_option
def cluster(directory: Path, lan: int, cloud: int, as_json: bool) -> None:
    """Start LAN nodes, cloud nodes and an authorization server here, until Ctrl-C.

    Everything is real but the addresses, which are loopback. DIR must be empty or new.

    Example: entgldb cluster /tmp/play --lan 3 --cloud 1
    """
    if directory.exists() and any(directory.iterdir()):
        raise click.UsageError(f"{directory} is not empty.")
    from entgldb.launch.playground.cluster import Playground
    from entgldb.launch.playground.temporary import sweep

    sweep()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Playground(directory) as playground:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        playground.make_lan(lan)
        if cloud:
            playground.start_authority()
            for _ in range(cloud):
                playground.make_cloud()
        playground.start()
        click.echo(json.dumps(_facts(playground)) if as_json else _text(playground))
        signal.pause()


def _facts(playground: Playground) -> dict[str, object]:
    nodes = [
        {"node_id": m.node_id, "role": m.role, "directory": str(m.directory), "address": m.address}
        for m in playground.members
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "nodes": nodes,
        "authority": playground.authority,
        "client_id": playground.client_id,
        "client_secret": playground.client_secret,
        "ca_file": str(playground.ca_file) if playground.clouds else "",
    }


def _text(playground: Playground) -> str:
    lines = [f"{m.node_id:<9} {m.address:<16} {m.directory}" for m in playground.members]
    first = playground.lan[0].directory
    lines += ["", "Try:", f'  entgldb put -d {first} users u1 \'{{"name": "Ada"}}\'']
    lines.append(f"  entgldb get -d {playground.lan[-1].directory} users u1")
    lines.append(f"  entgldb status -d {first}")
    for cloud in playground.clouds[:1]:
        lines += [
            f"  ENTGLDB_CLIENT_SECRET={playground.client_secret} entgldb add-cloud-peer -d {first} \\",
            f"    --node-id {cloud.node_id} --address {cloud.address} --authority {playground.authority} \\",
            f"    --client-id {playground.client_id} --ca-file {playground.ca_file} --wait",
            f"  entgldb get -d {cloud.directory} users u1",
        ]
    lines += ["", "Ctrl-C stops everything; the directory stays."]
    return "\n".join(lines)
