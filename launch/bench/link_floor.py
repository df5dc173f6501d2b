"""The floor of W2: documents from one process to another over TLS 1.3, and into the file of the floor.

Batches of 500 in msgpack, four in flight. The receiver decodes, encodes as JSON and writes each in one
transaction, and acknowledges it by one byte.
It is ``python -m entgldb.launch.bench.link_floor PORT CA FILE``.
"""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgpack

from entgldb.launch.bench.floor import floor
from entgldb.launch.node.child import end_with_parent, environment
from entgldb.launch.playground.certificate import make_server_certificate
from entgldb.messages.errors import EntglError

HOST: Final = "127.0.0.1"
BATCH: Final = 500
IN_FLIGHT: Final = 4
PATIENCE_SECONDS: Final = 60.0
_LENGTH: Final = struct.Struct("!I")

Documents = Sequence[tuple[str, dict[str, Any]]]


def send_to_floor(root: Path, documents: Documents) -> float:
    """Documents a second, from connecting to the last answer; files go to ``root``, a new folder."""
    make_server_certificate(root, (HOST,))
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(root / "cert.pem", root / "key.pem")
    with ExitStack() as stack:
        door = stack.enter_context(socket.create_server((HOST, 0)))
        door.settimeout(PATIENCE_SECONDS)
        stack.enter_context(_receiver(door.getsockname()[1], root))
        plain, _ = door.accept()
        plain.settimeout(PATIENCE_SECONDS)
        begun = time.perf_counter()
        link = stack.enter_context(context.wrap_socket(plain, server_side=True))
        _send(link, documents)
        return len(documents) / (time.perf_counter() - begun)


def _receiver(port: int, root: Path) -> subprocess.Popen[bytes]:
    """Ends when the link does."""
    arguments = [str(port), str(root / "ca.pem"), str(root / "floor.db")]
    return subprocess.Popen(  # noqa: S603 -- this very program
        [sys.executable, "-m", __name__, *arguments],
        stdin=subprocess.DEVNULL,
        env=environment(),
        preexec_fn=end_with_parent,
    )


def _send(link: ssl.SSLSocket, documents: Documents) -> None:
    unanswered = 0
    for start in range(0, len(documents), BATCH):
        payload = msgpack.packb(documents[start : start + BATCH])
        link.sendall(_LENGTH.pack(len(payload)) + payload)
        unanswered += 1
        if unanswered == IN_FLIGHT:
            unanswered -= len(_read(link, 1))
    _read(link, unanswered)


def receive(port: int, ca_file: str, file: Path) -> None:
    """Take documents until the sender hangs up."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca_file)
    with (
        floor(file) as side,
        socket.create_connection((HOST, port), PATIENCE_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as link,
    ):
        while head := link.recv(_LENGTH.size):
            head += _read(link, _LENGTH.size - len(head))
            side.put_many(msgpack.unpackb(_read(link, *_LENGTH.unpack(head)), use_list=False))
            link.sendall(b"+")


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _read(link: ssl.SSLSocket, size: int) -> bytes:
    made = bytearray()
    while len(made) < size:
        data = link.recv(size - len(made))
        if not data:
            raise EntglError("the other end of the floor's link hung up")
        made += data
    return bytes(made)


if __name__ == "__main__":
    receive(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
