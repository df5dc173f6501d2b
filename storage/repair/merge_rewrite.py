"""Own unsent writes to documents that merge, issued again on top of a snapshot; for ``reissue.Tail``.

Under a clock behind everything, fields that had lost to newer ones would win now: where a document comes out
otherwise than it was, the difference is written once more, naming what had won and not what had lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from entgldb.messages.limits import HEADER_BYTES_MAX, MERGE_BYTES_MAX, NAMED_MAX
from entgldb.messages.model import Origin, Version
from entgldb.storage.log.append import Batch
from entgldb.storage.log.rows import read_operation, read_row, write_row
from entgldb.storage.rules.header import MERGE, Header
from entgldb.storage.rules.merging.changes import difference, fresh, same, split, whole
from entgldb.storage.rules.merging.row import Merging, absorb, read_merging
from entgldb.storage.rules.merging.stored import Stored, Tip
from entgldb.storage.rules.merging.tree import Stamp

Place = tuple[str, str]


def _versions(stored: Stored) -> tuple[Version, ...]:
    return tuple(tip.version for tip in stored.tips[:NAMED_MAX]) if stored.live else ()


def _parts(merging: Merging) -> list[bytes]:
    """One body, or several where several writers have made a document larger than one may write at once."""
    changes = split(merging.change, MERGE_BYTES_MAX - HEADER_BYTES_MAX)
    return [merging._replace(change=change).encode() for change in changes]


class Restoring(NamedTuple):
    """The write that makes a document as it was."""

    place: Place
    parent: Version
    seen: tuple[Version, ...]
    body: bytes


class MergeTail:
    """The keys of a tail that merge, as they were before it was written again."""

    def __init__(self, batch: Batch, old: Origin, tail: Iterable[Header]) -> None:
        self._batch = batch
        # one merge and all writes of its key are merged: a node that takes the new log does just that
        self._merging = {(header.collection, header.key) for header in tail if header.op == MERGE}
        self._old = old
        self._before: dict[Place, Stored] = {}
        self._versions: dict[Version, Version] = {}
        self._stamps: dict[Stamp, Stamp] = {}

    def concerns(self, header: Header) -> bool:
        """Whether an entry of the tail is to be merged once more, not only renamed."""
        place = (header.collection, header.key)
        current = self._batch.current(*place)
        if current is not None and current.merged:
            self._merging.add(place)
        return place in self._merging

    def text(self, header: Header, text: str | None) -> str | None:
        """The body of an entry, with what it names under its new name."""
        if header.op != MERGE or text is None:
            return text
        said = read_merging(text, (header.hlc, header.origin))
        made = said._replace(over=None if said.over is None else self._stamps.get(said.over, said.over))
        return made.encode().decode()

    def moved(self, old: Header, made: Header) -> None:
        """An entry has its new name."""
        self._versions[old.version] = made.version
        self._stamps[old.hlc, old.origin] = (made.hlc, made.origin)

    def again(self, old: Header, made: Header, text: str | None, lsn: int) -> None:
        """Merge an entry under its new name into the row that knows it by the old one."""
        batch, place = self._batch, (made.collection, made.key)
        stored = read_row(batch, *place)
        one = read_operation(made, text)
        for version in (old.version, *one.named):
            batch.clear_conflict(version)
        if stored is not None:
            self._before.setdefault(place, stored)
            newest = one.tip if stored.newest.version == old.version else stored.newest
            tips = tuple(tip for tip in stored.tips if tip.version != old.version)
            stored = stored._replace(newest=newest, tips=tips)
        after = absorb(stored, one)
        for tip in after.restored:
            batch.clear_conflict(tip.version)
        for loser in after.losers:
            batch.keep_loser(*place, loser)
        write_row(batch, made, text, after.stored, lsn)

    def restoring(self) -> list[Restoring]:
        """For every document that came out otherwise, what makes it as it was."""
        found = []
        for place, before in self._before.items():
            now = read_row(self._batch, *place)
            document = before.document() if before.live else None
            if now is None:
                continue
            if not self._lives_in_snapshot(place):
                # peers may have collected its delete, and with it the fields that were not written again
                merging = Merging(whole(document or {}), document is None)
                found += [
                    Restoring(place, now.newest.version, _versions(now), part) for part in _parts(merging)
                ]
            elif not same(document, now.document() if now.live else None):
                seen = tuple(self._version(tip) for tip in before.tips[:NAMED_MAX])
                newest = self._version(before.newest)
                parts = _parts(self._difference(before, document, now))
                found += [Restoring(place, newest, seen, part) for part in parts]
        return found

    def _lives_in_snapshot(self, place: Place) -> bool:
        row = self._batch.connection.execute(
            "SELECT 1 FROM staged.documents WHERE collection = ? AND key = ? AND body IS NOT NULL", place
        ).fetchone()
        return row is not None

    def _difference(self, before: Stored, document: dict[str, Any] | None, now: Stored) -> Merging:
        if document is None:
            return Merging({}, delete=True)
        if not now.live:
            return Merging(fresh(document), over=now.newest.stamp)
        return Merging(difference(now.document(), document, now.tree))

    def _version(self, tip: Tip) -> Version:
        return self._versions.get(tip.version, tip.version)
