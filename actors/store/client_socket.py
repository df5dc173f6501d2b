"""The Unix socket of a node: clients' requests in, answers out, both bounded.

All of it happens on the actor's main thread, from one epoll descriptor that the host waits for: a second
thread that reads the sockets has to be woken and to hand over the interpreter for every single write.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import time
from collections import deque
from pathlib import Path
from typing import Final

from entgldb.actors.behaviour import Asker
from entgldb.actors.store.client_connection import Connection
from entgldb.messages.errors import Reason
from entgldb.messages.limits import CLIENT_PENDING_BYTES_MAX, CLIENT_PENDING_MAX, CLIENTS_MAX
from entgldb.messages.local.actors import Dropped
from entgldb.messages.schema import Message

log = logging.getLogger(__name__)

SOCKET_NAME: Final = "entgldb.sock"
SOCKET_PATH_BYTES_MAX: Final = 100
"""A longer path does not fit the kernel's address, and goes through its directory's descriptor."""
CLOSE_SECONDS_MAX: Final = 1.0
"""How long answers may take to be written when the node stops."""
ACCEPTS_PER_TURN_MAX: Final = 64
LISTEN_BACKLOG: Final = 1024
"""Clients that the kernel lets wait to be let in; it may allow fewer."""

Arrived = list[tuple[Asker | None, Message]]


class ClientSocket:
    """Listens in ``directory``; ``drain`` gives each request with an asker that writes the answer back.

    A client has a bounded part of each turn, and is not read while too many of its requests wait for their
    answers or it does not read these; none is read while too much of all waits. If all places are taken, the
    connection that was idle longest makes room.
    """

    def __init__(self, directory: str | Path) -> None:
        self._path = Path(directory) / SOCKET_NAME
        self._listener = _bind(self._path.parent)
        self._inode = self._path.stat().st_ino
        self._poll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Readable while a client has sent more than its turn had room for."""
        self._poll.register(self._bell, select.EPOLLIN)
        self._clients: dict[int, Connection] = {}
        self._later: dict[int, Connection] = {}
        self._arrived: Arrived = []
        self._pending = 0
        self.pending_bytes = 0
        """Of requests handed to the actor and not answered yet."""
        self._reserved = 0
        """Bytes of large requests whose pieces are arriving."""
        self._stalled: deque[Connection] = deque()
        """The connections that wait for room for a large request."""
        self.paused = False
        self._swept = 0.0

    def start(self) -> None:
        """From now on clients are let in."""
        self._poll.register(self._listener, select.EPOLLIN)

    def fileno(self) -> int:
        """The descriptor that is readable while ``drain`` has something to do."""
        return self._poll.fileno()

    def drain(self) -> Arrived:
        """All that has arrived and whose turn it is, in each client's order; what waited goes out."""
        turn, self._later = self._later, {}
        if turn:
            os.eventfd_read(self._bell)
        for fd, events in self._poll.poll(0):
            client = self._clients.get(fd)
            if client is None:
                if fd != self._bell:
                    self._accept()
                continue
            if events & select.EPOLLOUT:
                client.write()
            if events & select.EPOLLHUP and client.blocked:
                client.cut()
            elif events & ~select.EPOLLOUT:
                turn[fd] = client
        for client in turn.values():
            if not client.over:
                client.read()
        self._sweep()
        arrived, self._arrived = self._arrived, []
        return arrived

    def took(self, size: int, message: Message, asker: Asker) -> None:
        self._arrived.append((asker, message))
        self._pending += 1
        self.pending_bytes += size
        full = self._pending > CLIENT_PENDING_MAX or self.pending_bytes > CLIENT_PENDING_BYTES_MAX
        if full and not self.paused:
            self._read_on(False)

    def answered(self, size: int) -> None:
        self._pending -= 1
        self.pending_bytes -= size
        room = self._pending <= CLIENT_PENDING_MAX // 2
        if self.paused and room and self.pending_bytes <= CLIENT_PENDING_BYTES_MAX // 2:
            self._read_on(True)

    def reserve(self, client: Connection, size: int) -> bool:
        if self._reserved and self._reserved + size > CLIENT_PENDING_BYTES_MAX:
            self._stalled.append(client)
            return False
        self._reserved += size
        return True

    def give_back(self, size: int) -> None:
        self._reserved -= size
        for _ in range(len(self._stalled)):
            self._stalled.popleft().go_on()

    def drop(self, reason: Reason) -> None:
        self._arrived.append((None, Dropped(reason.value)))

    def watch(self, client: Connection) -> None:
        blocked = client.blocked
        if client.leftover and not blocked:
            if not self._later:
                os.eventfd_write(self._bell, 1)
            self._later[client.fd] = client
        wanted = 0 if blocked or client.leftover else select.EPOLLIN
        wanted |= select.EPOLLOUT if client.waiting else 0
        if wanted != client.watched:
            client.watched = wanted
            self._poll.modify(client.fd, wanted)

    def closed(self, client: Connection) -> None:
        """A client has gone; closing its socket takes it out of the poll."""
        self._clients.pop(client.fd, None)
        if client in self._stalled:
            self._stalled.remove(client)

    def stop(self) -> None:
        """Write what was answered, then end every connection. Harmless when repeated."""
        if self._poll.closed:
            return
        self._listener.close()
        try:
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        except OSError:
            log.debug("the socket file is gone already")
        deadline = time.monotonic() + CLOSE_SECONDS_MAX
        for each in list(self._clients.values()):
            each.finish()
        while self._clients and (left := deadline - time.monotonic()) > 0:
            for fd, _ in self._poll.poll(left):
                if (client := self._clients.get(fd)) is not None:
                    client.write()
        for each in list(self._clients.values()):
            each.cut()
        os.close(self._bell)
        self._poll.close()

    def _read_on(self, on: bool) -> None:
        self.paused = not on
        for client in self._clients.values():
            self.watch(client)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN_MAX):
            try:
                made, _ = self._listener.accept()
            except OSError:  # none is left, or gone before it was taken
                return
            made.setblocking(False)
            room = len(self._clients) < CLIENTS_MAX or self._make_room()
            client = self._clients[made.fileno()] = Connection(self, made)
            self._poll.register(made, 0)
            self.watch(client)
            if not room:
                self.drop(Reason.TOO_MANY_LINKS)
                client.dismiss(f"{CLIENTS_MAX} clients are connected, and none of them is idle")

    def _make_room(self) -> bool:
        """Close the connection that has been idle longest; False where none is."""
        now = time.monotonic()
        idle = [client for client in self._clients.values() if client.idle(now)]
        if not idle:
            return False
        self.drop(Reason.IDLE)
        longest = min(idle, key=lambda client: client.heard_at)
        longest.dismiss(f"this connection was the one of {CLIENTS_MAX} that was idle longest; others waited")
        return True

    def _sweep(self) -> None:
        """Now and then, look for clients that neither read nor go on."""
        now = time.monotonic()
        if now - self._swept >= 1.0:
            self._swept = now
            for client in list(self._clients.values()):
                client.be_patient(now)


def _bind(directory: Path) -> socket.socket:
    """A listener for the owner alone. A socket file left by a crash is replaced: the directory is locked."""
    (directory / SOCKET_NAME).unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setblocking(False)
    mask = os.umask(0o177)
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        path = str(directory.absolute() / SOCKET_NAME)
        short = len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX
        made.bind(path if short else f"/proc/self/fd/{folder}/{SOCKET_NAME}")
        made.listen(LISTEN_BACKLOG)
    except OSError:
        made.close()
        raise
    finally:
        os.umask(mask)
        os.close(folder)
    return made
