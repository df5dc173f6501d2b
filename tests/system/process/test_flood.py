"""Strangers who flood a node: its links go on, its memory stays, and it is as before right after.

``ENTGLDB_FLOOD=2000``, as in a soak: so many half-open connections, 10,000 beacons and 500 handshakes a
second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from zeroconf import DNSOutgoing, DNSPointer, const

from entgldb.actors.sync.discovery import SERVICE
from entgldb.client.database import Database
from tests.system.process.test_security import certificate_of, lets_in
from tests.system.support.cluster_fixture import Cluster, Node

HALF_OPEN: Final = int(os.environ.get("ENTGLDB_FLOOD", "300"))
FULL: Final = HALF_OPEN >= 2000
BEACONS: Final = 10_000 if FULL else 500
HANDSHAKES: Final = 500 if FULL else 40
"""Of these two, so many are sent a second, as far as this machine comes with it."""
SECONDS: Final = 20.0 if FULL else 3.0
LATE_SECONDS: Final = 1.0
MEMORY_MB: Final = 100.0
AGAIN_SECONDS: Final = 5.0
PATIENCE: Final = 30.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180, method="signal")]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, lan=2, host="0.0.0.0", discovery=True) as made:
        made.lan[0].put("flood", "first", {"n": 0})
        with made.lan[1].open() as db:
            arrival(db, "first", PATIENCE)
        yield made


def test_a_flood_of_strangers_takes_neither_time_nor_memory(pair: Cluster) -> None:
    victim, member = pair.lan
    before = memory(victim)
    flooding = subprocess.Popen([sys.executable, "-m", __name__, str(victim.port)], stdout=subprocess.PIPE)
    assert flooding.stdout is not None
    try:
        flooding.stdout.readline()  # the half-open connections stand
        late, most = writes_while(flooding, victim, member)
        told = flooding.stdout.read().decode().strip()
    finally:
        flooding.kill()
        flooding.wait()
        flooding.stdout.close()
    ended = time.monotonic()
    assert lets_in(victim, certificate_of(member))
    with victim.open() as ours, member.open() as theirs:
        ours["flood"].put("last", {"n": 1})
        arrival(theirs, "last", AGAIN_SECONDS)
    again = time.monotonic() - ended
    worst = sorted(late)[int(len(late) * 0.99)]
    print(
        f"{HALF_OPEN} half-open, {told}; {len(late)} writes, the 99th of 100 there in {worst * 1000:.0f} ms;"
        f" {most - before:+.1f} MB at most; as before after {again:.1f} s"
    )
    assert worst < LATE_SECONDS
    assert most - before < MEMORY_MB
    assert again < AGAIN_SECONDS
    counts = victim.ask("sync")["counts"]
    assert counts["tls-refused"] + counts.get("too-many-links", 0) >= HALF_OPEN / 2
    # each has a row until there are many of them
    assert 0 < len([row for row in victim.run("audit")[0]["rows"] if row["event"] == "handshake"]) <= 12


def writes_while(flooding: subprocess.Popen[bytes], victim: Node, member: Node) -> tuple[list[float], float]:
    """How long writes of the one take to the other while the flood lasts, and the most memory meanwhile."""
    late, most = [], 0.0
    with victim.open() as ours, member.open() as theirs:
        while flooding.poll() is None:
            key = f"k{len(late)}"
            ours["flood"].put(key, {"n": len(late)})
            late.append(arrival(theirs, key, PATIENCE))
            most = max(most, memory(victim))
    assert len(late) >= 10
    return late, most


def arrival(db: Database, key: str, seconds: float) -> float:
    """Seconds until a document is there."""
    begun = time.monotonic()
    for _ in db.changes(collection="flood", follow=True):
        if db["flood"].get(key) is not None:
            return time.monotonic() - begun
        assert time.monotonic() - begun < seconds
    raise AssertionError("the feed ended")


def memory(node: Node) -> float:
    """Megabytes that all processes of a node have for themselves."""
    kib = 0
    for pid in node.pids():
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            kib += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return kib / 1024


# --- the flood, in a process of its own ------------------------------------------------------------------


def flood(port: int) -> None:
    """Half-open connections that stay, and as many handshakes and beacons as this machine comes to."""
    opened = [half_open(port) for _ in range(HALF_OPEN)]
    print("stands", flush=True)
    begun, answered, beacons = (count / SECONDS for count in asyncio.run(_sent(port)))
    print(f"{begun:.0f} handshakes/s, {answered:.0f} answered, {beacons:.0f} beacons/s", flush=True)
    for one in opened:
        one.close()


def half_open(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), 10)
    with contextlib.suppress(OSError):
        made.send(b"\x16\x03\x01\x02\x00")  # the beginning of a ClientHello, and no more
    return made


async def _sent(port: int) -> tuple[int, int, int]:
    """Handshakes begun, those of them that the node has answered, and beacons."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    hellos = [_hello(context) for _ in range(int(HANDSHAKES * SECONDS))]
    beacons, before = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), beacon()
    beacons.setblocking(False)
    most, answers, told, running = len(hellos), 0, 0, set[asyncio.Task[bool]]()
    begun = now = time.monotonic()
    with beacons:
        while now < begun + SECONDS:
            while hellos and len(running) < HANDSHAKES and len(hellos) > (begun + SECONDS - now) * HANDSHAKES:
                running.add(asyncio.create_task(_handshake(port, hellos.pop())))
            while told < (now - begun) * BEACONS:
                with contextlib.suppress(OSError):
                    beacons.sendto(f"{told:016x}".encode().join(before), ("127.0.0.1", const._MDNS_PORT))
                told += 1
            await asyncio.sleep(0.0)
            over = {task for task in running if task.done()}
            running -= over
            answers += sum(task.result() for task in over)
            now = time.monotonic()
        done, _ = await asyncio.wait(running, timeout=10) if running else (set(), None)
    return most - len(hellos), answers + sum(task.result() for task in done), told


def _hello(context: ssl.SSLContext) -> bytes:
    """The beginning of a handshake. A stranger has it for nothing; the node has to exchange keys and sign."""
    sent = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent).do_handshake()
    return sent.read()


async def _handshake(port: int, hello: bytes) -> bool:
    """Whether the node has answered with its half of a handshake."""
    answer = b""
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(hello)
        answer = await reader.read(2000)
        writer.close()
        await writer.wait_closed()
    return len(answer) > 500


def beacon() -> list[bytes]:
    """A forged announcement of a service, without the 16 characters that make it another one each time."""
    out, mark = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA), "0" * 16
    name = f"{mark}-{'f' * 8}.{SERVICE}"
    out.add_answer_at_time(DNSPointer(SERVICE, const._TYPE_PTR, const._CLASS_IN, 4500, name), 0)
    return out.packets()[0].split(mark.encode())


if __name__ == "__main__":
    flood(int(sys.argv[1]))
