"""A client that keeps many writes in flight and never lets go of one before it is answered."""

from __future__ import annotations

import os
import select
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from entgldb.client.wire import connected
from entgldb.launch.playground.cluster import Member, Playground
from entgldb.messages.client import Commit, CommitDone, Refused, RequestId, Status, Write
from entgldb.messages.codec import decode, encode
from entgldb.messages.errors import EntglError, NoNodeError
from entgldb.messages.framing import FrameReader, frame
from entgldb.messages.model import Version
from entgldb.messages.schema import Channel, Message
from tests.system.support.processes import until

COLLECTION: Final = "load"
IN_FLIGHT: Final = 32
RECONNECT_SECONDS: Final = 20.0
DRAIN_SECONDS: Final = 20.0
EQUAL_SECONDS: Final = 20.0


class Load(threading.Thread):
    """Writes ``rate`` documents a second, each under a key of its own, each request until it is answered."""

    def __init__(self, directory: Path, name: str = "w", rate: float = 1000.0) -> None:
        super().__init__(daemon=True)
        self.directory, self.prefix, self.rate = directory, name, rate
        self.acknowledged: dict[str, Version] = {}
        self.wrong: list[str] = []
        """Answers that nobody may get: a second one, one to nothing, a refusal that is not ``expected``."""
        self.expected: frozenset[str] = frozenset()
        """Codes of refusals after which the request is asked again."""
        self.refused: Counter[str] = Counter()
        self._again: list[int] = []
        self._client = os.urandom(16)
        self._waiting: dict[int, Commit] = {}
        self._made = 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._done():
            wire = until(self._connected, RECONNECT_SECONDS, "a connection to the node")
            with closing(wire), suppress(OSError):
                self._serve(wire)

    def end(self) -> None:
        """No new writes; wait until those in flight are answered."""
        self._ended.set()
        self.join(DRAIN_SECONDS)
        assert not self.is_alive(), f"{len(self._waiting)} writes are still not answered"

    def more(self, writes: int, seconds: float = 20.0) -> None:
        """Wait for so many more acknowledgements."""
        wanted = len(self.acknowledged) + writes
        until(lambda: len(self.acknowledged) >= wanted, seconds, f"{writes} more acknowledged writes")

    def _done(self) -> bool:
        return self._ended.is_set() and not self._waiting

    def _connected(self) -> socket.socket | None:
        try:
            return connected(self.directory)
        except NoNodeError:
            return None

    def _serve(self, wire: socket.socket) -> None:
        """Ask again what was not answered, under the same request ids, and go on."""
        self._again.clear()
        frames, counts, begun, sent = FrameReader(), Counter[int](), time.monotonic(), 0
        for number, commit in list(self._waiting.items()):
            wire.sendall(frame(encode(commit, number)))
        while not self._done():
            due = int((time.monotonic() - begun) * self.rate) - sent
            room = IN_FLIGHT - len(self._waiting)
            for _ in range(0 if self._ended.is_set() else max(0, min(due, room))):
                number, commit = self._next()
                wire.sendall(frame(encode(commit, number)))
                sent += 1
            if not select.select([wire], [], [], 1 / self.rate)[0]:
                again, self._again = self._again, []
                for number in again:
                    counts[number] = 0
                    wire.sendall(frame(encode(self._waiting[number], number)))
                continue
            data = wire.recv(65536)
            if not data:
                return
            frames.feed(data)
            for payload in frames:
                answer = decode(payload, Channel.LOCAL)
                counts[answer.request_id] += 1
                self._take(answer.request_id, answer.message, counts[answer.request_id])

    def _next(self) -> tuple[int, Commit]:
        self._made += 1
        write = Write(COLLECTION, f"{self.prefix}{self._made}", b'{"n":%d}' % self._made)
        commit = self._waiting[self._made] = Commit(RequestId(self._client, self._made), (write,))
        return self._made, commit

    def _take(self, number: int, answer: Message, times: int) -> None:
        if isinstance(answer, Refused) and answer.code in self.expected and times == 1:
            self.refused[answer.code] += 1
            self._again.append(number)
            return
        commit = self._waiting.pop(number, None)
        if commit is None or times != 1 or not isinstance(answer, CommitDone):
            self.wrong.append(f"answer {times} to {number}: {answer}")
            return
        version = answer.written[0].version
        assert version is not None
        self.acknowledged[commit.writes[0].key] = version


@contextmanager
def flowing(directory: Path, name: str = "w", rate: float = 1000.0) -> Iterator[Load]:
    """Writes flow while the block runs; in the end each was answered once and stands in the log once."""
    load = Load(directory, name, rate)
    load.start()
    load.more(100)
    try:
        yield load
    finally:
        load._ended.set()
    load.end()
    assert load.wrong == []
    assert kept(directory, name) == load.acknowledged


def kept(directory: Path, prefix: str = "") -> dict[str, Version]:
    """Version of each key in a node's log; a key that stands there twice fails."""
    rows = _query(
        directory,
        "SELECT l.key, o.name, l.seq FROM _entgldb_oplog l JOIN _entgldb_origins o ON o.id = l.origin"
        f" WHERE l.collection = '{COLLECTION}' AND l.key GLOB '{prefix}*'",
    )
    versions = {str(key): Version(str(origin), int(str(seq))) for key, origin, seq in rows}
    assert len(versions) == len(rows), "a write was done twice"
    return versions


def documents(directory: Path) -> list[tuple[object, ...]]:
    """All documents with their versions, as the file has them."""
    return _query(
        directory,
        "SELECT d.collection, d.key, d.body, o.name, d.seq FROM _entgldb_documents d"
        " JOIN _entgldb_origins o ON o.id = d.origin ORDER BY 1, 2",
    )


def _query(directory: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{directory}/entgldb.db?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def pid(member: Member, actor: str) -> int:
    """Of an actor that serves; 0 while it is not there."""
    try:
        body = member.db.status("node")
    except EntglError:
        return 0
    pids = body["pids"]
    assert isinstance(pids, dict)
    return int(str(pids.get(actor, 0)))


def answers(member: Member, actor: str) -> bool:
    try:
        member.db.ask(actor, Status(), timeout=0.3)
    except EntglError:
        return False
    return True


def until_equal(playground: Playground) -> None:
    """All nodes have the same documents in the same versions."""
    one, *others = [member.directory for member in playground.lan]
    until(
        lambda: all(documents(other) == documents(one) for other in others), EQUAL_SECONDS, "equal documents"
    )
