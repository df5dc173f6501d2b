"""Runs the application: on loopback without a token, beyond it with TLS and tokens only."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn

from entgldb.client import database as blocking_api
from entgldb.client.aio.database import IN_FLIGHT, Database
from entgldb.client.aio.requests import Requests
from entgldb.web.app import application
from entgldb.web.door.pace import CONNECTIONS_MAX, paced
from entgldb.web.door.place import Place
from entgldb.web.door.tokens import Tokens

KEEP_SECONDS: Final = 30
"""An idle connection is closed after so long."""
STOP_SECONDS: Final = 1
"""Requests that run when the server is told to end have so long."""
FILES_BESIDE: Final = 256
"""Open files beside the connections: the database, sockets of the node, downloads."""
TURN_SECONDS: Final = 1.0
"""Between two turns of the server's own loop, which has to set the date of answers."""
BEAT_TURNS: Final = 5


def serve(
    directory: Path,
    place: Place,
    ready: Callable[[str], None],
    *,
    listener: socket.socket | None = None,
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Serve the node of ``directory`` until SIGINT or SIGTERM; ``ready`` is told the URL.

    ``listener``: a socket that listens there already. ``beat`` is called every BEAT_TURNS seconds while
    requests are served. Raises ConfigError for a place beyond loopback without TLS and a token, EntglError
    for one that is taken.
    """
    place.check(directory)
    listener = place.listen() if listener is None else listener
    tokens = Tokens(directory) if place.asks else None
    app = application(_database(directory), hosts=place.hosts(), tokens=tokens)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody asks where a request came from
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=KEEP_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_certfile=place.certificate,
        ssl_keyfile=place.key,
        ws="none",
    )
    config.http_protocol_class = paced(config)
    _let_open(CONNECTIONS_MAX + FILES_BESIDE)
    with listener:
        ready(place.url(listener.getsockname()[1]))
        _Server(config, place, beat).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Uvicorn's own looks ten times a second whether to end; this one is woken up."""

    def __init__(self, config: uvicorn.Config, place: Place, beat: Callable[[], None]) -> None:
        super().__init__(config)
        self._place, self._beat = place, beat
        self._woken: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._certified = _mark(place)

    async def main_loop(self) -> None:
        self._loop, self._woken = asyncio.get_running_loop(), asyncio.Event()
        # the counter of turns: uvicorn sets the date of answers at every tenth
        turns = 0
        while not await self.on_tick(0) and not self.should_exit:
            if turns % BEAT_TURNS == 0:
                self._beat()
                self._renew()
            turns += 1
            try:
                await asyncio.wait_for(self._woken.wait(), TURN_SECONDS)
            except TimeoutError:
                continue

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._loop is not None and self._woken is not None:
            # a handler of a signal runs between two instructions of the loop, which may be asleep
            self._loop.call_soon_threadsafe(self._woken.set)

    def _renew(self) -> None:
        """Show a certificate that has been replaced to those who connect from now on."""
        mark = _mark(self._place)
        if mark is None or mark == self._certified or self.config.ssl is None:
            return
        self._certified = mark
        try:
            self.config.ssl.load_cert_chain(str(self._place.certificate), str(self._place.key))
        except OSError:  # half of the pair is written: both are looked at again
            self._certified = ()


def _let_open(files: int) -> None:
    """Have the system allow so many open files, or as many as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files if hard == resource.RLIM_INFINITY else min(files, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _mark(place: Place) -> tuple[int, ...] | None:
    """Another one when the certificate or its key is another file; None where there are none."""
    if place.certificate is None or place.key is None:
        return None
    try:
        found = (os.stat(place.certificate), os.stat(place.key))
        # by a clock that was set back the new one may be as old as the one before
        return tuple(number for one in found for number in (one.st_ino, one.st_mtime_ns))
    except OSError:
        return None


def _database(directory: Path) -> Database:
    """It connects when it is asked: the node may start later, and again."""
    blocking = blocking_api.Database(directory)
    return Database(blocking, Requests(blocking.directory, blocking.timeout, IN_FLIGHT))
