"""Processes and their sockets as the kernel tells them, so that no node is judged by its own word."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

MARK: Final = "ENTGLDB_TRIAL"
"""Environment variable that every process of one node inherits, however it was forked."""
POLL_SECONDS: Final = 0.02
POLL_SHARE: Final = 10
"""Each look takes processor time, of the nodes too: the pause grows by this part of the time waited."""
ESTABLISHED: Final = "01"
LISTEN: Final = "0A"
UDP_UNCONNECTED: Final = "07"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Socket:
    """One row of the kernel's table. Hosts as the kernel writes them, decoded."""

    host: str
    port: int
    peer_port: int
    state: str
    inode: str

    @property
    def is_loopback(self) -> bool:
        return self.host.startswith("127.") or self.host == "::1"


def eventually(check: Callable[[], _T], what: str, seconds: float = 15.0) -> _T:
    """The first true value of ``check``; AssertionError with the last value at the deadline."""
    begun = time.monotonic()
    while True:
        found = check()
        if found:
            return found
        waited = time.monotonic() - begun
        assert waited < seconds, f"not within {seconds} s: {what}; last seen: {found!r}"
        time.sleep(POLL_SECONDS + waited / POLL_SHARE)


def pids_of(mark: str) -> list[int]:
    """Every living process that was started with this mark, or forked by one that was."""
    wanted = f"{MARK}={mark}".encode()
    return [pid for pid in _pids() if wanted in _environment(pid) and _lives(pid)]


def kill_all(mark: str) -> None:
    """SIGKILL every process with this mark, until none is left."""

    def gone() -> bool:
        left = pids_of(mark)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not left

    eventually(gone, f"no process of {mark}")


def established(pids: Iterable[int], port: int) -> list[Socket]:
    """Connections that these processes hold to ``port`` of another."""
    return [s for s in sockets(pids, "tcp") if s.state == ESTABLISHED and s.peer_port == port]


def listeners(pids: Iterable[int]) -> list[Socket]:
    """The TCP sockets on which these processes listen."""
    return [s for s in sockets(pids, "tcp") if s.state == LISTEN]


def bound_udp(pids: Iterable[int]) -> list[Socket]:
    """The sockets on which these processes take datagrams."""
    return [s for s in sockets(pids, "udp") if s.state == UDP_UNCONNECTED]


def sockets(pids: Iterable[int], kind: str) -> list[Socket]:
    """The rows of /proc/net/``kind`` (and its IPv6 twin) that belong to these processes."""
    mine = {inode for pid in pids for inode in _inodes(pid)}
    return [row for row in _table(kind) if row.inode in mine]


def _table(kind: str) -> Iterator[Socket]:
    for name in (kind, f"{kind}6"):
        table = Path("/proc/net") / name
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = line.split()
            host, port = fields[1].split(":")
            peer_port = fields[2].split(":")[1]
            yield Socket(_host(host), int(port, 16), int(peer_port, 16), fields[3], fields[9])


def _host(text: str) -> str:
    """The kernel writes addresses as 32-bit words in the machine's own byte order."""
    import ipaddress
    import sys

    words = [bytes.fromhex(text[i : i + 8]) for i in range(0, len(text), 8)]
    raw = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    address = ipaddress.ip_address(raw)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return []


def _lives(pid: int) -> bool:
    """Not a zombie, which has no sockets, no locks and no name left."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _inodes(pid: int) -> list[str]:
    found = []
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(entry.path)
            except OSError:
                continue
            if target.startswith("socket:["):
                found.append(target[8:-1])
    except OSError:
        return found
    return found
