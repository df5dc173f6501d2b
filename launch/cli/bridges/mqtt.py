"""The configuration of an MQTT bridge."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from entgldb.client.feeds.selecting import Selection
from entgldb.integrations.feeding import NOW, START
from entgldb.integrations.mqtt.bridge import Broker
from entgldb.integrations.mqtt.routes import ROUTES_MAX, In, Out, Topic
from entgldb.launch.cli.bridges.reading import BridgeFile, collection, existing, reference
from entgldb.launch.node.config_fields import Section
from entgldb.messages.errors import EntglError, InvalidError
from entgldb.messages.strict_json import read_object

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Site(NamedTuple):
    """All that is given of a bridge."""

    name: str
    broker: Broker
    outs: tuple[Out, ...]
    ins: tuple[In, ...]
    since: str


def read(file: Path, identity: str) -> Site:
    """``identity``: of the database, for the client id. Raises ConfigError with every fault."""
    given = BridgeFile(file)
    top = given.top
    plaintext = top.flag("plaintext", False)
    url = top.text("broker", required=True, check=lambda text: _broker(text, plaintext=plaintext))
    username = top.text("username")
    password = top.text("password", check=reference)
    client_id = top.text("client_id") or f"entgldb-{identity}-{given.name}"
    ca_file = existing(given, top.text("ca_file"))
    since = top.choice("since", (NOW, START), NOW)
    outs, ins = given.sections("out"), given.sections("in")
    if not 0 < len(outs) + len(ins) <= ROUTES_MAX:
        top.fault("out", f"1 to {ROUTES_MAX} tables [[out]] and [[in]] are expected")
    routes_out, routes_in = [_out(one) for one in outs], [_in(one) for one in ins]
    given.finish(*outs, *ins)
    parts = urlsplit(url)
    broker = Broker(
        parts.hostname or "",
        parts.port or _PORTS[parts.scheme],
        client_id,
        _tls(ca_file) if parts.scheme == "mqtts" else None,
        username,
        (lambda: given.secret(password)) if password else None,
    )
    return Site(given.name, broker, tuple(filter(None, routes_out)), tuple(filter(None, routes_in)), since)


def _broker(text: str, *, plaintext: bool) -> str:
    try:
        parts = urlsplit(text)
        fits = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0 and "@" not in text
    except ValueError:
        fits = False
    if not fits or parts.path or parts.query or parts.fragment:
        raise InvalidError(f"{text!r:.200} is not mqtts://HOST:PORT or mqtt://HOST:PORT")
    if parts.scheme == "mqtt" and parts.hostname not in _LOOPBACK and not plaintext:
        raise InvalidError(
            "mqtt:// beyond this machine can be read and changed on its way: mqtts://, or plaintext = true"
        )
    return text


def _tls(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as fault:
        raise InvalidError(f"ca_file {ca_file}: {fault.strerror or fault}") from None


def _topic(section: Section) -> Topic | None:
    text = section.text("topic", required=True)
    try:
        return Topic(text) if text else None
    except EntglError as fault:
        section.fault("topic", fault.text)
        return None


def _out(section: Section) -> Out | None:
    name = section.text("collection", required=True, check=collection)
    topic, retain, wanted = _topic(section), section.flag("retain", False), section.text("filter")
    takes = None
    if wanted:
        try:
            takes = Selection(None, None, read_object(wanted, "filter")).takes().document
        except EntglError as fault:
            section.fault("filter", fault.text)
    return Out(name, topic, retain, takes) if topic else None


def _in(section: Section) -> In | None:
    name = section.text("collection", required=True, check=collection)
    topic, retained = _topic(section), section.flag("retained", True)
    return In(topic, name, retained) if topic else None
