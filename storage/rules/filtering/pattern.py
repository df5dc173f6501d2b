"""The syntax of ``$regex``: letters, classes, groups, ``|``, ``* + ? {n,m}`` and ``^ $ \\b \\B``; the rest is
refused by name."""

from __future__ import annotations

from typing import Final, NamedTuple

from entgldb.messages.errors import InvalidError, TooLargeError, UnsupportedError

REGEX_CHARS_MAX: Final = 256
"""Characters of one ``$regex``."""
REGEX_REPEAT_MAX: Final = 1000
"""The greatest number in ``{n,m}``."""

_CLASSES: Final = {
    "d": (("0", "9"),),
    "w": (("0", "9"), ("A", "Z"), ("_", "_"), ("a", "z")),
    "s": (("\t", "\r"), (" ", " ")),
}
_CONTROLS: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}
_DIGITS: Final = {"x": 2, "u": 4}
"""Hexadecimal digits after an escape."""

Ranges = tuple[tuple[str, str], ...]


class Letters(NamedTuple):
    """A set of letters."""

    ranges: Ranges
    besides: bool = False
    """Whether it is all but these."""
    any_case: bool = False

    def have(self, letter: str) -> bool:
        """Whether a letter is one of them."""
        found = any(first <= one <= last for one in self._alike(letter) for first, last in self.ranges)
        return found is not self.besides

    @property
    def single(self) -> str | None:
        """The one letter that it is."""
        alone = len(self.ranges) == 1 and self.ranges[0][0] == self.ranges[0][1] and not self.besides
        return self.ranges[0][0] if alone else None

    def _alike(self, letter: str) -> set[str]:
        if not self.any_case:
            return {letter}
        return {letter, *(one for one in (letter.lower(), letter.upper()) if len(one) == 1)}


class Assertion(NamedTuple):
    """Something that takes no letter: ``^``, ``$``, ``\\b`` or ``\\B``."""

    name: str


class Several(NamedTuple):
    """Pieces in a ``row``, ``either`` of some, or one of them that is to ``repeat``."""

    kind: str
    pieces: tuple[Piece, ...]
    least: int = 1
    most: int | None = 1


Piece = Letters | Assertion | Several


def parse_pattern(pattern: str, any_case: bool) -> tuple[Piece, bool]:
    """The pieces of a pattern, and whether letters of both cases are alike, as a leading ``(?i)`` says.

    Raises InvalidError for a fault, UnsupportedError for syntax beyond the subset, TooLargeError.
    """
    if len(pattern) > REGEX_CHARS_MAX:
        raise TooLargeError(f"a $regex has at most REGEX_CHARS_MAX = {REGEX_CHARS_MAX} characters")
    if pattern.startswith("(?i)"):
        pattern, any_case = pattern[4:], True
    reader = _Reader(pattern, any_case)
    piece = reader.either()
    if reader.here:
        raise reader.fault("a ) without its (")
    return piece, any_case


