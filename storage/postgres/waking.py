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

    def __init__(self, dsn: str, heard: Callable[[dict[str, int]], None]) -> None:
        """``heard``: called with the tenants to which another process has written, each with its lsn."""
        self._dsn, self._heard = dsn, heard
        self._me = secrets.token_hex(8)
        self._lsns: dict[str, int] = {}
        self._wanted = asyncio.Event()

    def tell(self, tenant: str, lsn: int) -> None:
        """Tell the other processes of the last row of a tenant; 0: of its row in the catalogue."""
        before = self._lsns.get(tenant, lsn)
        # who looks at the catalogue has the rows as well
        self._lsns[tenant] = min(before, lsn) and max(before, lsn)
        self._wanted.set()

    async def listen(self) -> None:
        """For ever: hear of the others."""
        while True:
            try:
                async with await self._connected() as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    async for note in connection.notifies():
                        found = told(self._me, note.payload)
                        if found:
                            self._heard(found)
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
            lsns, self._lsns = self._lsns, {}
            for note in notes(self._me, lsns):
                await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, note))
            await asyncio.sleep(APART_S)

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(self._dsn, autocommit=True, connect_timeout=CONNECT_S)


def notes(me: str, lsns: dict[str, int]) -> list[str]:
    """The texts that tell of all tenants, each as long as a note may be."""
    found, note = [], me
    for name, lsn in sorted(lsns.items()):
        one = f" {name}:{lsn}"
        if len(note) + len(one) > NOTE_BYTES_MAX:
            found.append(note)
            note = me
        note += one
    return [*found, note]


def told(me: str, note: str) -> dict[str, int]:
    """Tenant -> lsn, of a note that another process has sent; what is none says nothing."""
    sender, *parts = note.split(" ")
    pairs = [part.rpartition(":") for part in parts]
    return {name: int(lsn) for name, _, lsn in pairs if sender != me and lsn.isdecimal() and len(lsn) < 19}
