"""``Door``: the part of ``Database`` that its verbs need, each in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from entgldb.client.feed import Following
    from entgldb.client.feeds.live import Live, LiveQuery
    from entgldb.client.feeds.selecting import Selected
    from entgldb.client.spread import Spread
    from entgldb.messages.client import RequestId
    from entgldb.messages.model import Version
    from entgldb.messages.schema import Json, Message
    from entgldb.storage.documents.feed import Changes
    from entgldb.storage.documents.query import Documents


class Door(Protocol):
    """The file of a node, and the way to its actors."""

    @property
    def directory(self) -> Path:
        """That of the node."""
        ...

    @property
    def documents(self) -> Documents:
        """The file, opened read-only in this process."""
        ...

    def token(self) -> str:
        """The change token after everything that is here now."""
        ...

    def changes(
        self,
        since: str | None = None,
        *,
        collection: str | None = None,
        filter: Mapping[str, Any] | None = None,
        follow: bool = False,
    ) -> Changes | Following | Selected:
        """Changes after a token, oldest first, at least once."""
        ...

    def live(self, query: LiveQuery) -> Live:
        """The results of a query, again whenever they have changed."""
        ...

    def next_request(self) -> RequestId:
        """An id that makes a retry harmless."""
        ...

    def request(self, message: Message) -> Message:
        """Send a request to the store and give its answer."""
        ...

    def begin(self, message: Message) -> Callable[[], Message]:
        """Send a request to the store; the function returned waits for the answer."""
        ...

    def await_spread(self, need: str, versions: Sequence[Version] | None, seconds: float) -> Spread:
        """Wait until the members that are needed have these versions. Raises SpreadError."""
        ...

    def spread(self, version: Version) -> Spread:
        """Which other members have a version, as far as this node knows now."""
        ...

    def ask(self, actor: str, message: Message, *, timeout: float | None = None) -> Message:
        """Send an admin message to an actor and give its answer; ``timeout`` in seconds."""
        ...

    def status(self, actor: str = "node") -> dict[str, Json]:
        """The status of an actor, in its own words."""
        ...
