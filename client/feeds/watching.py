"""Documents that enter a filter, change within it and leave it: decided change by change, for both APIs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from entgldb.client.feeds.selecting import NOW, Feed, Sifted
from entgldb.messages.model import Version
from entgldb.messages.schema import Json
from entgldb.storage.documents.feed import Change
from entgldb.storage.rules.filtering.parser import parse_filter

if TYPE_CHECKING:
    from entgldb.client.writes import Document

ENTER: Final = "enter"
CHANGE: Final = "change"
LEAVE: Final = "leave"
WATCHED_KEYS_MAX: Final = 100_000
"""Keys of which a watch remembers whether they matched; the oldest are forgotten."""


class Event(NamedTuple):
    """A document has come to match, has changed, or matches no more."""

    kind: str
    """``enter``: it matches now; ``change``: it does still; ``leave``: it does not, or was deleted."""
    key: str
    document: dict[str, Json] | None
    """As it is now; None where it was deleted."""
    version: Version
    token: str
    """Give it to ``watch`` to go on after this event."""


class Watched:
    """Which keys matched, as far as that is known.

    Of a key that is not known an event may come once too often, never once too seldom: ``enter`` where it was
    inside before, ``leave`` where it was not.
    """

    def __init__(
        self,
        matches: Callable[[Any], bool],
        inside: Iterable[str] | None = None,
        unsure: Iterable[str] = (),
        keys_max: int = WATCHED_KEYS_MAX,
    ) -> None:
        """``inside``: all keys that match where the feed begins, but for those that are ``unsure``.

        None: they are not known.
        """
        self._matches, self._keys_max = matches, keys_max
        self._known: dict[str, bool | None] = {}
        """Key -> whether it matched (None: perhaps), the oldest first."""
        self._complete = inside is not None
        """Whether every other key was outside."""
        for key in inside or ():
            self._note(key, True)
        for key in unsure:
            self._note(key, None)

    def event(self, change: Change) -> Event | None:
        """The event that a change is; None where it touches nothing that is watched."""
        matched = change.document is not None and self._matches(change.document)
        before = self._known.pop(change.key, False if self._complete else None)
        if matched or not self._complete:
            self._note(change.key, matched)
        if not matched and before is False:
            return None
        kind = LEAVE if not matched else CHANGE if before else ENTER
        return Event(kind, change.key, change.document, change.version, change.token)

    def _note(self, key: str, matched: bool | None) -> None:
        self._known[key] = matched
        if len(self._known) > self._keys_max:
            self._known.pop(next(iter(self._known)))
            self._complete = False


class Readable(Protocol):
    """A collection, to be read in this process."""

    @property
    def find(self) -> Callable[..., Iterator[Document]]:
        """The documents that match a filter."""
        ...

    @property
    def changes(self) -> Callable[[str], Iterable[Change]]:
        """The changes after a token, as far as there are any now."""
        ...


def begin(
    collection: Readable, now: Callable[[], str], filter: Mapping[str, Any] | None, since: str | None
) -> tuple[str | None, Watched]:
    """The token at which a watch begins, and what is known there; ``now`` gives the token of now.

    Raises InvalidError, UnsupportedError.
    """
    matches = parse_filter(filter).matches
    if since is None:
        return None, Watched(matches, ())
    if since != NOW:
        return since, Watched(matches)
    token = now()
    inside = [document.key for document in collection.find(filter, limit=WATCHED_KEYS_MAX + 1)]
    # what was written between the two may stand in the result already, or no longer
    unsure = [change.key for change in collection.changes(token)]
    return token, Watched(matches, inside, unsure)


class Watch(Sifted[Event]):
    """The iterator that ``watch`` returns: it waits for more for ever."""

    def __init__(self, feed: Feed, watched: Watched) -> None:
        super().__init__(feed, watched.event)
