"""The verbs that write, once for both APIs: each makes its requests, and reads what came of them.

A verb is a coroutine that waits through its ``Hands`` alone. Those of the asyncio API wait in the event loop.
Those of the blocking API wait on the spot: there a verb runs from its begin to its end in one step.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from entgldb.client import writes
from entgldb.client.spread import Ack, Made, Spread, SpreadError, Who
from entgldb.client.upkeep.tracing import commit
from entgldb.client.writes import Document, Part
from entgldb.messages.client import ABSENT, RequestId, Write
from entgldb.messages.errors import EntglError, NoAnswerError
from entgldb.messages.model import Version

if TYPE_CHECKING:
    from entgldb.client.door import Door
    from entgldb.messages.schema import Message

R = TypeVar("R")


class Hands(Protocol):
    """How one of the APIs waits."""

    @property
    def file(self) -> Door:
        """The database in the blocking API."""
        ...

    def do(self, verb: Coroutine[Any, Any, R]) -> R:
        """The result of a verb; in the asyncio API the verb itself, which the caller awaits."""
        ...

    async def read(self, work: Callable[[], R]) -> R:
        """Have something done that reads the file."""
        ...

    def begin(self, message: Message) -> Callable[[], Awaitable[Message]]:
        """A request to the store, sent now or when its answer is awaited; the function waits for that."""
        ...

    async def await_spread(self, need: str, versions: Sequence[Version] | None, seconds: float) -> Spread:
        """Wait until the members that are needed have these versions. Raises SpreadError."""
        ...

    def spread(self, version: Version) -> Any:
        """Which other members have a version; in the asyncio API to be awaited."""
        ...


class OnTheSpot:
    """The hands of the blocking API."""

    def __init__(self, file: Door) -> None:
        self.file: Final = file

    def do(self, verb: Coroutine[Any, Any, R]) -> R:
        try:
            verb.send(None)
        except StopIteration as end:
            result: R = end.value
            return result
        raise AssertionError(f"{verb} waits for an event loop")

    async def read(self, work: Callable[[], R]) -> R:
        return work()

    def begin(self, message: Message) -> Callable[[], Awaitable[Message]]:
        wait = self.file.begin(message)

        async def answer() -> Message:
            return wait()

        return answer

    async def await_spread(self, need: str, versions: Sequence[Version] | None, seconds: float) -> Spread:
        return self.file.await_spread(need, versions, seconds)

    def spread(self, version: Version) -> Spread:
        return self.file.spread(version)


async def asked(hands: Hands, message: Message) -> None:
    """A request to the store of which only that it was done matters."""
    await hands.begin(message)()


class Writing:
    """The verbs that write to one collection; ``Collection`` says what each means."""

    def __init__(self, hands: Hands, name: str, ack: Ack | None) -> None:
        """``name``: of the collection. ``ack``: the members that a write waits for; None: no other node."""
        self._hands = hands
        self._name = name
        self._ack = ack

    def acked(self, ack: Who | None, seconds: float) -> Writing:
        """The same verbs, where a write waits for others than the rest does; None: for the same."""
        return self if ack is None else Writing(self._hands, self._name, Ack.of(ack, seconds))

    async def insert(
        self, document: Mapping[str, Any], key: str | None, expire_after: float | None, request: str | None
    ) -> Document:
        """One new document; ``key`` of an error says which one was made, or may have been."""
        writes.refuse_unnamed(request, keyed=key is not None)
        key = writes.new_key() if key is None else key
        life_ms = writes.life(expire_after)
        write = writes.put(self._name, key, document, expects=ABSENT, life_ms=life_ms)
        try:
            (version,) = await self._begin((write,), writes.request_id(request))()
            assert version is not None
            return writes.inserted(write, await self._acknowledged(version))
        except (NoAnswerError, SpreadError) as fault:
            fault.key = key
            raise

    async def insert_many(
        self,
        documents: Mapping[str, Mapping[str, Any]] | Iterable[Mapping[str, Any]],
        expire_after: float | None,
        request: str | None,
        *,
        atomic: bool,
    ) -> list[str]:
        """Many new documents; their keys."""
        writes.refuse_unnamed(request, keyed=isinstance(documents, Mapping))
        keys: list[str] = []
        pairs = writes.keyed(documents, keys)
        life_ms, absent = writes.life(expire_after), ABSENT
        cut = writes.parts(self._name, pairs, atomic=atomic, expects=absent, life_ms=life_ms)
        await self._put_parts(cut, request)
        return keys

    async def put(
        self,
        key: str,
        document: Mapping[str, Any],
        if_version: Version | None,
        expire_after: float | None,
        request: str | None,
    ) -> Made:
        """One document; the version made."""
        expects = writes.expected(if_version)
        life_ms = writes.life(expire_after)
        # only of a document that was read at this place does it matter, and is it worth a look at the file
        was_read = isinstance(document, Document) and document.read_from(self._name, key) is not None
        merges = was_read and await self._hands.read(self.merges)
        write = writes.put(self._name, key, document, lambda: merges, expects, life_ms)
        (version,) = await self._begin((write,), writes.request_id(request))()
        assert version is not None
        if isinstance(document, Document):
            document.was_put(write, version)
        return await self._acknowledged(version)

    async def put_many(
        self, documents: writes.Many, expire_after: float | None, request: str | None, *, atomic: bool
    ) -> int:
        """Many documents; how many."""
        life_ms = writes.life(expire_after)
        # one short read, and only where a document that was read is among them
        merges = functools.cache(self.merges)
        cut = writes.parts(self._name, documents, merges, atomic=atomic, life_ms=life_ms)
        return await self._put_parts(cut, request)

    async def write(self, write: Write, request: str | None) -> Made | None:
        """One write; the version made, or None where it met nothing."""
        (version,) = await self._begin((write,), writes.request_id(request))()
        return None if version is None else await self._acknowledged(version)

    async def change_many(
        self, filter: Mapping[str, Any], collation: str | None, operators: Mapping[str, Any] | None
    ) -> int:
        """Update all documents that match, or delete them where ``operators`` is None; how many."""
        parts_of = writes.matching(self._name, filter, collation, operators)
        file = self._hands.file
        pages = await self._hands.read(lambda: file.documents.keys(self._name, filter, collation=collation))
        cut = (part for page in pages for part in parts_of(page))
        try:
            return await self._put_parts(cut, None, reads=True)
        except EntglError as fault:
            writes.forget_request(fault)
            raise

    def merges(self) -> bool:
        """Whether concurrent writes are merged field by field, as far as the node knows."""
        return self._hands.file.documents.conflict_rule(self._name) == "merge"

    async def _put_parts(self, cut: Iterator[Part], request: str | None, *, reads: bool = False) -> int:
        """``reads``: whether a part is made by reading the file."""
        stored = 0
        under_way: Callable[[], Awaitable[int]] | None = None

        def take() -> Part | None:
            return next(cut, None)

        try:
            # a part is made while the node writes the one before
            for number in count():
                part = await self._hands.read(take) if reads else take()
                if under_way is not None:
                    answer, under_way = under_way, None
                    stored += await answer()
                if part is None:
                    break
                under_way = self._begin_part(part, writes.request_id(request, number))
        except Exception as fault:
            if under_way is not None:
                with contextlib.suppress(EntglError):
                    stored += await under_way()
            if isinstance(fault, EntglError):
                fault.stored += stored
            raise
        return stored

    def _begin_part(self, part: Part, request: RequestId | None) -> Callable[[], Awaitable[int]]:
        answer = self._begin(part.writes, request)

        async def stored() -> int:
            versions = await answer()
            number = part.was_put(versions)
            try:
                await self._await_ack(versions)
            except EntglError as fault:
                fault.stored = number
                raise
            return number

        return stored

    def _begin(
        self, made: tuple[Write, ...], request: RequestId | None
    ) -> Callable[[], Awaitable[list[Version | None]]]:
        """A commit; the function returned waits until it is durable, and returns the versions made."""
        answer = self._hands.begin(commit(request or self._hands.file.next_request(), made))

        async def versions() -> list[Version | None]:
            return writes.versions(await answer(), made)

        return versions

    async def _acknowledged(self, version: Version) -> Made:
        """A version once those who have to have it."""
        return Made.of(version, self._hands.spread, await self._await_ack([version]))

    async def _await_ack(self, versions: Sequence[Version | None]) -> Spread | None:
        """Wait until those who have to have what was made; who has it."""
        if self._ack is None:
            return None
        made = [version for version in versions if version is not None]
        return await self._hands.await_spread(self._ack.need, made, self._ack.seconds)
