"""How far writes have gone: which other members have them on their disks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from entgldb.messages.errors import EntglError, ErrorCode, InvalidError, NoNodeError
from entgldb.messages.limits import MEMBERS_MAX
from entgldb.messages.model import NODE_ID, Version, whole_number

if TYPE_CHECKING:
    from entgldb.client.transport import Transport
    from entgldb.messages.administration import AwaitSpread
    from entgldb.messages.schema import Message

Who = str | int | Iterable[str]
"""The members that a write waits for: ``local``, ``peers:N`` or N, ``all``, ``cloud``, or node ids."""
_NEEDS: Final = "local, peers:N, all, cloud, or a list of node ids"
LOCAL: Final = "local"
"""The ``ack`` that waits for nobody else."""
ACK_SECONDS: Final = 10.0
"""For which a write with another one waits, unless it says otherwise."""
SLICE_SECONDS: Final = 5.0
"""For which one question waits; then it is asked again."""
SLACK_SECONDS: Final = 2.0
"""For which its answer may be late."""
PASSING: Final = (ErrorCode.TIMEOUT, ErrorCode.BUSY, ErrorCode.NO_NODE)
"""Of a node whose actor is being restarted."""
AGAIN_SECONDS: Final = 0.1
"""Between two attempts to ask a node whose actor is being restarted."""


class Spread(NamedTuple):
    """Which other members of the cluster have something, as far as this node knows."""

    durable: tuple[str, ...]
    """Node ids of those that have said so: it is on their disks."""
    missing: tuple[str, ...]
    """Those that have not said so yet."""
    reached: bool = True
    """Whether those that were waited for are among the first."""

    def __str__(self) -> str:
        told = f"durable on {', '.join(self.durable)}" if self.durable else "on no other node"
        return f"{told}; {', '.join(self.missing)} not yet" if self.missing else told


class Made(Version):
    """A version that a write gave, which can be asked how far it has gone."""

    spread: Spread | None = None
    """The members that had it when the write returned; None where it waited for nobody else."""
    _ask: Callable[[Version], Any]

    @classmethod
    def of(cls, version: Version, ask: Callable[[Version], Any], spread: Spread | None = None) -> Made:
        """``ask``: ``spread`` of the database of that version."""
        made = cls(*version)
        made._ask, made.spread = ask, spread
        return made

    def status(self) -> Any:
        """Which other members have it, as far as the node knows now: a Spread, which asyncio awaits."""
        return self._ask(self)

    def __repr__(self) -> str:
        return repr(Version(*self))

    def __reduce__(self) -> tuple[type[Version], tuple[str, int]]:
        # a copy, perhaps in another process, has no database to ask
        return Version, (self.origin, self.seq)


class SpreadError(EntglError):
    """A write is durable here, and not yet on the nodes that were asked for. It goes on its way.

    ``spread`` tells who has it, ``versions`` which versions were made. Do not write again.
    """

    code = ErrorCode.NOT_SPREAD
    spread: Spread = Spread((), (), reached=False)
    versions: tuple[Version, ...] = ()


def need_of(ack: Who) -> str:
    """``peers:N``, ``all``, ``cloud``, N, or node ids, as a node takes it.

    Raises InvalidError for all else: before a write, of which nobody should think then that it was done.
    """
    if isinstance(ack, str):
        need = ack
    elif isinstance(ack, int):
        need = f"peers:{ack}"
    else:
        need = f"nodes:{','.join(ack)}" if isinstance(ack, Iterable) else ""
    word, _, rest = need.partition(":")
    named = word == "nodes" and all(NODE_ID.fullmatch(name) for name in rest.split(","))
    counted = word == "peers" and bool(whole_number(rest, MEMBERS_MAX))
    if not (need in ("all", "cloud") or named or counted):
        raise InvalidError(f"{ack!r:.80} does not say who has to have it", hint=_NEEDS)
    return need


def read_ack(text: str) -> str | list[str]:
    """The ``ack`` that people write: ``local``, ``peers:N``, ``all``, ``cloud``, or names with commas."""
    named = text in (LOCAL, "all", "cloud") or text.startswith("peers:")
    return text if named else text.split(",")


class Ack(NamedTuple):
    """The members that have to have a write on their disks before it is done, and for how long it waits."""

    need: str
    seconds: float

    @classmethod
    def of(cls, ack: Who, seconds: float) -> Ack | None:
        """None for ``local``. Raises InvalidError."""
        return None if ack == LOCAL else cls(need_of(ack), seconds)


class Waiting:
    """One wait, question by question, for both APIs: ask each, and give ``answered`` or ``failed`` the
    outcome."""

    def __init__(
        self,
        need: str,
        versions: Sequence[Version] | None,
        seconds: float,
        slice_seconds: float = SLICE_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``versions`` None: all that the node has now. ``now``: the clock that measures the time."""
        self._now = now
        self._slice = slice_seconds
        self._versions = tuple(versions or ())
        self._need = need
        self._vector = None if versions is None else newest(versions)
        self._until = now() + seconds
        self._seconds = seconds
        self._spread: Spread | None = None
        self._fault: EntglError | None = None

    def questions(self) -> Iterator[AwaitSpread]:
        """The next question, as long as there is reason for one."""
        # for those who wait; every client imports this module
        from entgldb.messages.administration import AwaitSpread

        while self._spread is None or not self._spread.reached:
            left = self._until - self._now()
            if left <= 0 and (self._spread or self._fault):
                return
            yield AwaitSpread(self._need, self._vector, min(max(left, 0.0), self._slice))

    def answered(self, answer: Message) -> None:
        """A question was answered."""
        body: dict[str, Any] = getattr(answer, "body", {})
        durable, missing = (tuple(map(str, body.get(name, ()))) for name in ("durable", "missing"))
        self._spread = Spread(durable, missing, bool(body.get("reached")))

    def failed(self, fault: EntglError) -> None:
        """The node did not answer: its actor may be in the middle of a restart. Raises what lasts, unless
        something was written."""
        if fault.code not in PASSING or (isinstance(fault, NoNodeError) and fault.lasting):
            if not (self._need and self._versions):
                raise fault
            # they are written: the error has to say so
            self._until, self._seconds = self._now(), 0.0
        self._fault = fault

    def outcome(self) -> Spread:
        """How far it has gone. Raises SpreadError."""
        spread = self._spread or Spread((), (), reached=False)
        if spread.reached:
            return spread
        known = f"the node did not say who has it ({self._fault})" if self._spread is None else str(spread)
        error = SpreadError(
            f"durable here, and after {self._seconds:g} s not on {self._need}: {known}",
            hint="it goes on its way by itself; do not write it again",
        )
        error.spread, error.versions = spread, self._versions
        raise error


def newest(versions: Iterable[Version]) -> dict[str, int]:
    """Of each origin the newest of these versions."""
    found: dict[str, int] = {}
    for origin, seq in versions:
        found[origin] = max(seq, found.get(origin, 0))
    return found


def wait(transport: Transport, need: str, versions: Sequence[Version] | None, seconds: float) -> Spread:
    """Wait until those that are needed have it all. Raises SpreadError when the time is over.

    Raises InvalidError for a need that is none, NotFoundError where nobody can meet it.
    """
    waiting = Waiting(need, versions, seconds, now=transport.now)
    for question in waiting.questions():
        try:
            waiting.answered(transport.ask_aside("sync", question, question.seconds + SLACK_SECONDS))
        except EntglError as fault:
            waiting.failed(fault)
            transport.pause(AGAIN_SECONDS)
    return waiting.outcome()
