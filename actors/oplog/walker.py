"""Walking all documents for verification, a few pages at a time, so that incoming batches hardly wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable
from sys import intern
from typing import Final

from entgldb.actors.behaviour import Context
from entgldb.actors.ports import Fingerprints
from entgldb.messages.local.actors import Tick
from entgldb.messages.model import SYSTEM_PREFIX
from entgldb.storage.rules.comparing.reconcile import Table, bucket_of, item_of, place_of
from entgldb.storage.rules.results import Walked

PAGES_PER_STEP: Final = 4
STEP_PAUSE: Final = 0.005
"""Seconds between two steps, in which whatever has arrived is handled."""
REST: Final = 0.1
"""A walk that ended so recently is fresh."""

Done = Callable[[Context], None]


class Listing:
    """The items of some ranges, by place: a page of them, the first behind ``after``."""

    def __init__(
        self,
        buckets: Iterable[int],
        *,
        system: bool,
        most: int,
        after: bytes = b"",
        also: Container[bytes] = (),
    ) -> None:
        """``most``: documents that are kept. ``also``: places of which a tombstone is kept, too."""
        self.buckets = frozenset(buckets)
        self.after = after
        self.through = b""
        """More may be behind this place; empty: none is."""
        self.items: dict[bytes, bytes] = {}
        """Place of a live document -> its value."""
        self.keys: dict[bytes, tuple[str, str]] = {}
        """Place of a document or tombstone -> collection and key."""
        self._system = system
        self._most = most
        self._also = also

    def visit(self, row: Walked) -> None:
        """Take a row that is in one of the ranges."""
        place = place_of(row.collection, row.key)
        if bucket_of(place) not in self.buckets or place <= self.after:
            return
        if not self._system and row.collection.startswith(SYSTEM_PREFIX):
            return
        if self.through and place > self.through:
            return
        if row.body_sha256 is not None:
            self.items[place] = item_of(place, row.origin, row.seq, row.body_sha256).value
        elif place not in self._also:
            return
        # each row brings its own text: of the names one is enough
        self.keys[place] = (intern(row.collection), row.key)
        if len(self.items) > self._most + self._most // 4:
            self.end()

    def end(self) -> None:
        """Keep the first of what was found, as many as there shall be."""
        if len(self.items) > self._most:
            self.through = sorted(self.items)[self._most - 1]
            self.items = {place: value for place, value in self.items.items() if place <= self.through}
            self.keys = {place: key for place, key in self.keys.items() if place <= self.through}


class _Tables:
    """Fingerprints of what users wrote, and of what configures the cluster."""

    def __init__(self, lsn: int) -> None:
        self.lsn = lsn
        """The lsn of the log when the walk began."""
        self.at = 0.0
        self.user = Table()
        self.system = Table()

    def visit(self, row: Walked) -> None:
        """Take a row; tombstones are not part of it, since each node collects them when it may."""
        if row.body_sha256 is not None:
            item = item_of(place_of(row.collection, row.key), row.origin, row.seq, row.body_sha256)
            (self.system if row.collection.startswith(SYSTEM_PREFIX) else self.user).add(item)


class Walk:
    """One walk that is wanted or under way."""

    def __init__(self, visit: Callable[[Walked], None], done: Done) -> None:
        self.visit = visit
        self.done = [done]
        self.after = 0


class Walker:
    """One walk after the other; the result of an earlier one is used again while the log stands still."""

    def __init__(self, documents: Fingerprints, last_lsn: Callable[[], int]) -> None:
        self._documents = documents
        self._last_lsn = last_lsn
        self._jobs: deque[Walk] = deque()
        self._tables: _Tables | None = None
        self._summing: Walk | None = None
        self._ticking = False
        self.walks = 0
        """Begun since the start."""

    def table(self, *, system: bool) -> Table:
        """The fingerprints that the last walk found."""
        assert self._tables is not None, "sum first"
        found = self._tables
        return found.user.joined(found.system) if system else found.user

    def sum(self, done: Done, ctx: Context, *, fresh: bool) -> None:
        """``done`` when the fingerprints are those of the present documents; ``fresh``: walk in any case."""
        if self._summing is not None:
            self._summing.done.append(done)
            return
        known, lsn = self._tables, self._last_lsn()
        if known is not None and known.lsn == lsn and (not fresh or ctx.monotonic() - known.at < REST):
            done(ctx)
            return
        tables = _Tables(lsn)

        def finished(ctx: Context) -> None:
            tables.at = ctx.monotonic()
            self._tables, self._summing = tables, None

        self._summing = self._begin(tables.visit, finished, ctx)
        self._summing.done.append(done)

    def list(self, listing: Listing, done: Done, ctx: Context) -> Walk:
        """``done`` when ``listing`` is filled; what ``leave`` takes."""

        def finished(ctx: Context) -> None:
            listing.end()
            done(ctx)

        return self._begin(listing.visit, finished, ctx)

    def leave(self, walk: Walk) -> None:
        """Nobody waits for this one any more."""
        if walk in self._jobs:
            self._jobs.remove(walk)

    def step(self, ctx: Context) -> None:
        """A few pages of the first walk."""
        self._ticking = False
        walk = self._jobs[0] if self._jobs else None
        for _ in range(PAGES_PER_STEP if walk is not None else 0):
            assert walk is not None
            rows = self._documents.walk(walk.after)
            for row in rows:
                walk.visit(row)
            if not rows:
                self._jobs.popleft()
                for done in walk.done:
                    done(ctx)
                break
            walk.after = rows[-1].id
        self._go_on(ctx)

    def _begin(self, visit: Callable[[Walked], None], done: Done, ctx: Context) -> Walk:
        walk = Walk(visit, done)
        self._jobs.append(walk)
        self.walks += 1
        self._go_on(ctx)
        return walk

    def _go_on(self, ctx: Context) -> None:
        if self._jobs and not self._ticking:
            self._ticking = True
            ctx.after(STEP_PAUSE, Tick("walk"))
