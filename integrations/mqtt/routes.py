"""Which collection goes to which topic, and back: pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote

from entgldb.messages.errors import InvalidError
from entgldb.messages.model import check_key

KEY: Final = "{key}"
TOPIC_BYTES_MAX: Final = 65_535
ROUTES_MAX: Final = 100


class Topic:
    """A topic of which one level is the key of a document, percent-encoded: ``site/{key}/state``."""

    def __init__(self, pattern: str) -> None:
        """Raises InvalidError."""
        levels = pattern.split("/")
        if levels.count(KEY) != 1 or pattern.count("{") != 1:
            raise InvalidError(f"topic {pattern!r:.200} has not {KEY} as one of its levels, once")
        if any(char in pattern for char in "+#\0") or pattern.startswith("$"):
            raise InvalidError(f"topic {pattern!r:.200} has a wildcard, or begins with $")
        self.pattern: Final = pattern
        self._before, self._after = pattern.split(KEY)

    @property
    def subscription(self) -> str:
        """The filter that matches the topics of all keys."""
        return self.pattern.replace(KEY, "+")

    def of(self, key: str) -> str:
        """The topic of a key. Raises InvalidError for one that is too long."""
        made = self._before + quote(key, safe=" :@,;=()!'*$~") + self._after
        if len(made.encode()) > TOPIC_BYTES_MAX:
            raise InvalidError(f"the topic of {key!r:.80} is longer than {TOPIC_BYTES_MAX} bytes")
        return made

    def key(self, topic: str) -> str | None:
        """The key of a topic; None for a topic of another form. Raises InvalidError for no key."""
        level = topic.removeprefix(self._before).removesuffix(self._after) if self._fits(topic) else "/"
        if "/" in level:
            return None
        try:
            return check_key(unquote(level, errors="strict"))
        except UnicodeDecodeError:
            raise InvalidError(f"topic {topic!r:.200} has no key") from None

    def _fits(self, topic: str) -> bool:
        return (
            topic.startswith(self._before)
            and topic.endswith(self._after)
            and len(topic) >= len(self._before) + len(self._after)
        )


@dataclass(frozen=True)
class Out:
    """Documents of a collection go to a topic; a delete is an empty message."""

    collection: str
    topic: Topic
    retain: bool = False
    """The broker keeps the newest of each topic for those who come later."""
    takes: Callable[[Mapping[str, Any]], bool] | None = None
    """Of these documents alone; deletes always go."""


@dataclass(frozen=True)
class In:
    """Messages of a topic become documents of a collection; an empty one deletes."""

    topic: Topic
    collection: str
    retained: bool = True
    """Messages that the broker has kept are taken when the bridge comes for the first time."""
