"""All that can be found out about one node: by its own report where it runs, and from outside in any case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from entgldb.client.database import Database
from entgldb.client.health.finding import NODE, TOPICS, Finding, Look
from entgldb.client.health.reported import BY_TOPIC
from entgldb.launch.doctor import clouds, machine, multicast, outside
from entgldb.launch.doctor.outside import Place
from entgldb.messages.errors import EntglError

Progress = Callable[[str], None]


def examine(
    directory: Path, topics: Sequence[str] = TOPICS, progress: Progress = lambda topic: None
) -> dict[str, Look]:
    """Topic -> what was found, ``node`` first; ``progress`` is told each topic as it begins."""
    place = Place(directory)
    body, silence = _report(place)
    looks = {NODE: _merged(outside.node(place, silence), body, NODE)}
    if not place.directory.is_dir():
        return looks
    for topic in topics:
        progress(topic)
        looks[topic] = _merged(_FROM_OUTSIDE[topic](place), body, topic)
    return looks


def _report(place: Place) -> tuple[dict[str, Any] | None, str]:
    """The report of the node, or None; and why there is none where one runs."""
    if not place.running:
        return None, ""
    try:
        with Database(place.directory) as db:
            return db.status("node"), ""
    except EntglError as fault:
        return None, fault.text


def _merged(look: Look, body: dict[str, Any] | None, topic: str) -> Look:
    if body is None:
        return look
    told = BY_TOPIC[topic](body)
    return Look({**told.facts, **look.facts}, told.findings + look.findings)


def _network(place: Place) -> Look:
    port, certificate, heard = outside.port(place), outside.certificate(place), multicast.look(place)
    facts = {**port.facts, **certificate.facts, **heard.facts}
    return Look(facts, port.findings + certificate.findings + heard.findings)


_FROM_OUTSIDE: Final[dict[str, Callable[[Place], Look]]] = {
    "network": _network,
    "clock": machine.clock,
    "disk": machine.disk,
    "db": machine.db,
    "cloud": clouds.look,
}


def wrong(looks: dict[str, Look]) -> list[Finding]:
    """The findings that somebody should do something about."""
    return [one for look in looks.values() for one in look.findings if not one.harmless]
