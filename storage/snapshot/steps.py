"""Merging a large snapshot in bounded steps, each a transaction, beside what readers see.

The shadow gets the right rows of one range of keys after the other; meanwhile it is noted of which keys
anything changes, and those are done again. The last step does the rest of them, makes the shadow what
everybody sees, and moves the vector: before it nobody sees anything of the snapshot, after it everything.

Log rows that the snapshot covers go before it, too, oldest first and only applied ones: retention might have
done that at any time, whatever becomes of the merge.

The right rows of a key follow from its rows on both sides and from whether either side has seen a version of
it. An entry that comes in between has its key noted, whatever becomes of it; so have those that
the last step takes out, and no version of theirs counts as seen before; all else that could change the
answer (``world``) makes the work begin anew. So each key is in the end as if it had been merged in the last
step.

Change feeds walk by lsn. The rows that the merge changes get numbers that lie beyond all that are given
meanwhile: whoever has read up to the last step finds them behind it.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Mapping
from hashlib import sha256
from itertools import chain
from typing import Final, NamedTuple

from entgldb.messages.limits import LSNS_BETWEEN
from entgldb.messages.model import SYSTEM_PREFIX, Origin
from entgldb.storage.file.collections import ensure_collection
from entgldb.storage.file.state import State
from entgldb.storage.log.prune import prunable, prune_covered
from entgldb.storage.log.recorded import PARTIAL
from entgldb.storage.rules.chain import NO_HEAD
from entgldb.storage.snapshot.install import Merger
from entgldb.storage.snapshot.shadow import TOUCHED, Shadow

STEP_ROWS: Final = 2_000
"""Keys of one step, some 0.1 s; so many may be left for the last one, too."""
STEP_BYTES: Final = 2 * 1024 * 1024
"""Bytes of documents in one step; a larger one goes by itself."""
AT_ONCE_BYTES: Final = 4 * 1024 * 1024
"""A staged snapshot that is no larger, in a file with few documents, is one step."""
LOG_ROWS_LEFT: Final = 200
"""Log rows that may be left for the last step: others may send such entries all the time."""
CATCH_UPS_MAX: Final = 1_000
"""Steps for keys that were changed meanwhile, before the last one takes whatever is left."""
STALE_MS: Final = 3_600_000
"""A merge that nobody has gone on with for so long is given up."""
_BEHIND: Final = (
    "SELECT collection, key, ifnull(length(body), 0) FROM {} AND (collection, key) > (:collection, :key)"
    " ORDER BY collection, key LIMIT :rows"
)
_SOURCES: Final = (
    _BEHIND.format("staged.documents WHERE true"),
    _BEHIND.format("staged.conflicts WHERE true"),
    # what has come since is noted: the ranges would never end where they had to keep up with it
    _BEHIND.format("main._entgldb_documents WHERE lsn <= :begun"),
    _BEHIND.format("main._entgldb_conflicts WHERE true"),
)


class Progress(NamedTuple):
    """How far a merge has come; kept in the file with each step."""

    name: str
    """Digest of what is staged."""
    world: str
    own: str
    """The origin under which the node wrote when it began."""
    first: int
    """No lsn that is given meanwhile is greater."""
    lsn: int
    """The last that the shadow has."""
    reached: tuple[str, str] | None
    """The last key of the ranges that are done; None: all are."""
    catch_ups: int
    documents: int
    taken: int
    deleted: int
    lived_ms: int
    firsts: dict[Origin, int]
    """Of each log, what the last step takes out: a branch, or what lies behind its end."""
    over: bool = False
    """The shadow is what is left: it goes."""


class Steps:
    """The merge that is under way in a file, if there is one."""

    def __init__(self, connection: sqlite3.Connection, state: State) -> None:
        self._connection, self._state = connection, state
        self._shadow = Shadow.of(connection)

    def progress(self) -> Progress | None:
        """How far it has come; None where there is none."""
        if not self._shadow.exists():
            return None
        found = Progress(*json.loads(self._shadow.mark()))
        # as JSON knows no tuples
        return found._replace(reached=found.reached and (found.reached[0], found.reached[1]))

    def is_small(self) -> bool:
        """Whether what is staged and what is here is merged in one step."""
        if not self._shadow.is_allowed():
            return True
        (pages,) = self._connection.execute("PRAGMA staged.page_count").fetchone()
        (size,) = self._connection.execute("PRAGMA staged.page_size").fetchone()
        (last,) = self._connection.execute("SELECT max(id) FROM main._entgldb_documents").fetchone()
        return pages * size <= AT_ONCE_BYTES and (last or 0) <= STEP_ROWS

    def world(self, merger: Merger) -> str:
        """All but entries and rows that says what is right for a key."""
        state = self._state
        forked = sorted(origin for origin, known in state.origins.items() if known.head.forked)
        facts = [state.own, state.disowned, sorted(state.ended.items()), forked]
        lacking = self._connection.execute("SELECT value FROM _entgldb_meta WHERE name = ?", (PARTIAL,))
        told = json.dumps([*facts, merger.partial, merger.system, lacking.fetchone(), self._shadow.form()])
        return sha256(told.encode()).hexdigest()

    def goes_on(self, at: Progress, merger: Merger, name: str) -> bool:
        """Whether it is the merge of what is staged, and nothing has changed that it rests on."""
        same = at.name == name and at.world == self.world(merger)
        return same and self._state.lsn < at.first and self._shadow.is_allowed()

    def is_anothers(self, at: Progress, name: str) -> bool:
        """Whether another process goes on with a merge of something else."""
        return at.name != name and not at.over and self._shadow.is_anothers()

    def begin(self, merger: Merger, name: str, own: Origin, firsts: dict[Origin, int]) -> None:
        """Make the shadow, and the origins of the snapshot known. ``firsts``: see ``Progress``."""
        merger.prepare()
        self._shadow.create()
        first = self._state.lsn + LSNS_BETWEEN
        self._keep(Progress(name, self.world(merger), own, first, first, ("", ""), 0, 0, 0, 0, 0, firsts))

    def walk(self, merger: Merger, at: Progress) -> None:
        """The next range of keys, or some of those that were changed meanwhile; then log rows go that the
        snapshot covers, as they might at any time."""
        if at.reached is None and not self._has_touched(at):
            prune_covered(self._connection, self._state, self._covered(merger))
            self._keep(at)
            return
        merger.desk = self._shadow.desk()
        merger.prepare()
        if at.reached is not None:
            at = at._replace(reached=self._next_range(at.reached, at.first - LSNS_BETWEEN))
        else:
            at = at._replace(catch_ups=at.catch_ups + 1)
            self._take_touched(STEP_ROWS)
        state, collections = self._state, self._names("temp.scope")
        moment = state.moment()
        with self._shadow.entered():
            # their views come with the last step
            for collection in collections:
                state.collections.add(collection)
            at = self._merged(merger, at)
        state.back_to(moment)
        self._keep(at)

    def is_walked(self, merger: Merger, at: Progress) -> bool:
        """Whether the last step may be taken."""
        if at.reached is not None or self._has_touched(at):
            return False
        state = self._state
        left = sum(seq - state.origins[origin].floor for origin, seq in self._covered(merger).items())
        return left <= LOG_ROWS_LEFT

    def _has_touched(self, at: Progress) -> bool:
        """Whether more keys were changed meanwhile than the last step may take."""
        (left,) = self._connection.execute(
            f"SELECT count(*) FROM (SELECT 1 AS one FROM {TOUCHED} LIMIT ?) AS few",  # noqa: S608 -- a constant
            (STEP_ROWS + 1,),
        ).fetchone()
        return left > STEP_ROWS and at.catch_ups < CATCH_UPS_MAX

    def _covered(self, merger: Merger) -> Mapping[Origin, int]:
        """The logs of which the snapshot has more than this node, as far as rows of them may go already."""
        covered, origins = dict[Origin, int](), self._state.origins
        for mark in merger.head.marks:
            ours = origins[mark.name].head if mark.name in origins else NO_HEAD
            # of a branch that is to be taken out the rows tell its keys, and what was there before
            if merger.firsts:
                break
            # stamped later it may come to be one; where a fork is known no merge begins, or goes on
            if 0 < ours.seq < mark.seq and ours.hlc < mark.hlc:
                covered[mark.name] = ours.seq
        return prunable(self._connection, self._state, covered)

    def finish(self, merger: Merger, at: Progress) -> None:
        """The last step: from now on everybody sees what was merged."""
        merger.desk = self._shadow.desk()
        merger.prepare()
        self._take_touched(sys.maxsize)
        state = self._state
        for name in self._names("staged.documents"):
            if name not in state.collections and (merger.system or not name.startswith(SYSTEM_PREFIX)):
                ensure_collection(self._connection, state, name)
        self._shadow.enter()
        at = self._merged(merger, at)
        state.documents = at.documents
        merger.taken, merger.deleted = at.taken, at.deleted
        merger.finish()
        self._shadow.stay()
        self._keep(at._replace(over=True))

    def note(self, places: str) -> None:
        """Have the keys in a table done again by the last step."""
        self._connection.execute(
            f"INSERT OR IGNORE INTO {TOUCHED} SELECT collection, key FROM {places}"  # noqa: S608 -- constants
        )

    def forsake(self) -> None:
        """It is not to go on, if there is one: what it has made goes by ``remove``."""
        at = self.progress()
        if at is not None and not at.over:
            self._shadow.forsake()
            self._keep(at._replace(over=True))

    def is_left(self, at: Progress | None) -> bool:
        """Whether it is to be removed: it is over, or nobody goes on with it."""
        return at is not None and (at.over or self._state.lived_ms - at.lived_ms > STALE_MS)

    def remove(self, at: Progress) -> None:
        """One bounded step of removing one that is over, or is over with this."""
        if at.over:
            self._shadow.clean()
        else:
            self.forsake()

    def _merged(self, merger: Merger, at: Progress) -> Progress:
        """Merge the keys in ``temp.scope`` into the shadow, which is entered."""
        state = self._state
        before = self._shadow.refill()
        state.lsn, state.conflicts = at.lsn, self._shadow.conflicts()
        merger.take()
        self._shadow.settle()
        return at._replace(
            lsn=state.lsn,
            documents=at.documents - before + self._shadow.live(),
            taken=at.taken + merger.taken,
            deleted=at.deleted + merger.deleted,
        )

    def _next_range(self, behind: tuple[str, str], begun: int) -> tuple[str, str] | None:
        """Fill ``temp.scope`` with the keys behind one that were there at lsn ``begun``; the last of them, or
        None where no more follow."""
        found, ends = list[list[tuple[str, str]]](), list[tuple[str, str]]()
        for source in _SOURCES:
            rows = self._connection.execute(
                source,
                {"collection": behind[0], "key": behind[1], "rows": STEP_ROWS, "begun": begun},
            )
            keys, size = list[tuple[str, str]](), 0
            for collection, key, bytes_ in rows:
                keys.append((collection, key))
                size += bytes_
                if size >= STEP_BYTES or len(keys) == STEP_ROWS:
                    ends.append(keys[-1])
                    break
            rows.close()
            found.append(keys)
        end = min(ends, default=None)
        places = {place for place in chain.from_iterable(found) if end is None or place <= end}
        self._shadow.fill(places)
        return end

    def _take_touched(self, rows: int) -> None:
        """Move keys that were changed meanwhile into ``temp.scope``."""
        places = self._connection.execute(
            f"SELECT collection, key FROM {TOUCHED} LIMIT ?",  # noqa: S608 -- a constant
            (rows,),
        ).fetchall()
        self._shadow.fill(places)
        self._connection.executemany(
            f"DELETE FROM {TOUCHED} WHERE collection = ? AND key = ?",  # noqa: S608 -- a constant
            places,
        )

    def _names(self, source: str) -> list[str]:
        """The collections in a table, each found by the index."""
        names, last = list[str](), ""
        while True:
            (last,) = (
                self._shadow.desk()
                .execute(
                    f"SELECT min(collection) FROM {source} WHERE collection > ?",  # noqa: S608 -- a constant
                    (last,),
                )
                .fetchone()
            )
            if last is None:
                return names
            names.append(last)

    def _keep(self, at: Progress) -> None:
        self._shadow.keep(json.dumps(at._replace(lived_ms=self._state.lived_ms)))


def name_of(connection: sqlite3.Connection) -> str:
    """A name for what is staged: the digest of the digests of its chunks."""
    found = sha256()
    for (digest,) in connection.execute("SELECT sha256 FROM staged.chunks ORDER BY number"):
        found.update(digest)
    return found.hexdigest()
