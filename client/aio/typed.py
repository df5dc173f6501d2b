"""Documents as values of a class of yours, for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from entgldb.client.forms.typed import shape_of

if TYPE_CHECKING:
    from entgldb.client.aio.collection import Collection
    from entgldb.client.spread import Made

T = TypeVar("T")


class TypedCollection(Generic[T]):
    """``db.collection("users", User)``: the documents of a collection as values of a class.

    As in the blocking API.
    """

    def __init__(self, documents: Collection, kind: type[T]) -> None:
        self.documents: Final = documents
        """The same collection without the class."""
        self._shape = shape_of(kind)

    async def get(self, key: str) -> T | None:
        """One value, or None. Raises InvalidError where the document is none of the class."""
        found = await self.documents.get(key)
        return None if found is None else self._value(key, found)

    async def find(self, filter: Mapping[str, Any] | None = None, **options: Any) -> AsyncIterator[T]:
        """The values that match; the options are those of ``Collection.find``."""
        async for _, value in self.items(filter, **options):
            yield value

    async def items(
        self, filter: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncIterator[tuple[str, T]]:
        """The same with their keys."""
        async for document in self.documents.find(filter, **options):
            yield document.key, self._value(document.key, document)

    async def insert(self, value: T, *, key: str | None = None, **options: Any) -> str:
        """Store a value that is not there yet, durably; its key."""
        return (await self.documents.insert(self._shape.dump(value), key=key, **options)).key

    async def put(self, key: str, value: T, **options: Any) -> Made:
        """Store a value, durably, whole; the version made. The options are those of ``Collection.put``."""
        return await self.documents.put(key, self._shape.dump(value), **options)

    async def put_many(self, values: Mapping[str, T] | Iterable[tuple[str, T]], **options: Any) -> int:
        """Store many, as ``Collection.put_many`` does; how many."""
        return await self.documents.put_many(self._shape.pairs(values), **options)

    async def delete(self, key: str, **options: Any) -> Made | None:
        """Delete a document, durably, as ``Collection.delete`` does."""
        return await self.documents.delete(key, **options)

    async def count(self, filter: Mapping[str, Any] | None = None, **options: Any) -> int:
        """How many documents match; the options are those of ``Collection.count``."""
        return await self.documents.count(filter, **options)

    def _value(self, key: str, fields: Mapping[str, Any]) -> T:
        made: T = self._shape.loaded(f"{self.documents.name}/{key}", fields)
        return made
