"""Walking all documents for verification, a few pages at a time, so that incoming batches hardly wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from entgldb.actors.behaviour import Context
from entgldb.actors.ports import Fingerprints
from entgldb.messages.local import Tick
from entgldb.messages.model import SYSTEM_PREFIX
from entgldb.storage.rules.reconcile import Table, bucket_of, item_of, place_of
from entgldb.storage.rules.results import Walked

PAGES_PER_STEP: Final = 4
STEP_PAUSE: Final = 0.005
"""Seconds between two steps, in which whatever has arrived is handled."""
REST: Final = 0.1
"""A walk that ended so recently is fresh."""

Done = Callable[[Context], None]


class Listing:
    """The items of some ranges, by place."""

    def __init__(self, buckets: Iterable[int], *, system: bool) -> None:
        self.buckets = frozenset(buckets)
        self.items: dict[bytes, bytes] = {}
        """Place of a live document -> its value."""
        self.keys: dict[bytes, tuple[str, str]] = {}
        """Place of a document or tombstone -> collection and key."""
        self._system = system

    def visit(self, row: Walked) -> None:
        """Take a row that is in one of the ranges."""
        place = place_of(row.collection, row.key)
        if bucket_of(place) not in self.buckets:
            return
        if not self._system and row.collection.startswith(SYSTEM_PREFIX):
            return
        self.keys[place] = (row.collection, row.key)
        if row.body_sha256 is not None:
            self.items[place] = item_of(place, row.origin, row.seq, row.body_sha256).value


class _Tables:
    """Fingerprints of what users wrote, and of what configures the cluster."""

    def __init__(self, lsn: int) -> None:
        self.lsn = lsn
        """Of the log when the walk began."""
        self.at = 0.0
        self.user = Table()
        self.system = Table()

    def visit(self, row: Walked) -> None:
        """Take a row; tombstones are not part of it, since each node collects them when it may."""
        if row.body_sha256 is not None:
            item = item_of(place_of(row.collection, row.key), row.origin, row.seq, row.body_sha256)
            (self.system if row.collection.startswith(SYSTEM_PREFIX) else self.user).add(item)


class _Job:
    """One walk that is wanted or under way."""

    def __init__(self, visit: Callable[[Walked], None], done: Done) -> None:
        self.visit = visit
        self.done = [done]
        self.after = 0


class Walker:
    """One walk after the other; what an earlier one found is used again while the log stands still."""

    def __init__(self, documents: Fingerprints, last_lsn: Callable[[], int]) -> None:
        self._documents = documents
        self._last_lsn = last_lsn
        self._jobs: deque[_Job] = deque()
        self._tables: _Tables | None = None
        self._summing: _Job | None = None
        self._ticking = False
        self.walks = 0
        """Begun since the start."""

    def table(self, *, system: bool) -> Table:
        """What the last walk found."""
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

    def list(self, listing: Listing, done: Done, ctx: Context) -> None:
        """``done`` when ``listing`` is filled."""
        self._begin(listing.visit, done, ctx)

    def step(self, ctx: Context) -> None:
        """A few pages of the first walk."""
        self._ticking = False
        job = self._jobs[0] if self._jobs else None
        for _ in range(PAGES_PER_STEP if job is not None else 0):
            assert job is not None
            rows = self._documents.walk(job.after)
            for row in rows:
                job.visit(row)
            if not rows:
                self._jobs.popleft()
                for done in job.done:
                    done(ctx)
                break
            job.after = rows[-1].id
        self._go_on(ctx)

    def _begin(self, visit: Callable[[Walked], None], done: Done, ctx: Context) -> _Job:
        job = _Job(visit, done)
        self._jobs.append(job)
        self.walks += 1
        self._go_on(ctx)
        return job

    def _go_on(self, ctx: Context) -> None:
        if self._jobs and not self._ticking:
            self._ticking = True
            ctx.after(STEP_PAUSE, Tick("walk"))
