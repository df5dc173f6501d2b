"""The floors of W2, W3 and W4: two processes, TLS 1.3 between them, and a file of the floor for each.

Batches of at most 500 in msgpack, four in flight. The receiver decodes, encodes as JSON and writes each in
one transaction, and acknowledges it by one byte.
It is ``python -m entgldb.launch.bench.link_floor PORT CA FILE WRITES``: with writes of its own it sends these
by a second link.
"""

from __future__ import annotations

import math
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import msgpack

from entgldb.launch.bench.floor import Floor, floor
from entgldb.launch.bench.sides import document, key
from entgldb.launch.node.child import end_with_parent, environment
from entgldb.launch.playground.certificate import make_server_certificate
from entgldb.messages.errors import EntglError

HOST: Final = "127.0.0.1"
BATCH: Final = 500
IN_FLIGHT: Final = 4
PATIENCE_SECONDS: Final = 60.0
_LENGTH: Final = struct.Struct("!I")

Documents = Sequence[tuple[str, dict[str, Any]]]
Dial = Callable[[], ssl.SSLSocket]


def send_to_floor(root: Path, documents: Documents) -> float:
    """Documents a second, from connecting to the last answer; files go to ``root``, a new folder."""
    with _other(root) as dial:
        begun = time.perf_counter()
        with dial() as link:
            _send(link, documents)
            return len(documents) / (time.perf_counter() - begun)


def notice_on_floor(root: Path, probes: int, interval: float) -> list[float]:
    """Milliseconds from a write here to the word of the other process that it has committed it too.

    A write every ``interval`` seconds.
    """
    taken = []
    with _other(root) as dial, dial() as link, floor(root / "own.db") as side:
        for number in range(probes):
            one = (key(number), document(number))
            begun = time.perf_counter()
            side.put(*one)
            _send(link, [one])
            taken.append((time.perf_counter() - begun) * 1000)
            time.sleep(interval)
    return taken


def converge_on_floor(root: Path, writes: int) -> float:
    """Seconds from connecting until each of two processes has the log of the other in its file."""
    with floor(root / "own.db") as side, _other(root, writes) as dial:
        _write(side, writes, 0)
        begun = time.perf_counter()
        with dial() as out, dial() as back:
            _exchange(side, out, back)
            return time.perf_counter() - begun


@contextmanager
def _other(root: Path, writes: int = 0) -> Iterator[Dial]:
    """The other process, and how to take its next link; it ends when its links do."""
    make_server_certificate(root, (HOST,))
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(root / "cert.pem", root / "key.pem")
    with ExitStack() as stack:
        door = stack.enter_context(socket.create_server((HOST, 0)))
        door.settimeout(PATIENCE_SECONDS)
        arguments = [door.getsockname()[1], root / "ca.pem", root / "floor.db", writes]
        stack.enter_context(
            subprocess.Popen(  # noqa: S603 -- this very program
                [sys.executable, "-m", __name__, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                env=environment(),
                preexec_fn=end_with_parent,
            )
        )
        first = [_accepted(door)]  # it is ready

        def dial() -> ssl.SSLSocket:
            return context.wrap_socket(first.pop() if first else _accepted(door), server_side=True)

        yield dial


def _accepted(door: socket.socket) -> socket.socket:
    plain, _ = door.accept()
    plain.settimeout(PATIENCE_SECONDS)
    return plain


def _write(side: Floor, writes: int, first: int) -> None:
    side.put_many([(key(number), document(number)) for number in range(first, first + writes)])


def _exchange(side: Floor, out: ssl.SSLSocket, back: ssl.SSLSocket) -> None:
    """Send what was written here, and write what comes, both at once."""
    own = side.log()
    with ThreadPoolExecutor(1) as thread:
        sent = thread.submit(_send, out, own)
        _receive(side, back, len(own))
        sent.result()


def _send(link: ssl.SSLSocket, documents: Documents) -> None:
    unanswered = 0
    for start in range(0, len(documents), BATCH):
        payload = msgpack.packb(documents[start : start + BATCH])
        link.sendall(_LENGTH.pack(len(payload)) + payload)
        unanswered += 1
        if unanswered == IN_FLIGHT:
            unanswered -= len(_read(link, 1))
    _read(link, unanswered)


def _receive(side: Floor, link: ssl.SSLSocket, wanted: float = math.inf) -> None:
    """Take so many documents, or those that come until the sender hangs up."""
    taken = 0
    while taken < wanted and (head := link.recv(_LENGTH.size)):
        head += _read(link, _LENGTH.size - len(head))
        taken += side.put_many(msgpack.unpackb(_read(link, *_LENGTH.unpack(head)), use_list=False))
        link.sendall(b"+")


def be_the_other(port: int, ca_file: str, file: Path, writes: int) -> None:
    """The process at the other end."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca_file)

    def dial() -> ssl.SSLSocket:
        plain = socket.create_connection((HOST, port), PATIENCE_SECONDS)
        return context.wrap_socket(plain, server_hostname=HOST)

    with floor(file) as side:
        _write(side, writes, writes)
        with dial() as back:
            if not writes:
                _receive(side, back)
                return
            with dial() as out:
                _exchange(side, out, back)


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
    be_the_other(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
