"""Collections as tables of pandas, polars and Arrow, where these are installed. Nothing here needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol

from entgldb.messages.errors import InvalidError, UnsupportedError

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from entgldb.client.writes import Document

KEY: Final = "_key"
"""The column of keys."""


class Source(Protocol):
    """A collection."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def find(self) -> Callable[..., Iterator[Document]]:
        """The documents that match a filter, with options."""
        ...


def to_pandas(self: Source, /, filter: Mapping[str, Any] | None = None, **options: Any) -> pandas.DataFrame:
    """The documents that match as a pandas DataFrame, a column a field, by key; options as for ``find``.

    Raises UnsupportedError where pandas is not installed.
    """
    made = _library("pandas", "to_pandas")
    found = list(self.find(filter, **options))
    keys = made.Index([one.key for one in found], name=KEY, dtype="str")
    frame: pandas.DataFrame = made.DataFrame([dict(one) for one in found], index=keys)
    return frame


def to_polars(self: Source, /, filter: Mapping[str, Any] | None = None, **options: Any) -> polars.DataFrame:
    """The same as a polars DataFrame, the keys in the column ``_key``. A column has one type.

    Raises UnsupportedError where polars is not installed, InvalidError where a field has several types.
    """
    made = _library("polars", "to_polars")
    try:
        columns = _columns(self, filter, options)
        frame: polars.DataFrame = made.DataFrame(
            [made.Series(name, values, strict=True) for name, values in columns.items()]
        )
    except (TypeError, OverflowError, made.exceptions.PolarsError) as fault:
        raise _several(self, fault) from None
    return frame


def to_arrow(self: Source, /, filter: Mapping[str, Any] | None = None, **options: Any) -> pyarrow.Table:
    """The same as a table of Arrow.

    Raises UnsupportedError where pyarrow is not installed, InvalidError where a field has several types.
    """
    made = _library("pyarrow", "to_arrow")
    try:
        columns = _columns(self, filter, options)
        table: pyarrow.Table = made.table({name: made.array(values) for name, values in columns.items()})
    except (OverflowError, made.ArrowException) as fault:
        raise _several(self, fault) from None
    return table


def _columns(collection: Source, filter: Mapping[str, Any] | None, options: Any) -> dict[str, list[Any]]:
    """Keys, and the values of each field; None where a document does not have it."""
    found = list(collection.find(filter, **options))
    columns: dict[str, list[Any]] = {KEY: [document.key for document in found]}
    for name in dict.fromkeys(name for document in found for name in document):
        if name == KEY:
            raise InvalidError(
                f"{collection.name} has documents with a field {KEY}: the keys have that column",
                hint="to_pandas has the keys beside the columns",
            )
        values = [document.get(name) for document in found]
        kinds = {type(value) for value in values} - {type(None)}
        columns[name] = [None if v is None else float(v) for v in values] if kinds == {int, float} else values
    return columns


def _several(collection: Source, fault: Exception) -> InvalidError:
    return InvalidError(
        f"a field of {collection.name} fits no column of one type: {' '.join(str(fault).split())[:200]}",
        hint="to_pandas takes any values",
    )


def _library(name: str, verb: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise UnsupportedError(
            f"{verb} needs {name}, which is not installed", hint=f"pip install {name}"
        ) from None
