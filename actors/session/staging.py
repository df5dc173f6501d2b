"""Entries of a session's round that cannot be handed on yet, and the proof that lets them go.

An origin signs its log up to an entry, and the chain of headers covers all before that: so a batch is proven,
mostly, by one signature for each origin. Entries go on in the order in which they came, so that no effect
comes before its cause: as far as all origins among them are proven. The rest waits here, as the beginning of
a transaction does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import NamedTuple

from entgldb.actors.behaviour import Context
from entgldb.actors.session.writers import Writers
from entgldb.messages.errors import EntglError, ProtocolError, Reason
from entgldb.messages.limits import (
    BATCH_BYTES_MAX,
    DRIFT_MS_MAX,
    ENTRIES_PER_BATCH_MAX,
    GROUP_ENTRIES_MAX,
    ORIGINS_MAX,
    STAGED_BYTES_MAX,
)
from entgldb.messages.model import ENDED, Author, Entry, Origin
from entgldb.storage.rules import clock
from entgldb.storage.rules.authorship import before_leaps, worth_checking
from entgldb.storage.rules.header import Header, body_matches, decode, digest

STAGE_ENTRIES_MAX = GROUP_ENTRIES_MAX + ENTRIES_PER_BATCH_MAX
"""A transaction, and what its writer has signed together with it."""
STAGE_BYTES_MAX = STAGED_BYTES_MAX + 2 * BATCH_BYTES_MAX
REFUSED_SECONDS = 5.0
"""For so long nothing is taken of an origin that could not be proven: what is sent again later may be."""


class Staged(NamedTuple):
    """An entry that waits; a ``Provable``."""

    origin: Origin
    size: int
    hlc: int
    closes: bool
    """Whether a transaction ends here, and the origin has signed that it does."""
    entry: Entry
    header: Header
    digest: bytes
    recorded: bool


class HandedOn(NamedTuple):
    """Entries that may be handed on."""

    entries: tuple[Entry, ...] = ()
    recorded: tuple[int, ...] = ()
    """Indexes of those that their sender has only recorded."""
    authors: tuple[Author, ...] = ()
    """The authors of those logs among them that this round hands on for the first time."""
    fault: str = ""
    """A word of ``Reason`` that ends the round."""


class Proven(NamedTuple):
    """Entries that are proven, as ``HandedOn`` has them."""

    entries: list[Entry]
    recorded: list[int]
    origins: dict[Origin, Staged]

    def add(self, part: Sequence[Staged], checked: Set[int]) -> None:
        """All of ``part``; only signatures that were checked, those at places ``checked``, are kept and
        relayed."""
        for place, one in enumerate(part):
            self.origins[one.origin] = one
            entry = one.entry
            if one.recorded:
                self.recorded.append(len(self.entries))
            if entry.signature is not None and place not in checked:
                entry = Entry(entry.header, entry.body)
            self.entries.append(entry)


class Stage:
    """The entries of one round of one session."""

    def __init__(self) -> None:
        self._waiting: list[Staged] = []
        self._carried = 0
        """How many of them came in earlier batches."""
        self._tails: dict[Origin, Staged] = {}
        """The last of each origin among them, and those that came in this batch."""
        self._named: dict[Origin, Author] = {}
        self._looked = 0
        """As ``Writers.look`` said last."""
        self._handed_on: set[Origin] = set()
        """Origins whose authors have gone on."""
        self._refused: dict[Origin, float] = {}
        """Origins that nobody has attested, and until when nothing is taken of them."""

    def __len__(self) -> int:
        return len(self._waiting)

    def take(
        self,
        entries: Iterable[Entry],
        recorded: Sequence[int],
        authors: Iterable[Author],
        writers: Writers,
        ctx: Context,
        count: Callable[[Reason], None],
    ) -> HandedOn:
        """One more batch: all of it, and of what waited, that is proven now."""
        for author in authors:
            if len(self._named) < ORIGINS_MAX:
                self._named[author.origin] = author
        before, self._looked = self._looked, writers.look()
        if before != self._looked:
            for origin in self._tails:
                writers.author(origin, self._named.get(origin))
        self._forgive(ctx)
        sound, done, self._carried = True, Proven([], [], {}), len(self._waiting)
        try:
            for index, entry in enumerate(entries):
                self._add(_read(entry, recorded=index in recorded), writers, ctx, count)
        except EntglError:
            sound = False  # what came before it may be good
        try:
            self._prove(done, writers, ctx)
        except EntglError:
            sound = False
        if not sound or self._is_full():
            # the store takes nothing more of this round
            sound = False
            count(Reason.BAD_ENTRY)
            self._waiting.clear()
        self._tails = {one.origin: one for one in self._waiting}
        return HandedOn(
            tuple(done.entries),
            tuple(done.recorded),
            self._fresh(done.origins, writers),
            "" if sound else Reason.BAD_ENTRY.value,
        )

    def _add(self, one: Staged, writers: Writers, ctx: Context, count: Callable[[Reason], None]) -> None:
        origin = one.origin
        before, again = self._tails.get(origin), False
        if before is not None and not _follows(one, before):
            # looked for before it is let go: the sender may not have heard of that yet
            again = any(one.digest == waits.digest for waits in self._waiting[: self._carried])
            self._let_go(writers.had())
            before = self._tails.get(origin)
        if before is None:
            if origin in self._refused or writers.author(origin, self._named.get(origin)) is None:
                self._refuse(origin, ctx, count)
                return
        elif not _follows(one, before):
            # those of one origin are always a chain: the last signature proves them all
            self._begin_anew(one, before, again=again)
        if one.header.collection == ENDED and not writers.may_end(one.header):
            raise ProtocolError(f"{one.header.version} ends a log of another cluster")
        self._waiting.append(one)
        self._tails[origin] = one

    def _refuse(self, origin: Origin, ctx: Context, count: Callable[[Reason], None]) -> None:
        count(Reason.NOT_ATTESTED)
        if len(self._refused) < ORIGINS_MAX:
            self._refused.setdefault(origin, ctx.monotonic() + REFUSED_SECONDS)

    def _let_go(self, had: Mapping[Origin, int]) -> None:
        """Forget entries that others have brought meanwhile: the sender has heard of them, and skips them."""
        kept = [one for one in self._waiting[: self._carried] if one.header.seq > had.get(one.origin, 0)]
        self._waiting[: self._carried] = kept
        self._carried = len(kept)
        self._tails = {one.origin: one for one in self._waiting}

    def _begin_anew(self, one: Staged, before: Staged, *, again: bool) -> None:
        """The sender has begun again with what we did not have when it heard of us last: all that waits comes
        once more, but for what it has taken out of its log meanwhile, as that was given an end or was another
        branch. ``again``: ``one`` has waited here.

        Raises ProtocolError where it has not, and effects could come without the causes that wait.
        """
        carried = self._waiting[: self._carried]
        if before not in carried or not again:
            raise ProtocolError(f"{one.header.version} does not follow what came before it")
        del self._waiting[: self._carried]
        self._carried = 0
        self._tails = {old.origin: old for old in self._waiting}

    def _prove(self, done: Proven, writers: Writers, ctx: Context) -> None:
        """Move the beginning that signatures cover to ``done``. Raises ProtocolError where one is wrong."""
        run, first = self._waiting, 0
        bound = clock.from_ms(ctx.now_ms() + DRIFT_MS_MAX)
        for place in worth_checking(run, bound):
            part = run[first : place + 1]
            last = {one.origin: index for index, one in enumerate(part)}
            checked = {*last.values(), *before_leaps(part, bound)}
            for one in (part[index] for index in sorted(checked)):
                if not writers.has_signed(one.origin, one.digest, one.entry.signature):
                    raise ProtocolError(f"{one.origin} has not signed {one.header.version}")
            done.add(part, checked)
            first = place + 1
        del run[:first]

    def _fresh(self, origins: Iterable[Origin], writers: Writers) -> tuple[Author, ...]:
        """The authors by which these origins count, the first time in this round.

        They are not always as the peer named them: an earlier round may have shown them, and may be lost.
        """
        fresh = [origin for origin in origins if origin not in self._handed_on]
        self._handed_on.update(fresh)
        found = [writers.author(origin, self._named.pop(origin, None)) for origin in fresh]
        return tuple(author for author in found if author is not None)

    def _forgive(self, ctx: Context) -> None:
        now = ctx.monotonic()
        for origin in [one for one, until in self._refused.items() if until <= now]:
            del self._refused[origin]

    def _is_full(self) -> bool:
        """Whether a transaction waits that does not end."""
        size = sum(one.size for one in self._waiting)
        return len(self._waiting) > STAGE_ENTRIES_MAX or size > STAGE_BYTES_MAX


def _read(entry: Entry, *, recorded: bool) -> Staged:
    raw, body = entry.header, entry.body
    header = decode(raw)
    # whether it is a document is the store's to say, which sets it aside alone where it is none
    if not body_matches(header, body):
        raise ProtocolError(f"the body of {header.version} is not the one its origin wrote")
    closes = entry.signature is not None and header.group_index + 1 == header.group_size
    return Staged(header.origin, entry.size, header.hlc, closes, entry, header, digest(raw), recorded)


def _follows(one: Staged, before: Staged) -> bool:
    return one.header.seq == before.header.seq + 1 and one.header.prev_hash == before.digest
