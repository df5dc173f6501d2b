"""A TCP proxy for one link that breaks it as told, counted in TLS records.

Nothing of a record reaches the other side before the whole record has arrived: cutting at each edge and
inside of each record is every place where a cut can make a difference.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Final, NamedTuple

UP, DOWN = "up", "down"
"""From who dialled to who listens, and back."""
HEADER_BYTES: Final = 5
"""Type, version and length of a TLS record (RFC 8446, 5.1)."""
LINE_BYTES: Final = 1024
"""Taken by a line with a bandwidth at once."""
SEGMENT_BYTES: Final = 1448
LINE_BUFFER_BYTES: Final = 16 * 1024
CHUNK_BYTES: Final = 4096
"""Forwarded at once while the way is slow, with a small buffer in the kernel."""


@dataclass
class Harm:
    """The harm done to one record of the next link, once."""

    way: str
    record: int
    """Counted from 1, anew on each link."""
    kind: str
    """``after``: cut behind it; ``inside``: cut in its middle; ``corrupt``: one bit of it is turned."""
    done: bool = False


class SlowLine(NamedTuple):
    """Little is carried, and late."""

    bandwidth: float
    """Bytes a second, each way."""
    delay: float = 0.0
    """Seconds, each way."""


class Pipe:
    """One connection: two sockets, two threads."""

    def __init__(self, proxy: LinkProxy, near: socket.socket, far: socket.socket) -> None:
        self.records = {UP: 0, DOWN: 0}
        self.carried = {UP: 0, DOWN: 0}
        """Bytes, on a line with a bandwidth."""
        self._proxy = proxy
        self._ends = (near, far)

    def start(self) -> None:
        near, far = self._ends
        for way, source, target in ((UP, near, far), (DOWN, far, near)):
            if self._proxy.line is None:
                threading.Thread(target=self._carry, args=(way, source, target), daemon=True).start()
                continue
            due: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
            threading.Thread(target=self._take, args=(way, source, due), daemon=True).start()
            threading.Thread(target=self._give, args=(target, due), daemon=True).start()

    def cut(self) -> None:
        """End both sides at once."""
        for end in self._ends:
            with suppress(OSError):  # the other end was quicker
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _carry(self, way: str, source: socket.socket, target: socket.socket) -> None:
        try:
            while record := _record(source):
                self._proxy.wait_until_open(way)
                self.records[way] += 1
                harm = self._proxy.harm
                if harm is None or harm.done or (harm.way, harm.record) != (way, self.records[way]):
                    self._send(way, target, record)
                    continue
                harm.done = True
                middle = (HEADER_BYTES + len(record)) // 2
                if harm.kind == "corrupt":
                    target.sendall(record[:middle] + bytes([record[middle] ^ 1]) + record[middle + 1 :])
                    continue
                target.sendall(record[:middle] if harm.kind == "inside" else record)
                break
        except OSError:
            pass  # cut, or the end of the test
        self.cut()

    def _take(self, way: str, source: socket.socket, due: SimpleQueue[tuple[float, bytes]]) -> None:
        """No faster than the line; bytes on their way wait there for their time."""
        line, free_at = self._proxy.line, 0.0
        assert line is not None
        try:
            while data := source.recv(LINE_BYTES):
                self._proxy.wait_until_open(way)
                self.carried[way] += len(data)
                free_at = max(free_at, time.monotonic()) + len(data) / line.bandwidth
                self._proxy.ended.wait(max(0.0, free_at - time.monotonic()))
                due.put((free_at + line.delay, data))
        except OSError:
            pass  # cut, or the end of the test
        due.put((0.0, b""))

    def _give(self, target: socket.socket, due: SimpleQueue[tuple[float, bytes]]) -> None:
        try:
            while (arrival := due.get())[1]:
                self._proxy.ended.wait(max(0.0, arrival[0] - time.monotonic()))
                target.sendall(arrival[1])
        except OSError:
            pass  # cut, or the end of the test
        self.cut()

    def _send(self, way: str, target: socket.socket, record: bytes) -> None:
        pause = self._proxy.seconds_a_chunk.get(way, 0.0)
        for start in range(0, len(record), CHUNK_BYTES if pause else len(record)):
            if pause:
                self._proxy.ended.wait(pause)
            target.sendall(record[start : start + CHUNK_BYTES] if pause else record)


class LinkProxy:
    """``with LinkProxy(port) as proxy``: a dial to ``proxy.address`` reaches ``port``."""

    def __init__(self, port: int, line: SlowLine | None = None) -> None:
        self.line = line
        """The slow line that all links share, if any."""
        self.harm: Harm | None = None
        self.seconds_a_chunk: dict[str, float] = {}
        """Way -> how long each chunk is held up."""
        self.ended = threading.Event()
        self.pipes: list[Pipe] = []
        self._port = port
        self._refuses = False
        self._open = {UP: threading.Event(), DOWN: threading.Event()}
        for way in self._open.values():
            way.set()
        self._listener = socket.socket()
        _narrow(self._listener)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> LinkProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for way in self._open.values():
            way.set()
        self.cut()
        self._thread.join(5)

    def cut(self) -> None:
        """End all connections."""
        for pipe in self.pipes:
            pipe.cut()

    @contextmanager
    def apart(self) -> Iterator[None]:
        """No connection, and every new one is closed at once."""
        self._refuses = True
        self.cut()
        yield
        self._refuses = False

    @contextmanager
    def stalled(self, *ways: str) -> Iterator[None]:
        """Nothing more goes these ways, and nobody is told: a cable pulled out. Links made meanwhile too."""
        for way in ways:
            self._open[way].clear()
        yield
        for way in ways:
            self._open[way].set()

    def wait_until_open(self, way: str) -> None:
        self._open[way].wait()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                near.close()
                continue
            try:
                far = self._connect()
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.pipes.append(Pipe(self, near, far))
            self.pipes[-1].start()

    def _connect(self) -> socket.socket:
        far = socket.socket()
        far.settimeout(5)
        _narrow(far)
        try:
            far.connect(("127.0.0.1", self._port))
        except OSError:
            far.close()
            raise
        return far


def _narrow(end: socket.socket) -> None:
    """Segments and buffers of a line: those of the loopback swallow megabytes before anybody waits."""
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LINE_BUFFER_BYTES)


def _record(source: socket.socket) -> bytes:
    """The next whole record; empty at the end of the stream."""
    header = _exactly(source, HEADER_BYTES)
    if not header:
        return b""
    body = _exactly(source, int.from_bytes(header[3:5], "big"))
    return header + body if body else b""


def _exactly(source: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = source.recv(size - len(found))
        if not more:
            return b""
        found += more
    return found
