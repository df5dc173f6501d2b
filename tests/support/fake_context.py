"""A context on a virtual clock: notes what a behaviour says, fires what it asked to hear later."""

from __future__ import annotations

import heapq
from random import Random
from typing import TypeVar

from entgldb.actors.behaviour import Asker, Behaviour, Life
from entgldb.messages.schema import Message

M = TypeVar("M", bound=Message)


class FakeAsker:
    """Keeps the answers it got."""

    def __init__(self) -> None:
        self.answers: list[Message] = []

    def answer(self, message: Message) -> None:
        self.answers.append(message)


class FakeContext:
    """``run(seconds)`` lets time pass for the behaviour that was handed in."""

    def __init__(self, seed: int = 1, wall_ms: int = 1_800_000_000_000) -> None:
        self.random = Random(seed)
        self.asker: Asker | None = None
        self.behaviour: Behaviour | None = None
        self.told: list[tuple[str, Message]] = []
        self.lines: list[str] = []
        self.steps: list[str] = []
        """The steps that were named as ones that may take long."""
        self._now = 0.0
        self._wall_ms = wall_ms
        self._timers: list[tuple[float, int, Message]] = []
        self._order = 0

    def now_ms(self) -> int:
        return self._wall_ms + int(self._now * 1000)

    def monotonic(self) -> float:
        return self._now

    def since_boot(self) -> float:
        return self.monotonic()

    def tell(self, actor: str, message: Message) -> None:
        self.told.append((actor, message))

    def answer(self, asker: Asker | None, message: Message) -> None:
        if asker is not None:
            asker.answer(message)

    def forward(self, actor: str, payload: bytes) -> None:
        raise AssertionError("this behaviour forwards nothing")

    def after(self, seconds: float, message: Message) -> None:
        self._order += 1
        heapq.heappush(self._timers, (self._now + seconds, self._order, message))

    def spawn(self, name: str) -> None:
        raise AssertionError("only node starts children")

    def kill(self, name: str) -> None:
        raise AssertionError("only node ends children")

    def look(self, name: str) -> Life:
        raise AssertionError("only node looks after children")

    def busy(self, step: str) -> None:
        self.steps.append(step)

    def log(self, level: int, text: str) -> None:
        self.lines.append(text)

    # --- for tests ---------------------------------------------------------------------------------

    def hand(self, message: Message) -> None:
        """Give the behaviour one message, as a host does."""
        assert self.behaviour is not None
        self.behaviour.handle(message, self)
        self.behaviour.flush(self)

    def ask(self, message: Message) -> Message:
        """Give one message and take its answer."""
        asker = FakeAsker()
        self.asker = asker
        self.hand(message)
        self.asker = None
        assert len(asker.answers) == 1
        return asker.answers[0]

    def next_timer(self) -> float | None:
        return self._timers[0][0] if self._timers else None

    def run(self, seconds: float) -> None:
        """Let time pass and the timers of that time fire in order."""
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            at, _, message = heapq.heappop(self._timers)
            self._now = at
            self.hand(message)
        self._now = end

    def take(self, kind: type[M], actor: str = "") -> list[M]:
        """Take out the messages of this kind (to ``actor``) that were told since the last time."""
        found = [m for a, m in self.told if isinstance(m, kind) and actor in ("", a)]
        self.told = [(a, m) for a, m in self.told if not (isinstance(m, kind) and actor in ("", a))]
        return found
