"""Waiting for the first record of TLS, which stays unread: who sends none costs a socket alone."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

HEADER_BYTES: Final = 5
HANDSHAKE: Final = 0x16
"""The type of a record that begins a handshake (RFC 8446, 5.1)."""
RECORD_BYTES_MAX: Final = 1 << 14
"""Of its content, by the same place."""


async def first_record(sock: socket.socket) -> bool:
    """Whether it has come, or what is no TLS at all; False: the connection has ended. Raises OSError.

    SO_RCVLOWAT has the system wait for so many bytes, so that a few wake nobody.
    """
    wanted = HEADER_BYTES
    while True:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)
        await _readable(sock)
        seen = sock.recv(wanted, socket.MSG_PEEK)
        if wanted == HEADER_BYTES and len(seen) == wanted and seen[0] == HANDSHAKE:
            wanted += min(int.from_bytes(seen[3:]), RECORD_BYTES_MAX)
            continue
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        return len(seen) == wanted


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)
