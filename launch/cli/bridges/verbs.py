"""The verbs that run a bridge until they are told to end."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING

import click

from entgldb.launch.cli.common import common, database, say, show

if TYPE_CHECKING:
    from entgldb.integrations.place import Place

config_option = click.option(
    "--config",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="TOML, as docs/integrations.md tells.",
)


@click.group()
def bridge() -> None:
    """Hand changes to other systems, until Ctrl-C or SIGTERM: webhook, mqtt."""


@bridge.command()
@common
@config_option
def webhook(directory: Path, as_json: bool, config: Path) -> None:
    """POST each change to a URL.

    Signed as Standard Webhooks has it, in order and at least once.

    \b
    Example:
      entgldb bridge webhook -d n1 --config orders.toml
    """
    from entgldb.integrations.feeding import changes
    from entgldb.integrations.place import Place
    from entgldb.integrations.webhook.post import Poster
    from entgldb.integrations.webhook.sink import Edge, Sink
    from entgldb.launch.cli.bridges.webhook import read

    given = read(config)
    edge = Edge(time.time, time.sleep, SystemRandom(), _complain)
    with (
        contextlib.closing(Poster(given.url, given.ca_file, given.timeout)) as post,
        Place(directory, given.name) as place,
        database(directory) as db,
        _until_told(place, as_json),
    ):
        sink = Sink(post, given.terms, place, edge)
        say(f"{given.name}: changes of {', '.join(given.collections)} go to {given.url}", err=True)
        for change in changes(db, place, given.collections, given.since):
            sink.hand_over(change)


@bridge.command()
@common
@config_option
def mqtt(directory: Path, as_json: bool, config: Path) -> None:
    """Carry collections to topics of an MQTT 5 broker, and back.

    Each change at least once (QoS 1).

    \b
    Example:
      entgldb bridge mqtt -d n1 --config site.toml
    """
    from entgldb.integrations.feeding import changes
    from entgldb.integrations.place import Place
    from entgldb.launch.cli.bridges.reading import part

    module = part("entgldb.integrations.mqtt.bridge", "mqtt")
    from entgldb.integrations.mqtt.incoming import Writer
    from entgldb.launch.cli.bridges.mqtt import read

    with database(directory) as db:
        identity = db.token().partition(".")[0]
        given = read(config, identity)
        cluster = _cluster(directory) or identity
        with Place(directory, given.name) as place, _until_told(place, as_json):
            writer = Writer(db, given.ins, cluster)
            made = module.Bridge(given.broker, given.outs, given.ins, writer, place, cluster, _complain)
            with contextlib.closing(made):
                feed = changes(db, place, {out.collection for out in given.outs}, given.since)
                made.run(feed if given.outs else ())


def _cluster(directory: Path) -> str:
    """The name of the cluster that the directory has the key of, or empty."""
    from entgldb.actors.cluster_key import CLUSTER_KEY_NAME
    from entgldb.launch.node.config import cluster_name

    key = directory / CLUSTER_KEY_NAME
    return cluster_name(key) if key.is_file() else ""


def _complain(text: str) -> None:
    say(text, err=True)


@contextlib.contextmanager
def _until_told(place: Place, as_json: bool) -> Iterator[None]:
    """End the block at SIGINT and SIGTERM; tell what was done."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        if as_json:
            show({"name": place.file.stem, "counts": dict(place.counts)})
        else:
            say(" ".join(f"{name}={count}" for name, count in sorted(place.counts.items())) or "nothing done")