class _Reader:
    """Reads one pattern from left to right."""

    def __init__(self, pattern: str, any_case: bool) -> None:
        self._pattern = pattern
        self._place = 0
        self._any_case = any_case

    @property
    def here(self) -> str:
        """The character that is to be read next; nothing at the end."""
        return self._pattern[self._place : self._place + 1]

    def fault(self, what: str) -> InvalidError:
        """The error of the present place."""
        return InvalidError(f"the $regex {self._pattern!r:.80} has {what} at character {self._place + 1}")

    def either(self) -> Piece:
        rows = [self._row()]
        while self._take("|"):
            rows.append(self._row())
        return rows[0] if len(rows) == 1 else Several("either", tuple(rows))

    def _row(self) -> Piece:
        pieces: list[Piece] = []
        while self.here and self.here not in "|)":
            pieces.append(self._repeated(self._one()))
        return Several("row", tuple(pieces))

    def _one(self) -> Piece:
        if self._take("("):
            return self._group()
        if self._take("["):
            return self._class()
        if self._take("."):
            return Letters((("\n", "\n"),), besides=True)
        if self._take("\\"):
            return self._escaped()
        if self.here in "*+?{":
            raise self.fault(f"a {self.here} that repeats nothing (write \\{self.here} for the character)")
        character = self._next()
        if character in "^$":
            return Assertion(character)
        return self._letter(character)

    def _group(self) -> Piece:
        if self._take("?") and not self._take(":"):
            raise self._beyond(f"(?{self.here}", "groups are ( ) and (?: ), and (?i) stands at the beginning")
        piece = self.either()
        if not self._take(")"):
            raise self.fault("a ( without its )")
        # a group is one piece: what repeats it repeats all of it
        return Several("row", (piece,))

    def _escaped(self) -> Piece:
        name = self.here
        if name and name in "bB":
            return Assertion("\\" + self._next())
        if name.lower() in _CLASSES and name:
            self._next()
            return Letters(_CLASSES[name.lower()], besides=name.isupper())
        return self._letter(self._character())

    def _character(self) -> str:
        """The one character that an escape is, the backslash having been read."""
        name = self._next() if self.here else ""
        if name in _CONTROLS:
            return _CONTROLS[name]
        if name in _DIGITS:
            digits = self._pattern[self._place : self._place + _DIGITS[name]]
            if len(digits) < _DIGITS[name] or any(one not in "0123456789abcdefABCDEF" for one in digits):
                raise self.fault(f"no {_DIGITS[name]} hexadecimal digits after \\{name}")
            self._place += len(digits)
            if 0xD800 <= int(digits, 16) < 0xE000:
                raise self.fault("half a surrogate pair, which is no Unicode text")
            return chr(int(digits, 16))
        if not name:
            raise self.fault("a backslash with nothing after it")
        if name == "_" or (name.isascii() and not name.isalnum() and name.isprintable()):
            return name
        raise self._beyond(f"\\{name}", "escapes are \\d \\w \\s \\b, their capitals, \\n \\t \\xHH \\uHHHH")

    def _class(self) -> Piece:
        besides, ranges = self._take("^"), list[tuple[str, str]]()
        while not self._take("]") or not ranges:
            if self.here in "[]" or not self.here:
                raise self.fault("a [ without its ], or a bracket in it without a backslash")
            if self.here == "\\" and self._pattern[self._place + 1 : self._place + 2] in tuple("dws"):
                ranges += _CLASSES[self._pattern[self._place + 1]]
                self._place += 2
                continue
            first = last = self._of_class()
            if self.here == "-" and self._pattern[self._place + 1 : self._place + 2] not in ("]", ""):
                self._next()
                last = self._of_class()
                if last < first:
                    raise self.fault(f"a range {first}-{last} that runs backwards")
            ranges.append((first, last))
        if self._any_case:
            ranges += [(one, one) for first, last in ranges if first == last for one in _cases(first)]
        return Letters(tuple(ranges), besides, self._any_case)

    def _of_class(self) -> str:
        if self._take("\\"):
            return self._character()
        return self._next()

    def _repeated(self, piece: Piece) -> Piece:
        least, most = 1, 1
        if self._take("*"):
            least, most = 0, -1
        elif self._take("+"):
            least, most = 1, -1
        elif self._take("?"):
            least, most = 0, 1
        elif self._take("{"):
            least, most = self._bounds()
        else:
            return piece
        self._take("?")  # as few as possible: it finds the same texts
        if self.here and self.here in "*+?{":
            raise self._beyond(f"{self.here} after a repetition", "put the first into a group: (?:a*)+")
        return Several("repeat", (piece,), least, None if most < 0 else most)

    def _bounds(self) -> tuple[int, int]:
        """The numbers of ``{n}``, ``{n,}`` (-1: without end) and ``{n,m}``."""
        end = self._pattern.find("}", self._place)
        low, comma, high = self._pattern[self._place : max(end, self._place)].partition(",")
        if not all(one.isascii() and one.isdecimal() for one in (low, high or "0")):
            raise self.fault("a { that is no {n}, {n,} or {n,m} (write \\{ for the character)")
        least = int(low[:9])
        most = (int(high[:9]) if high else -1) if comma else least
        if max(least, most) > REGEX_REPEAT_MAX:
            raise TooLargeError(f"a $regex repeats at most REGEX_REPEAT_MAX = {REGEX_REPEAT_MAX} times")
        if 0 <= most < least:
            raise self.fault(f"a {{{low},{high}}} that runs backwards")
        self._place = end + 1
        return least, most

    def _letter(self, character: str) -> Letters:
        ranges = [
            (character, character),
            *((one, one) for one in (_cases(character) if self._any_case else ())),
        ]
        return Letters(tuple(ranges), any_case=self._any_case)

    def _beyond(self, what: str, hint: str) -> UnsupportedError:
        return UnsupportedError(f"a $regex with {what} is not supported", hint=hint)

    def _take(self, character: str) -> bool:
        found = self.here == character
        self._place += found
        return found

    def _next(self) -> str:
        character = self.here
        self._place += 1
        return character


def _cases(letter: str) -> list[str]:
    """The other case of a letter, where it is one letter too."""
    return [one for one in (letter.lower(), letter.upper()) if one != letter and len(one) == 1]
