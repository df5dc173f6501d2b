"""Documents as values of a class of yours: a dataclass, an attrs class, a pydantic model, a msgspec Struct.

None of these libraries is imported here, unless the class is one of its own; cattrs looks after dataclasses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from entgldb.messages.errors import InvalidError, UnsupportedError

if TYPE_CHECKING:
    from entgldb.client.collection import Collection
    from entgldb.client.spread import Made

T = TypeVar("T")


class Shape(NamedTuple):
    """How values of a class become documents, and documents values."""

    name: str
    load: Callable[[Any], Any]
    """Raises ValueError or TypeError for a document that is none."""
    dump: Callable[[Any], dict[str, Any]]

    def loaded(self, place: str, fields: Mapping[str, Any]) -> Any:
        """The value of the document at ``place``. Raises InvalidError."""
        try:
            return self.load(dict(fields))
        except (ValueError, TypeError) as fault:
            raise InvalidError(
                f"{place} is no {self.name}: {' '.join(str(fault).split())}",
                hint="read it as a document, without the class",
            ) from None

    def pairs(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """Keys with values, as keys with documents."""
        pairs = values.items() if isinstance(values, Mapping) else values
        return ((key, self.dump(value)) for key, value in pairs)


def shape_of(kind: type) -> Shape:
    """How a class is stored. Raises UnsupportedError for one that is of none of these kinds."""
    if hasattr(kind, "model_validate"):
        return Shape(
            kind.__name__,
            kind.model_validate,
            lambda value: dict(value.model_dump(mode="json", by_alias=True)),
        )
    if hasattr(kind, "__struct_fields__"):
        import msgspec

        return Shape(
            kind.__name__,
            lambda fields: msgspec.convert(fields, kind),
            lambda value: dict(msgspec.to_builtins(value)),
        )
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__")):
        return _of_fields(kind)
    raise UnsupportedError(
        f"{kind!r:.80} is no class of documents",
        hint="a dataclass, an attrs class, a pydantic model or a msgspec Struct",
    )


def _of_fields(kind: type) -> Shape:
    import cattrs
    from cattrs.preconf.json import make_converter

    converter = make_converter()
    try:
        converter.get_structure_hook(kind)
    except cattrs.StructureHandlerNotFoundError as fault:
        raise UnsupportedError(
            f"{kind.__name__} has a field of a type that is not known: {fault}",
            hint="text or a number instead",
        ) from None

    def load(fields: Any) -> Any:
        try:
            return converter.structure(fields, kind)
        except cattrs.BaseValidationError as fault:
            raise ValueError("; ".join(cattrs.transform_error(fault, path="$"))) from None

    return Shape(kind.__name__, load, lambda value: dict(converter.unstructure(value, kind)))


class TypedCollection(Generic[T]):
    """``db.collection("users", User)``: the documents of a collection as values of a class.

    A value is stored whole, over whatever is there; ``documents`` has updates, versions and the rest. A field
    that the class does not have is not shown, and a value that is put again has lost it.
    """

    def __init__(self, documents: Collection, kind: type[T]) -> None:
        self.documents: Final = documents
        """The same collection without the class."""
        self._shape = shape_of(kind)

    def get(self, key: str) -> T | None:
        """One value, or None. Raises InvalidError where the document is none of the class."""
        found = self.documents.get(key)
        return None if found is None else self._value(key, found)

    def find(self, filter: Mapping[str, Any] | None = None, **options: Any) -> Iterator[T]:
        """The values that match; the options are those of ``Collection.find``."""
        return (value for _, value in self.items(filter, **options))

    def items(self, filter: Mapping[str, Any] | None = None, **options: Any) -> Iterator[tuple[str, T]]:
        """The same with their keys."""
        found = self.documents.find(filter, **options)
        return ((document.key, self._value(document.key, document)) for document in found)

    def insert(self, value: T, *, key: str | None = None, **options: Any) -> str:
        """Store a value that is not there yet, durably, as ``Collection.insert`` does; its key."""
        return self.documents.insert(self._shape.dump(value), key=key, **options).key

    def put(self, key: str, value: T, **options: Any) -> Made:
        """Store a value, durably, whole; the version made. The options are those of ``Collection.put``."""
        return self.documents.put(key, self._shape.dump(value), **options)

    def put_many(self, values: Mapping[str, T] | Iterable[tuple[str, T]], **options: Any) -> int:
        """Store many, as ``Collection.put_many`` does; how many."""
        return self.documents.put_many(self._shape.pairs(values), **options)

    def delete(self, key: str, **options: Any) -> Made | None:
        """Delete a document, durably, as ``Collection.delete`` does."""
        return self.documents.delete(key, **options)

    def count(self, filter: Mapping[str, Any] | None = None, **options: Any) -> int:
        """How many documents match; the options are those of ``Collection.count``."""
        return self.documents.count(filter, **options)

    def _value(self, key: str, fields: Mapping[str, Any]) -> T:
        made: T = self._shape.loaded(f"{self.documents.name}/{key}", fields)
        return made
