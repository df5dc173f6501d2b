"""A parsed filter: a tree of frozen nodes, each of which says whether it matches a document.

A node below ``$elemMatch`` that has no path is asked of the element itself, not of what is in it.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Hashable
from typing import Any, Final, NamedTuple, Protocol

from entgldb.storage.rules.filtering.regex import Regex
from entgldb.storage.rules.filtering.values import KINDS, MISSING, Collate, identity, reached

COMPARISONS: Final = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


class Node(Protocol):
    """A condition on a document, or on an element of an array."""

    def matches(self, document: Any) -> bool:
        """Whether the document meets it."""


class Source(NamedTuple):
    """An operator of a filter, as it was given."""

    name: str
    operand: Any
    collation: str | None

    def text(self, parts: tuple[str, ...]) -> str:
        """It as a filter in JSON, beside the collation."""
        return json.dumps([{".".join(parts): {self.name: self.operand}}, self.collation], ensure_ascii=False)


class Test(Protocol):
    """A condition on one value."""

    def holds(self, value: Any) -> bool:
        """Whether the value meets it; MISSING is no value, and equal to null."""


class Every(NamedTuple):
    """All of several conditions; without any, it holds."""

    nodes: tuple[Node, ...]

    def matches(self, document: Any) -> bool:
        return all(node.matches(document) for node in self.nodes)


class Some(NamedTuple):
    """At least one of several conditions."""

    nodes: tuple[Node, ...]

    def matches(self, document: Any) -> bool:
        return any(node.matches(document) for node in self.nodes)


class No(NamedTuple):
    """That a condition is not met."""

    node: Node

    def matches(self, document: Any) -> bool:
        return not self.node.matches(document)


class Field(NamedTuple):
    """A test that one of the values at a path passes, or one element of an array that stands there."""

    parts: tuple[str, ...]
    test: Test
    source: Source
    """The operator it was made of, for those that ask it elsewhere."""

    def matches(self, document: Any) -> bool:
        for value in reached(document, self.parts):
            if self.test.holds(value):
                return True
            if self.parts and isinstance(value, list) and any(map(self.test.holds, value)):
                return True
        return False


class Exists(NamedTuple):
    """That something stands at a path, be it null."""

    parts: tuple[str, ...]
    source: Source
    """As that of Field."""

    def matches(self, document: Any) -> bool:
        return any(value is not MISSING for value in reached(document, self.parts))


class Size(NamedTuple):
    """That an array with so many elements stands at a path."""

    parts: tuple[str, ...]
    size: int
    source: Source
    """As that of Field."""

    def matches(self, document: Any) -> bool:
        return any(isinstance(v, list) and len(v) == self.size for v in reached(document, self.parts))


class Elements(NamedTuple):
    """That one element of an array at a path meets a condition; ``objects``: one that is an object."""

    parts: tuple[str, ...]
    node: Node
    objects: bool
    source: Source
    """As that of Field."""

    def matches(self, document: Any) -> bool:
        return any(
            (isinstance(element, dict) or not self.objects) and self.node.matches(element)
            for array in reached(document, self.parts)
            if isinstance(array, list)
            for element in array
        )


class Equal(NamedTuple):
    """Equal to one of several values; nothing is equal to null."""

    values: tuple[Any, ...]
    identities: frozenset[Hashable]
    collate: Collate

    def holds(self, value: Any) -> bool:
        return identity(value, self.collate) in self.identities


class Compared(NamedTuple):
    """Greater or less than a number or a text; only its own kind is compared with it."""

    name: str
    """One of COMPARISONS."""
    value: Any
    collate: Collate

    def holds(self, value: Any) -> bool:
        if isinstance(self.value, str):
            return isinstance(value, str) and bool(
                COMPARISONS[self.name](self.collate(value), self.collate(self.value))
            )
        return type(value) in (int, float) and bool(COMPARISONS[self.name](value, self.value))


class Kinds(NamedTuple):
    """Of one of several kinds."""

    names: frozenset[str]

    def holds(self, value: Any) -> bool:
        return value is not MISSING and KINDS[type(value)] in self.names


class Part(NamedTuple):
    """A text that has another text in it, or at its beginning."""

    text: str
    first: bool
    """Whether it is to stand at the beginning."""
    collate: Collate

    def holds(self, value: Any) -> bool:
        if not isinstance(value, str):
            return False
        whole, part = self.collate(value), self.collate(self.text)
        return whole.startswith(part) if self.first else part in whole


class Pattern(NamedTuple):
    """A text in which a regular expression is found."""

    regex: Regex

    def holds(self, value: Any) -> bool:
        return isinstance(value, str) and self.regex.found_in(value)
