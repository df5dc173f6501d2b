"""Containers that can be taken back to an earlier moment, at the price of what has changed since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")
_ABSENT: Final = object()


class UndoDict(dict[K, V], Generic[K, V]):
    """A dict that notes what each change replaced, in a journal that it may share with others."""

    __slots__ = ("journal",)

    def __init__(
        self, items: Mapping[K, V] | Iterable[tuple[K, V]] = (), journal: Journal | None = None
    ) -> None:
        super().__init__(items)
        self.journal = Journal() if journal is None else journal

    def __setitem__(self, key: K, value: V) -> None:
        self.journal.append((self, key, self.get(key, _ABSENT)))
        dict.__setitem__(self, key, value)

    def __delitem__(self, key: K) -> None:
        self.journal.append((self, key, self[key]))
        dict.__delitem__(self, key)

    def discard(self, key: K) -> None:
        if key in self:
            del self[key]

    def put_back(self, key: K, value: Any) -> None:
        """Undo one change."""
        if value is _ABSENT:
            dict.__delitem__(self, key)
        else:
            dict.__setitem__(self, key, value)


class UndoSet(set[K], Generic[K]):
    """A set that notes each change, likewise."""

    __slots__ = ("journal",)

    def __init__(self, items: Iterable[K] = (), journal: Journal | None = None) -> None:
        super().__init__(items)
        self.journal = Journal() if journal is None else journal

    def add(self, item: K) -> None:
        if item not in self:
            self.journal.append((self, item, _ABSENT))
            set.add(self, item)

    def discard(self, item: object) -> None:
        if item in self:
            self.journal.append((self, item, item))
            set.discard(self, item)

    def put_back(self, item: K, value: Any) -> None:
        if value is _ABSENT:
            set.discard(self, item)
        else:
            set.add(self, item)


class Journal(list[tuple[UndoDict[Any, Any] | UndoSet[Any], Any, Any]]):
    """Changes of containers: where, of what, and what was there before. Its length is a moment."""

    def back_to(self, moment: int) -> None:
        """Undo all that came after an earlier moment."""
        while len(self) > moment:
            container, key, value = self.pop()
            container.put_back(key, value)
