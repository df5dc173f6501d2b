"""Hands one change after another to a URL; none is passed over in silence, and none overtakes another."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from random import Random
from typing import Final

from entgldb.client.database import Change
from entgldb.integrations.place import Place
from entgldb.integrations.webhook.post import Answer
from entgldb.integrations.webhook.signing import headers
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.messages.secret import Secret

RETRY_SECONDS_FIRST: Final = 1.0
RETRY_SECONDS_MAX: Final = 300.0
_DOUBLINGS_MAX: Final = 16
_GONE: Final = 410
_LATER: Final = (408, 425, 429)
"""The receiver takes it another time."""

Post = Callable[[bytes, Mapping[str, str]], Answer]


@dataclass(frozen=True)
class Terms:
    """How the changes of a feed are handed over."""

    secrets: tuple[Secret, ...]
    """Each signs; two while a receiver changes from one to the other."""
    attempts: int = 10
    """Times that a receiver may refuse a change before it becomes a dead letter."""
    dead_letters_max: int = 1000


@dataclass
class Edge:
    """Clock, chance, and the words for a person."""

    now: Callable[[], float]
    wait: Callable[[float], None]
    random: Random
    tell: Callable[[str], None]


class Sink:
    """Posts changes, each until it is taken."""

    def __init__(self, post: Post, terms: Terms, place: Place, edge: Edge) -> None:
        self._post, self._terms, self._place, self._edge = post, terms, place, edge
        self._dead = place.file.with_suffix(".dead.jsonl")

    def hand_over(self, change: Change) -> None:
        """Return when the receiver has taken ``change``, or it is a dead letter; the place is kept.

        A receiver that is away, or fails, is waited for as long as it takes. Raises EntglError where it is
        gone for good (410), and where there is no room for one more dead letter.
        """
        body = _body(change)
        answer = self._offer(change, body)
        if answer.status // 100 == 2:
            self._place.counts["delivered"] += 1
        else:
            self._bury(change, body, answer)
        self._place.keep(change.token)

    def _offer(self, change: Change, body: bytes) -> Answer:
        failures = refusals = 0
        while True:
            at = self._edge.now()
            signed = headers(self._terms.secrets, message_id(change), int(at), body)
            answer = self._post(body, {"content-type": "application/json", **signed})
            if answer.status // 100 == 2:
                return answer
            if answer.status == _GONE:
                raise EntglError(f"the receiver is gone: {answer.why}", hint="remove this bridge")
            later = answer.status in (0, *_LATER) or answer.status >= 500
            refusals += not later
            if refusals >= self._terms.attempts:
                return answer
            failures += 1
            self._place.counts["failed"] += 1
            pause = max(answer.retry_after, self._pause(failures))
            self._edge.tell(f"{change.collection}/{change.key}: {answer.why}; again in {pause:.0f} s")
            self._edge.wait(pause)

    def _pause(self, failures: int) -> float:
        longest = min(RETRY_SECONDS_MAX, RETRY_SECONDS_FIRST * 2.0 ** min(failures - 1, _DOUBLINGS_MAX))
        return longest * self._edge.random.uniform(0.5, 1.0)

    def _bury(self, change: Change, body: bytes, answer: Answer) -> None:
        """Keep a change that the receiver does not take, for a person."""
        if _lines(self._dead) >= self._terms.dead_letters_max:
            raise EntglError(
                f"{self._dead} has {self._terms.dead_letters_max} changes that the receiver refused",
                code=ErrorCode.TOO_LARGE,
                hint="look at them, then move the file away",
            )
        letter = {"why": answer.why, "attempts": self._terms.attempts, "body": json.loads(body)}
        line = json.dumps(letter, ensure_ascii=False).encode() + b"\n"
        opened = os.open(self._dead, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(opened, "ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            try:
                _write_all(file, line)
                os.fsync(file.fileno())
            except OSError:
                # a part of a line would spoil the next one
                file.truncate(before)
                raise
        self._place.counts["dead_letters"] += 1
        self._edge.tell(f"{change.collection}/{change.key}: {answer.why}; kept in {self._dead}")


def message_id(change: Change) -> str:
    """The same for each attempt, and another for each time that a document changes here; without full stops,
    which part the id from the time in what is signed."""
    return f"msg_{change.token.replace('.', '_')}"


def _body(change: Change) -> bytes:
    kind = "document.deleted" if change.document is None else "document.put"
    told = {
        "type": kind,
        "timestamp": datetime.fromtimestamp(change.at_ms / 1000, UTC).isoformat(),
        "data": {
            "collection": change.collection,
            "key": change.key,
            "version": {"origin": change.version.origin, "seq": change.version.seq},
            "document": change.document,
        },
    }
    return json.dumps(told, ensure_ascii=False).encode()


def _write_all(file: FileIO, line: bytes) -> None:
    while line:
        line = line[file.write(line) :]


def _lines(file: Path) -> int:
    try:
        with file.open("rb") as opened:
            return sum(1 for _ in opened)
    except FileNotFoundError:
        return 0
