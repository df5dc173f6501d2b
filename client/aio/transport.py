"""``Transport``: the way from an asyncio ``Database`` to the writer of its file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from entgldb.messages.schema import Message


class Transport(Protocol):
    """The way to the writer of a file, from one event loop."""

    listeners: set[Callable[[], None]]
    """Called when something was committed, after ``follow``."""

    async def attached(self) -> object:
        """Make sure that a writer is there. Raises NoNodeError."""
        ...

    async def request(self, message: Message) -> Message:
        """The answer to one request. Raises what it was refused with; NoAnswerError."""
        ...

    async def follow(self) -> None:
        """Have the ``listeners`` called. Raises NoNodeError or NoAnswerError."""
        ...

    def close(self) -> None:
        """Take no request any more."""
        ...
