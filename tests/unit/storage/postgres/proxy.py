"""Stands before a PostgreSQL, and does something bad at a chosen round trip."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo

READ_BYTES: Final = 65_536
NEVER: Final = 0


class Proxy:
    """A trip is all that a client sends until the server answers; trips of all connections are counted."""

    def __init__(self, behind: str) -> None:
        self._behind = conninfo_to_dict(behind)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.address = make_conninfo(behind, host="127.0.0.1", port=str(port), sslmode="disable")
        self.delay = 0.0
        """Seconds that each trip takes longer."""
        self.goes_on = threading.Event()
        """Cleared: nothing is answered any more, and nothing closed."""
        self.goes_on.set()
        self._closed = threading.Event()
        self.trips = 0
        """Since the last ``cut``."""
        self.cuts = 0
        self._cut_at, self._answered, self._do = NEVER, False, _nothing
        self._open: list[socket.socket] = []
        self._carrying: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def cut(self, trip: int, *, answered: bool, do: Callable[[], None] | None = None) -> None:
        """End the connection of the n-th trip from now on, before the server hears of it or before the client
        has its answer; ``do`` something to the server at that moment."""
        self.trips, self.cuts, self._cut_at, self._answered = 0, 0, trip, answered
        self._do = do or _nothing

    def close(self) -> None:
        self._closed.set()
        self.goes_on.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._carrying:
            # each closes its own sockets: one that is closed elsewhere cannot be waited for
            thread.join()

    def _accept(self) -> None:
        with self._listener, suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = self._dial()
                except OSError:
                    client.close()
                    continue
                self._open += [client, server]
                thread = threading.Thread(target=self._carry, args=(client, server), daemon=True)
                self._carrying.append(thread)
                thread.start()

    def _dial(self) -> socket.socket:
        host, port = str(self._behind["host"]), str(self._behind.get("port") or 5432)
        if not host.startswith("/"):
            return socket.create_connection((host, int(port)))
        made = socket.socket(socket.AF_UNIX)
        try:
            made.connect(f"{host}/.s.PGSQL.{port}")
        except OSError:
            made.close()
            raise
        return made

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, suppress(OSError):
            waits = False
            """Whether the client waits for an answer."""
            while True:
                ready, _, _ = select.select([client, server], [], [])
                self.goes_on.wait()
                if client in ready:
                    begins, waits = not waits, True
                    self.trips += begins
                    if not self._passed(client, server, begins=begins):
                        return
                elif not self._answer(server, client):
                    return
                else:
                    waits = False

    def _passed(self, client: socket.socket, server: socket.socket, *, begins: bool) -> bool:
        if begins:
            self._closed.wait(self.delay)
            if self.trips == self._cut_at and not self._answered:
                self._act()
                return False
        return _moved(client, server)

    def _answer(self, server: socket.socket, client: socket.socket) -> bool:
        if self.trips == self._cut_at and self._answered:
            self._act()
            return False
        return _moved(server, client)

    def _act(self) -> None:
        self._cut_at = NEVER
        self._do()
        self.cuts += 1


def _moved(source: socket.socket, target: socket.socket) -> bool:
    """Whether there was something."""
    data = source.recv(READ_BYTES)
    target.sendall(data)
    return bool(data)


def _nothing() -> None:
    """To the server, where only a connection ends."""


@contextmanager
def before(address: str) -> Iterator[Proxy]:
    """A proxy before the server of an address."""
    made = Proxy(address)
    try:
        yield made
    finally:
        made.close()
