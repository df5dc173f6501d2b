"""The third host: carries ``store`` and ``oplog`` in the threads of the program that has opened a directory.

A thread that asks puts its request into a queue and takes the turn as soon as it is free; a turn carries out
all that has arrived by then. Requests of several threads so share a commit, and one thread alone waits for
nobody.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import RLock, get_ident
from typing import Final

from entgldb.actors.behaviour import Asker, Behaviour, Life, refused
from entgldb.actors.host.clocks import OfThisMachine
from entgldb.actors.host.timers import Timers
from entgldb.client.transport import closed
from entgldb.messages import codec
from entgldb.messages.client import Done, Follow
from entgldb.messages.errors import BusyError, EntglError, NoAnswerError, NoNodeError, Reason
from entgldb.messages.limits import CLIENT_TURN_MAX
from entgldb.messages.local.actors import BuildIndexes, StopNow, Tick
from entgldb.messages.schema import Channel, Message

log = logging.getLogger("entgldb")

LAST_TICKS: Final = (Tick("release"), Tick("retention"))
"""Looks of oplog that a program which ends early would never have taken."""


FAILURES: Final = (Reason.HANDLER_FAILED.value, Reason.DISK_ERROR.value)
"""Counted of an actor, each of these says that its memory may not agree with the file."""


class Answer:
    """Keeps the answer to one request."""

    __slots__ = ("message",)

    def __init__(self) -> None:
        self.message: Message | None = None

    def answer(self, message: Message) -> None:
        self.message = message


class Follower:
    """Is told of commits."""

    def __init__(self, news: Callable[[], None]) -> None:
        self.closed = False
        self._news = news

    def answer(self, message: Message) -> None:
        self._news()

    def close(self) -> None:
        """Be told no more."""
        self.closed = True


class Context(OfThisMachine):
    """All that a behaviour may do to the world, here to its own process."""

    def __init__(self, host: Host, name: str) -> None:
        self._host, self._name = host, name
        self.asker: Asker | None = None

    def tell(self, actor: str, message: Message) -> None:
        self._host.tell(actor, message)

    def answer(self, asker: Asker | None, message: Message) -> None:
        if asker is not None:
            asker.answer(message)

    def forward(self, actor: str, payload: bytes) -> None:
        self._host.forward(actor, payload, self.asker)

    def after(self, seconds: float, message: Message) -> None:
        self._host.after(seconds, self._name, message)

    def spawn(self, name: str) -> None:
        raise EntglError("only a node has children")

    def kill(self, name: str) -> None:
        raise EntglError("only a node has children")

    def look(self, name: str) -> Life:
        return Life()

    def busy(self, step: str) -> None:
        """Nobody supervises a program that has opened a directory."""

    def log(self, level: int, text: str) -> None:
        log.log(level, "%s: %s", self._name, text)


class Host:
    """The two actors of an open directory. Safe to use from several threads."""

    def __init__(self, place: str, build: Callable[[Host], Sequence[Behaviour]]) -> None:
        """``place``: the directory, for errors. ``build`` makes the actors, and makes them anew."""
        self._place, self._build = place, build
        self._turn = RLock()
        """A signal handler may come between having it and beginning: it then has a turn of its own."""
        self._owner = 0
        """The thread that has the turn."""
        self._over: Callable[[], EntglError] | None = None
        """Makes the error that says why nothing is done here any more."""
        self._torn = False
        """Whether a turn was broken off in the middle: the actors' memory may not agree with the file."""
        self._arrived: deque[tuple[Asker, Message]] = deque()
        """Requests for the store, from any thread."""
        self._inbox: deque[tuple[str, Asker | None, Message]] = deque()
        """Messages between the actors."""
        self._timers: Timers[tuple[str, Message]] = Timers()
        self._followers: list[Follower] = []
        self._actors: dict[str, tuple[Behaviour, Context]] = {}
        with self._turn:
            self._start()

    # --- any thread ----------------------------------------------------------------------------

    def is_over(self) -> bool:
        """Whether nothing is done here any more."""
        return self._over is not None

    def check(self) -> None:
        """Raise the error that says why nothing is done here any more, if so it is."""
        if self._over is not None:
            raise self._over()

    def ask(self, message: Message) -> Message:
        """The answer of the store, Refused included. Waits until whoever has the turn is ready."""
        self.check()
        answer = Answer()
        self._refuse_within()
        self._arrived.append((answer, message))
        with self._turn:
            # another thread may have carried it out together with its own
            while answer.message is None and self._arrived:
                self._take_turn()
        if answer.message is None:
            self.check()
            raise NoAnswerError(f"{message} was broken off: it may have been done", definite=False)
        return answer.message

    def put(self, message: Message, asker: Asker) -> None:
        """Leave a request for the next turn."""
        self.check()
        self._arrived.append((asker, message))

    def turn(self) -> None:
        """Carry out all that has arrived, and all that is due."""
        self._refuse_within()
        with self._turn:
            self._take_turn()

    @property
    def waiting(self) -> bool:
        """Whether requests wait for a turn."""
        return bool(self._arrived)

    def due(self) -> bool:
        """Whether an actor has something to do by now."""
        return self._timers.next() <= time.monotonic()

    def tend(self) -> None:
        """Do what is due."""
        if self.due():
            self.turn()

    def builds(self) -> bool:
        """Whether an index is being built."""
        return self._timers.has(lambda one: isinstance(one[1], BuildIndexes))

    def rest(self) -> float:
        """Seconds until something is due."""
        return max(0.0, self._timers.next() - time.monotonic())

    def follow(self, news: Callable[[], None]) -> Follower:
        """Call ``news`` after each commit from now on, in the thread that makes it."""
        made = Follower(news)
        self._followers = [*(one for one in self._followers if not one.closed), made]
        self.put(Follow(), made)
        self.turn()
        return made

    def close(self) -> None:
        """End in good order; harmless when repeated, and in a process that was forked from this one."""
        if self.is_over():
            return
        self._refuse_within()
        with self._turn:
            if self.is_over():
                return
            try:
                self._inbox.extend(("oplog", None, tick) for tick in LAST_TICKS)
                self._take_turn()
            finally:
                self._over = closed
                self._handle("store", None, StopNow())
        for follower in self._followers:
            follower.answer(Done())

    def abandon(self, why: Callable[[], EntglError]) -> None:
        """Do nothing any more, and touch nothing: in a forked process."""
        self._over = why

    # --- edges and actors ----------------------------------------------------------------------

    def post(self, message: Message) -> None:
        """From a thread of oplog's shelf: taken in the next turn."""
        self._inbox.append(("oplog", None, message))

    def tell(self, actor: str, message: Message) -> None:
        """From one actor to another; a message to one that only a node has goes nowhere."""
        if actor in self._actors:
            self._inbox.append((actor, None, message))

    def forward(self, actor: str, payload: bytes, asker: Asker | None) -> None:
        """An administrator's message to another actor than the store."""
        inner = codec.decode(payload, Channel.LOCAL).message
        if actor in self._actors:
            self._inbox.append((actor, asker, inner))
        elif asker is not None:
            asker.answer(refused(NoNodeError(f"there is no {actor} here")))

    def after(self, seconds: float, actor: str, message: Message) -> None:
        """Deliver a message in the first turn after so many seconds."""
        self._timers.add(time.monotonic() + seconds, (actor, message))

    # --- a turn --------------------------------------------------------------------------------

    def _refuse_within(self) -> None:
        if self._owner == get_ident():
            raise BusyError(
                f"{self._place} was used from within its own work, by a log handler or a signal handler",
                hint="have the handler leave it to another thread",
            )

    def _take_turn(self) -> None:
        """All that has arrived. An exception that breaks it off, such as Ctrl-C, costs the actors' memory."""
        self.check()
        torn, self._torn = self._torn, True
        try:
            self._owner = get_ident()
            if torn:
                self._start()
            if self.due():
                self._inbox.extend((name, None, due) for name, due in self._timers.pop_due(time.monotonic()))
            # no more than a client of a node has taken in a turn: the others have theirs
            for _ in range(min(len(self._arrived), CLIENT_TURN_MAX)):
                self._handle("store", *self._arrived.popleft())
            self._carry_out()
            self._torn = self._failures() > 0
        finally:
            self._owner = 0

    def _failures(self) -> int:
        """Of the actors, since they were made. A failed handler may have met what Ctrl-C had left."""
        return sum(one.counts[reason] for one, _ in self._actors.values() for reason in FAILURES)

    def _start(self) -> None:
        """The actors with the memory that the file gives them: at first, and as after the death of one."""
        self._inbox.clear()
        self._timers = Timers()
        behaviours = self._build(self)
        self._actors = {one.name: (one, Context(self, one.name)) for one in behaviours}
        for behaviour, context in self._actors.values():
            behaviour.start(context)
        self._inbox.extend(("store", one, Follow()) for one in self._followers if not one.closed)
        self._carry_out()

    def _carry_out(self) -> None:
        """Commit what was handled, and go on until no actor has anything to tell the other."""
        self._flush()
        while self._inbox:
            self._handle(*self._inbox.popleft())
            if not self._inbox:
                self._flush()

    def _flush(self) -> None:
        for behaviour, context in self._actors.values():
            behaviour.went("flush", well=_fenced(behaviour, behaviour.flush, context))

    def _handle(self, name: str, asker: Asker | None, message: Message) -> None:
        behaviour, context = self._actors[name]
        context.asker = asker
        well = _fenced(behaviour, behaviour.handle, message, context)
        behaviour.went(type(message).__name__, well=well)
        if not well and asker is not None:
            text = f"{name} failed on {message}; the log of this program tells why"
            asker.answer(refused(EntglError(text, definite=False)))
        context.asker = None


def _fenced(behaviour: Behaviour, work: Callable[..., None], *arguments: object) -> bool:
    """A fault met by one message shall not cost the others theirs."""
    try:
        work(*arguments)
    except Exception:
        log.exception("%s failed", behaviour.name)
        behaviour.count(Reason.HANDLER_FAILED)
        return False
    return True
