"""Waking other processes after a write: LISTEN and NOTIFY, each on a connection of its own.

NOTIFY is never part of a transaction that writes: at its commit it would take a lock of the whole server. A
note that is lost costs time alone, as each process looks by itself every ``sync.interval``; so a database
without LISTEN serves as well.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Any, Final

import psycopg

from entgldb.storage.postgres.server import CONNECT_S

log = logging.getLogger(__name__)

CHANNEL: Final = "entgldb"
APART_S: Final = 0.02
"""Between two notes of one process: what is written meanwhile goes with the next."""
NOTE_BYTES_MAX: Final = 7_900
"""PostgreSQL takes fewer than 8,000 bytes."""
RETRY_S: Final = 5.0
"""Between two tries to connect, or to listen where the database knows no LISTEN."""


class Waking:
    """Runs in an asyncio loop."""

    def __init__(self, dsn: str, heard: Callable[[tuple[str, ...]], None]) -> None:
        """``heard``: called with the names of tenants to which another process has written."""
        self._dsn, self._heard = dsn, heard
        self._me = secrets.token_hex(8)
        self._names: set[str] = set()
        self._wanted = asyncio.Event()

    def tell(self, tenant: str) -> None:
        """Have the other processes look at a tenant."""
        self._names.add(tenant)
        self._wanted.set()

    async def listen(self) -> None:
        """For ever: hear of the others."""
        while True:
            try:
                async with await self._connected() as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    async for note in connection.notifies():
                        sender, *names = note.payload.split(" ")
                        if sender != self._me:
                            self._heard(tuple(names))
            except psycopg.Error as fault:
                log.debug("cannot listen on PostgreSQL: %s", fault)
            await asyncio.sleep(RETRY_S)

    async def speak(self) -> None:
        """For ever: tell the others."""
        while True:
            try:
                async with await self._connected() as connection:
                    await self._speak_by(connection)
            except psycopg.Error as fault:
                log.debug("cannot notify by PostgreSQL: %s", fault)
            await asyncio.sleep(RETRY_S)

    async def _speak_by(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            names, self._names = self._names, set()
            for note in notes(self._me, names):
                await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, note))
            await asyncio.sleep(APART_S)

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(self._dsn, autocommit=True, connect_timeout=CONNECT_S)


def notes(me: str, names: set[str]) -> list[str]:
    """The texts that tell of all names, each as long as a note may be."""
    found, note = [], me
    for name in sorted(names):
        if len(note) + 1 + len(name) > NOTE_BYTES_MAX:
            found.append(note)
            note = me
        note += f" {name}"
    return [*found, note]
