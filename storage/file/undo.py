"""Containers that can be taken back to an earlier moment, at the price of what has changed since."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")
_ABSENT: Final = object()


class UndoDict(dict[K, V], Generic[K, V]):
    """A dict that notes what each change replaced."""

    def __init__(self, items: Mapping[K, V] | Iterable[tuple[K, V]] = ()) -> None:
        super().__init__(items)
        self._undo: list[tuple[K, V | object]] = []

    def __setitem__(self, key: K, value: V) -> None:
        self._undo.append((key, self.get(key, _ABSENT)))
        super().__setitem__(key, value)

    def __delitem__(self, key: K) -> None:
        self._undo.append((key, self[key]))
        super().__delitem__(key)

    def discard(self, key: K) -> None:
        """Take a key out if it is there."""
        if key in self:
            del self[key]

    def moment(self) -> int:
        """The present, for ``back_to``."""
        return len(self._undo)

    def back_to(self, moment: int) -> None:
        """Be as at an earlier moment."""
        while len(self._undo) > moment:
            key, value = self._undo.pop()
            if value is _ABSENT:
                super().pop(key, None)
            else:
                super().__setitem__(key, value)  # type: ignore[assignment]

    def settle(self) -> None:
        """Nobody comes back to a moment before now."""
        self._undo.clear()


class UndoSet(set[K], Generic[K]):
    """A set that notes each change."""

    def __init__(self, items: Iterable[K] = ()) -> None:
        super().__init__(items)
        self._undo: list[tuple[Callable[[Any], None], Any]] = []

    def add(self, item: K) -> None:
        if item not in self:
            self._undo.append((super().discard, item))
            super().add(item)

    def discard(self, item: object) -> None:
        if item in self:
            self._undo.append((super().add, item))
            super().discard(item)

    def moment(self) -> int:
        """The present, for ``back_to``."""
        return len(self._undo)

    def back_to(self, moment: int) -> None:
        """Be as at an earlier moment."""
        while len(self._undo) > moment:
            undo, item = self._undo.pop()
            undo(item)

    def settle(self) -> None:
        """Nobody comes back to a moment before now."""
        self._undo.clear()
