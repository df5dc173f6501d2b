"""Reading configuration values: one fault list for a whole file, places named, nothing ignored."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from entgldb.messages.errors import ConfigError, EntglError

SECONDS_MAX: Final = 86_400.0
"""No interval is longer than a day."""
BYTES_MAX: Final = 2**50
"""No size is larger than a pebibyte."""
_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::\?([^}]*))?\}")


class Faults:
    """Collects what is wrong, so that a person is told everything at once."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.hint = ""

    def add(self, place: str, text: str, hint: str = "") -> None:
        """Note one fault: where, what, and perhaps a command that mends it."""
        self.lines.append(f"{place}: {text}")
        self.hint = self.hint or hint

    def raise_all(self) -> None:
        """Raise ConfigError when anything was noted."""
        if self.lines:
            raise ConfigError("\n".join(self.lines), hint=self.hint)


def expand(value: Any, place: str, environ: Mapping[str, str], faults: Faults) -> Any:
    """``value`` with ``${NAME}`` replaced everywhere inside; a variable that is not set is a fault.

    ``${NAME:?message}`` says in its own words what is missing; it also refuses an empty value.
    """
    if isinstance(value, str):
        return _REFERENCE.sub(lambda found: _variable(found, place, environ, faults), value)
    if isinstance(value, dict):
        separator = ": " if ":" not in place else "."
        return {k: expand(v, f"{place}{separator}{k}", environ, faults) for k, v in value.items()}
    if isinstance(value, list):
        return [expand(item, f"{place}[{i}]", environ, faults) for i, item in enumerate(value)]
    return value


def _variable(found: re.Match[str], place: str, environ: Mapping[str, str], faults: Faults) -> str:
    name, message = found.groups()
    value = environ.get(name)
    if value is None or (message is not None and not value):
        faults.add(place, message or f"environment variable {name} is not set")
        return ""
    return value


class Section:
    """One table of the file. Every key that is asked for is known; ``finish`` reports the others."""

    def __init__(self, name: str, table: Any, file: str, faults: Faults) -> None:
        self.place = f"{file}: {name}"
        self._faults = faults
        self._asked: set[str] = set()
        self._table: dict[str, Any] = table if isinstance(table, dict) else {}
        if not isinstance(table, dict):
            faults.add(self.place, "a table is expected")

    def fault(self, key: str, text: str) -> None:
        """Note a fault of ``key``, once."""
        line = f"{self.place}.{key}: {text}"
        if line not in self._faults.lines:
            self._faults.lines.append(line)

    def finish(self) -> None:
        """Note every key that nobody asked for."""
        for key in sorted(set(self._table) - self._asked):
            self.fault(key, "unknown setting")

    def refuse_all(self, text: str) -> None:
        """Note that this section must not be here."""
        if self._table:
            self._faults.add(self.place, text)
            self._asked |= set(self._table)

    def text(self, key: str, *, required: bool = False, check: Callable[[str], str] | None = None) -> str:
        """A string; empty when absent, which is a fault where it is ``required``."""
        value = self._get(key, "")
        if not isinstance(value, str):
            self.fault(key, "text is expected")
            return ""
        if required and not value:
            self.fault(key, "is missing")
        return self._checked(key, value, check) if value else ""

    def texts(self, key: str, *, check: Callable[[str], str] | None = None) -> tuple[str, ...]:
        """A list of strings."""
        value = self._get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fault(key, "a list of texts is expected")
            return ()
        return tuple(self._checked(f"{key}[{i}]", item, check) for i, item in enumerate(value))

    def all_or_texts(self, key: str, *, check: Callable[[str], str]) -> tuple[str, ...]:
        """A list of strings; ``*`` alone for true, none for false."""
        value = self._get(key, False)
        if isinstance(value, bool):
            return ("*",) * value
        if value == []:
            self.fault(key, "true, or a list of addresses, is expected")
        return self.texts(key, check=check)

    def pairs(self, key: str, *, check: Callable[[str], str] | None = None) -> dict[str, str]:
        """A table of texts; ``check`` looks at each value."""
        value = self._get(key, {})
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            self.fault(key, "a table of texts is expected")
            return {}
        return {name: self._checked(f"{key}.{name}", item, check) for name, item in value.items()}

    def choice(self, key: str, words: tuple[str, ...], default: str) -> str:
        """One of ``words``."""
        value = self._get(key, default)
        if value not in words:
            self.fault(key, f"one of {', '.join(words)} is expected")
            return default
        return str(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            self.fault(key, "true or false is expected")
            return default
        return value

    def integer(self, key: str, default: int) -> int:
        """A whole number of at most 32 bits."""
        value = self._get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**31:
            self.fault(key, "a whole number is expected")
            return default
        return value

    def size(self, key: str, default: int) -> int:
        """A number of bytes."""
        value = self._get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= BYTES_MAX:
            self.fault(key, f"bytes from 0 to {BYTES_MAX} are expected")
            return default
        return value

    def number(self, key: str, default: float, most: float) -> float:
        """A number above 0 and up to ``most``."""
        fault = f"a number above 0 and up to {most:,.0f} is expected"
        return self._above_zero(key, default, most, fault)

    def seconds(self, key: str, default: float) -> float:
        """A time above 0."""
        fault = f"seconds above 0 and up to {SECONDS_MAX:.0f} are expected"
        return self._above_zero(key, default, SECONDS_MAX, fault)

    def seconds_or_never(self, key: str, default: float) -> float:
        """A time, or 0 for never."""
        value = self._get(key, default)
        never = isinstance(value, int | float) and not isinstance(value, bool) and value == 0
        return 0.0 if never else self.seconds(key, default)

    def _above_zero(self, key: str, default: float, most: float, fault: str) -> float:
        value = self._get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= most:
            self.fault(key, fault)
            return default
        return float(value)

    def _get(self, key: str, default: Any) -> Any:
        self._asked.add(key)
        return self._table.get(key, default)

    def _checked(self, key: str, value: str, check: Callable[[str], str] | None) -> str:
        try:
            return check(value) if check is not None else value
        except EntglError as fault:
            self.fault(key, fault.text)
            return value
