"""The one idea: an actor is a plain class that takes one message and an injected context.

A behaviour imports no Thespian, socket, ssl, asyncio, threading, sqlite3, time, random or os.
``actors/host/actor.py`` carries behaviours in production, ``launch/testing`` carries the same ones on a
virtual clock and network.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import NamedTuple, Protocol

from entgldb.messages.client import Done, Ping, Refused
from entgldb.messages.errors import EntglError, ErrorCode, Reason
from entgldb.messages.local.actors import Dropped
from entgldb.messages.schema import Json, Message

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
"""Levels for ``Context.log``, as in ``logging``, which a behaviour does not import: it loads threading."""

FAILURES_MAX = 5
"""Messages of one kind in a row on which a handler may raise."""


class Asker(Protocol):
    """The sender of the message at hand, who waits for an answer."""

    def answer(self, message: Message) -> None: ...


class Caller(NamedTuple):
    """An asker whose answer is handed to a function."""

    answer: Callable[[Message], None]


class Edge(Protocol):
    """The sockets of a behaviour: ``start`` it, wait for ``fileno()``, ``drain()`` when it is readable."""

    def start(self) -> None: ...

    def fileno(self) -> int: ...

    def drain(self) -> list[tuple[Asker | None, Message]]: ...

    def stop(self) -> None: ...


class Life(NamedTuple):
    """The signs of life that an actor shows, and those that the kernel shows of it."""

    turns: int = 0
    """Grows with every turn of its loop."""
    step: str = ""
    """The long step that it has named and is in."""
    state: str = ""
    """State of its main thread, a letter of proc(5); empty where there is no such process."""
    cpu: float = 0.0
    """Seconds of processor time it has used."""


class Context(Protocol):
    """All a behaviour may do to the world."""

    random: Random
    asker: Asker | None

    def now_ms(self) -> int:
        """The wall clock, in milliseconds since 1970."""

    def monotonic(self) -> float:
        """Seconds that never go back, for intervals."""

    def since_boot(self) -> float:
        """As ``monotonic``, and it goes on while the machine sleeps: behaviours compare the wall clock with
        it."""

    def tell(self, actor: str, message: Message) -> None:
        """To an actor of this node by name, at most once."""

    def answer(self, asker: Asker | None, message: Message) -> None:
        """Answer a message now or later; nothing happens where nobody waits."""

    def forward(self, actor: str, payload: bytes) -> None:
        """Hand an encoded admin message to another actor, whose answer goes to the present asker."""

    def after(self, seconds: float, message: Message) -> None:
        """Deliver ``message`` to this behaviour later. There is no cancelling: number your messages."""

    def spawn(self, name: str) -> None:
        """Node only: start the child ``name``; it answers Ready after its Configure."""

    def kill(self, name: str) -> None:
        """Node only: end the child ``name`` at once."""

    def look(self, name: str) -> Life:
        """Node only: the signs of life that the child ``name`` and the kernel show.

        Of ``launcher`` and ``admin``, from which node descends, those of the kernel.
        """

    def busy(self, step: str) -> None:
        """Name a step that may take long, such as ``a commit``; it holds until the handler or flush ends."""

    def log(self, level: int, text: str) -> None:
        """One line, never with a secret; levels as in ``logging``."""


class Behaviour:
    """Dispatches a message to ``on_<message_name>``, its own or a part's, and counts what it refuses."""

    name = ""
    level = INFO
    """Lines below it are not logged: a text that costs time is not made for them."""
    hopeless = False
    """Whether some handler failed FAILURES_MAX times in a row: the host then ends the actor."""
    parts: tuple[object, ...] = ()
    """Objects it holds whose ``on_`` methods take messages too, where it has none itself."""

    def __init__(self) -> None:
        self._failed: Counter[object] = Counter()
        self.counts: Counter[str] = Counter()
        """Reason -> how often something was dropped, delayed or refused; shown in ``status``."""

    def handle(self, message: Message, ctx: Context) -> None:
        """Take one message. An unknown one is refused loudly."""
        name = _handler_name(type(message))
        handler = getattr(self, name, None)
        if handler is None:
            handler = next((getattr(part, name) for part in self.parts if hasattr(part, name)), None)
        if handler is None:
            self.count(Reason.UNKNOWN_MESSAGE)
            refuse(ctx, EntglError(f"{self.name} does not take {message}", code=ErrorCode.UNSUPPORTED))
            return
        handler(message, ctx)

    def start(self, ctx: Context) -> None:
        """Called once, right after the behaviour was built: the moment to set timers."""

    def facts(self) -> dict[str, Json]:
        """The facts that the actor tells in Ready."""
        return {}

    def flush(self, ctx: Context) -> None:
        """Called after everything that had arrived was handled: the moment to act on the lot."""

    def on_ping(self, message: Ping, ctx: Context) -> None:
        """Answer that the actor serves."""
        ctx.answer(ctx.asker, Done())

    def on_dropped(self, message: Dropped, ctx: Context) -> None:
        """Count what a wire of this actor has refused."""
        self.count(Reason(message.reason))

    def went(self, handler: object, *, well: bool) -> None:
        """A handler has worked, or failed. One that fails on every message needs a new actor around it."""
        if well:
            self._failed.pop(handler, None)
        else:
            self._failed[handler] += 1
            self.hopeless = self.hopeless or self._failed[handler] >= FAILURES_MAX

    def count(self, reason: Reason, times: int = 1) -> None:
        """Note a drop, delay or refusal."""
        self.counts[reason.value] += times


def refuse(ctx: Context, fault: EntglError) -> None:
    """Answer the present asker with an error."""
    ctx.answer(ctx.asker, refused(fault))


def refused(fault: EntglError) -> Refused:
    """An error as it travels."""
    return Refused(fault.code.value, fault.text, fault.hint, fault.definite)


_NAMES: dict[type[Message], str] = {}


def _handler_name(cls: type[Message]) -> str:
    name = _NAMES.get(cls)
    if name is None:
        name = _NAMES[cls] = "on_" + re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
    return name
