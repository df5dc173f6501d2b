"""Regular expressions that take linear time: a subset of the syntax of ``re``, without backtracking.

The pattern becomes a program of few steps, and a text is read once, letter by letter, with the set of all
places in the program where it may be. Such sets are kept, so that most letters cost one look-up.
"""

from __future__ import annotations

import functools
from typing import Final

from entgldb.messages.errors import TooLargeError
from entgldb.storage.rules.filtering.pattern import Assertion, Letters, Piece, parse_pattern

REGEX_STEPS_MAX: Final = 1000
"""Steps of the program that one ``$regex`` makes, its repetitions written out."""
SETS_MAX: Final = 10_000
"""Look-ups that one pattern keeps; beyond it, it begins to keep them anew."""
_MATCH: Final = -1


class _State:
    """The places in the program before a letter, and which kind of letter came before."""

    __slots__ = ("before", "following", "places")

    def __init__(self, places: frozenset[int], before: str) -> None:
        self.places = places
        self.before = before
        self.following: dict[str, _State] = {}


_FOUND: Final = _State(frozenset(), "")


class Regex:
    """One pattern. ``any_case``: letters of both cases are alike. Raises as ``parse_pattern``."""

    def __init__(self, pattern: str, *, any_case: bool = False) -> None:
        self.pattern = pattern
        piece, any_case = parse_pattern(pattern, any_case)
        self.prefix = "" if any_case else _prefix(piece)
        """A text that all that it finds begins with."""
        self._letters: list[Letters | Assertion | None] = []
        """The letters that each step of the program takes; None: it only leads on."""
        self._next: list[tuple[int, ...]] = []
        end = self._step(None, (_MATCH,))
        self._begin = self._write(piece, end)
        self._states: dict[tuple[frozenset[int], str], _State] = {}
        self._kept = 0
        self._first = self._state(frozenset((self._begin,)), "")

    def found_in(self, text: str) -> bool:
        """Whether the pattern is found anywhere in a text."""
        state = self._first
        for letter in text:
            following = state.following.get(letter)
            if following is None:
                following = self._after(state, letter)
            if following is _FOUND:
                return True
            state = following
        return _MATCH in self._reachable(state, "")

    def _step(self, letters: Letters | Assertion | None, following: tuple[int, ...]) -> int:
        if len(self._next) >= REGEX_STEPS_MAX:
            raise TooLargeError(f"a $regex has at most REGEX_STEPS_MAX = {REGEX_STEPS_MAX} steps, all told")
        self._letters.append(letters)
        self._next.append(following)
        return len(self._next) - 1

    def _write(self, piece: Piece, end: int) -> int:
        """Write the program of a piece that goes on at ``end``; where it begins."""
        if isinstance(piece, (Letters, Assertion)):
            return self._step(piece, (end,))
        if piece.kind == "either":
            return self._step(None, tuple(self._write(one, end) for one in piece.pieces))
        if piece.kind == "row":
            for one in reversed(piece.pieces):
                end = self._write(one, end)
            return end
        (inner,) = piece.pieces
        begin = end
        if piece.most is None:
            begin = self._step(None, ())
            self._next[begin] = (self._write(inner, begin), end)
        for _ in range((piece.most or piece.least) - piece.least):
            inside = self._write(inner, begin)
            if inside == begin:
                break  # it is nothing, however often
            begin = self._step(None, (inside, end))
        for _ in range(piece.least):
            inside = self._write(inner, begin)
            if inside == begin:
                break
            begin = inside
        return begin

    def _state(self, places: frozenset[int], before: str) -> _State:
        made = self._states.get((places, before))
        if made is None:
            made = self._states[places, before] = _State(places, before)
        return made

    def _after(self, state: _State, letter: str) -> _State:
        """The state after one more letter."""
        if self._kept >= SETS_MAX:
            # states in use by others go on as they are, and are forgotten with them
            self._kept, self._states = 0, {}
            self._first = self._state(frozenset((self._begin,)), "")
        reachable = self._reachable(state, letter)
        if _MATCH in reachable:
            following = _FOUND
        else:
            places = {self._begin}
            for place in reachable:
                letters = self._letters[place]
                if isinstance(letters, Letters) and letters.have(letter):
                    places.update(self._next[place])
            # all that an assertion asks of a letter before it is its kind
            following = self._state(frozenset(places), "w" if _is_word(letter) else "-")
        state.following[letter] = following
        self._kept += 1
        return following

    def _reachable(self, state: _State, letter: str) -> set[int]:
        """The places that a state leads to before ``letter`` is read (``""``: the end)."""
        found: set[int] = set()
        waiting = list(state.places)
        while waiting:
            place = waiting.pop()
            if place in found:
                continue
            found.add(place)
            if place == _MATCH:
                continue
            step = self._letters[place]
            if step is None or (isinstance(step, Assertion) and _holds(step, state.before, letter)):
                waiting.extend(self._next[place])
        return found


def _holds(assertion: Assertion, before: str, letter: str) -> bool:
    if assertion.name == "^":
        return before == ""
    if assertion.name == "$":
        return letter == ""
    edge = (before == "w") is not _is_word(letter)
    return edge if assertion.name == r"\b" else not edge


def _is_word(letter: str) -> bool:
    return letter == "_" or (letter.isascii() and letter.isalnum())


def _prefix(piece: Piece) -> str:
    """The letters after a leading ``^``."""
    if isinstance(piece, (Letters, Assertion)) or piece.kind != "row" or not piece.pieces:
        return ""
    first, *others = piece.pieces
    if first != Assertion("^"):
        return ""
    found = ""
    for one in others:
        if not isinstance(one, Letters) or one.single is None:
            break
        found += one.single
    return found


@functools.lru_cache(maxsize=64)
def compiled(pattern: str, any_case: bool) -> Regex:
    """A pattern with all that was learnt when it was matched before. Raises as Regex."""
    return Regex(pattern, any_case=any_case)
