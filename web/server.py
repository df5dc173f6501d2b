"""Runs the application: on loopback without a token, beyond it with TLS and tokens only."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import uvicorn

from entgldb.client import database as blocking_api
from entgldb.client.aio.database import IN_FLIGHT, Database
from entgldb.client.aio.requests import Requests
from entgldb.messages.errors import ConfigError, EntglError, ErrorCode
from entgldb.web.app import application
from entgldb.web.guard import LOOPBACK
from entgldb.web.tokens import Tokens

CONNECTIONS_MAX: Final = 2048
"""Connections at one time; one more is answered with 503."""
KEEP_SECONDS: Final = 30
"""An idle connection is closed after so long."""
STOP_SECONDS: Final = 2
"""Requests that run when the server is told to end have so long."""


class Place(NamedTuple):
    """Where a server listens, and as whom."""

    host: str
    port: int
    names: tuple[str, ...] = ()
    """Names that it has beside its address."""
    certificate: Path | None = None
    key: Path | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether nobody beyond this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def hosts(self) -> frozenset[str]:
        """The names by which a request may call it."""
        address = f"[{self.host}]" if ":" in self.host else self.host
        return frozenset((*self.names, address)) | (LOOPBACK if self.is_loopback else frozenset())


def read_place(listen: str) -> Place:
    """``HOST:PORT``. Raises ConfigError."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(f"{listen!r:.80} is no HOST:PORT", hint="127.0.0.1:8080")
    return Place(host.strip("[]"), int(port))


def serve(directory: Path, place: Place, ready: Callable[[str], None]) -> None:
    """Serve the node of ``directory`` until SIGINT or SIGTERM; ``ready`` is told the URL.

    Raises ConfigError for a place beyond loopback without TLS and a token, EntglError for one that is taken.
    """
    tokens = None if place.is_loopback else Tokens(directory)
    if tokens is not None and (place.certificate is None or place.key is None):
        raise ConfigError(
            f"{place.host} is reached from other machines, and there is no TLS",
            hint="--tls-cert FILE --tls-key FILE, or 127.0.0.1",
        )
    if tokens is not None and not tokens.all():
        raise ConfigError(
            f"{place.host} is reached from other machines, and there is no token",
            hint="entgldb http-token add NAME",
        )
    listener = _bound(place)
    port = listener.getsockname()[1]
    scheme = "http" if place.certificate is None else "https"
    host = f"[{place.host}]" if ":" in place.host else place.host
    app = application(_database(directory), hosts=place.hosts(), tokens=tokens)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=KEEP_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_certfile=place.certificate,
        ssl_keyfile=place.key,
    )
    with listener:
        ready(f"{scheme}://{host}:{port}")
        uvicorn.Server(config).run(sockets=[listener])


def _database(directory: Path) -> Database:
    """It connects when it is asked: the node may start later, and again."""
    blocking = blocking_api.Database(directory)
    return Database(blocking, Requests(blocking.directory, blocking.timeout, IN_FLIGHT))


def _bound(place: Place) -> socket.socket:
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((place.host, place.port))
        made.listen(CONNECTIONS_MAX)
    except OSError as fault:
        made.close()
        raise EntglError(
            f"{place.host}:{place.port} cannot be listened on: {fault.strerror}",
            code=ErrorCode.IN_USE,
            hint="another --listen HOST:PORT",
        ) from None
    return made
