"""Mistakes in what a node keeps and forgets: fields, rows that are verified, history that is pruned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from entgldb.actors.oplog import walker
from entgldb.actors.oplog.retention import Retention
from entgldb.actors.oplog.verifier import Verifier
from entgldb.messages.local.members import Prune, Pruned
from entgldb.messages.model import Place
from entgldb.messages.wire import Copy
from entgldb.storage.documents import expiring
from entgldb.storage.file.state import State
from entgldb.storage.log import prune
from entgldb.storage.log import rows as merge_rows
from entgldb.storage.log.apply import Applier
from entgldb.storage.repair import mending
from entgldb.storage.rules import retention
from entgldb.storage.rules.comparing.reconcile import Item
from entgldb.storage.rules.comparing.repair import Decision, Side, decide
from entgldb.storage.rules.header import Header
from entgldb.storage.rules.merging import changes, stored
from entgldb.storage.rules.merging import row as merged
from entgldb.storage.rules.merging import tree as fields
from entgldb.storage.rules.merging.tree import FieldChange, Tree


@contextmanager
def fingerprints_without_body() -> Iterator[None]:
    """Verification compares versions and believes the bodies."""
    item_of = walker.item_of

    def careless(place: bytes, origin: str, seq: int, body_sha256: bytes) -> Item:
        return item_of(place, origin, seq, b"")

    with patch.object(walker, "item_of", careless):
        yield


@contextmanager
def older_side_taken() -> Iterator[None]:
    """Verification takes the wrong side."""
    exchanged = {Decision.TAKE: Decision.KEEP, Decision.KEEP: Decision.TAKE}

    def careless(mine: Side, theirs: Side) -> Decision:
        found = decide(mine, theirs)
        return exchanged.get(found, found) if theirs.copy is not None else found

    with patch.object(mending, "decide", careless):
        yield


@contextmanager
def removed_field_ignored() -> Iterator[None]:
    """A field that was removed stays, because only what is there is compared."""
    plant = changes.plant

    def careless(
        change: changes.FieldChange, stamp: fields.Stamp, over: fields.Stamp | None = None
    ) -> fields.Tree:
        kept = {item: value for item, value in change.items() if value != {changes.GONE: 1}}
        return plant(kept, stamp, over)

    with patch.object(merged, "plant", careless):
        yield


@contextmanager
def delay_taken_for_damage() -> Iterator[None]:
    """Verification shows what the log is about to bring, and does not wait for it."""

    def careless(mine: Side, theirs: Side) -> Decision:
        found = decide(mine, theirs)
        behind = found is Decision.WAIT and theirs.copy is not None and mine.copy is None
        return Decision.TAKE if behind else found

    def shown(self: Verifier, keys: Iterable[Place], *_: object) -> Iterator[Copy]:
        return self._documents.copies(keys)

    with patch.object(mending, "decide", careless), patch.object(Verifier, "_copies", shown):
        yield


@contextmanager
def fields_without_origin() -> Iterator[None]:
    """Of two values of a field with equal clocks the later to arrive stands."""

    def careless(ours: fields.Leaf, theirs: fields.Leaf) -> fields.Leaf:
        return ours if ours[0][0] > theirs[0][0] else theirs

    with patch.object(fields, "later", careless):
        yield


@contextmanager
def pruned_by_age_alone() -> Iterator[None]:
    """An entry that is old enough is pruned, whoever lacks it."""
    survey = retention.survey

    def careless(
        ours: Mapping[str, int], counted: Any, old: Mapping[str, int], *more: Any
    ) -> retention.Survey:
        found = survey(ours, counted, old, *more)
        return found._replace(aged={origin: min(seq, ours.get(origin, 0)) for origin, seq in old.items()})

    with patch.object(retention, "survey", careless):
        yield


@contextmanager
def delete_forgets_fields() -> Iterator[None]:
    """A tombstone keeps nothing of a document that merges, though an edit elsewhere may bring it back."""
    save = merge_rows.save

    def careless(row: stored.Stored, *, hidden: bool) -> tuple[str | None, bytes | None]:
        kept = row if row.live or row.fields is None else row._replace(fields={})
        return save(kept, hidden=hidden)

    with patch.object(merge_rows, "save", careless):
        yield


@contextmanager
def floor_past_a_gap() -> Iterator[None]:
    """The floor is raised to the head of the log, over rows that are still there."""
    raise_floor = State.raise_floor

    def careless(self: State, origin: str, seq: int, hlc: int) -> None:
        raise_floor(self, origin, self.origins[origin].head.seq, hlc)

    with patch.object(State, "raise_floor", careless):
        yield


@contextmanager
def quarantine_pruned() -> Iterator[None]:
    """An entry in quarantine is pruned like all others."""
    with patch.object(prune, "_spare_quarantined", lambda connection, state, order: order):
        yield


@contextmanager
def quarantine_pruned_by_one() -> Iterator[None]:
    """An entry in quarantine is pruned, and the entries that follow it stay."""
    spare = prune._spare_quarantined

    def careless(connection: Any, state: State, order: Prune) -> Prune:
        found = spare(connection, state, order)
        raised = [
            {origin: min(seq + 1, bounds[origin]) for origin, seq in spared.items()}
            for spared, bounds in ((found.aged, order.aged), (found.stable, order.stable))
        ]
        return replace(order, aged=raised[0], stable=raised[1])

    with patch.object(prune, "_spare_quarantined", careless):
        yield


@contextmanager
def stable_by_one_too_many() -> Iterator[None]:
    """One entry more is pruned than everybody has."""
    pruned = prune.prune

    def careless(connection: Any, state: State, order: Prune) -> Pruned:
        raised = {origin: seq + 1 for origin, seq in order.aged.items()}
        return pruned(connection, state, replace(order, aged=raised))

    with patch.object(prune, "prune", careless):
        yield


@contextmanager
def join_skipped() -> Iterator[None]:
    """A tombstone goes, and is said to be settled, as soon as everybody has the delete: older puts may still
    be on their way to us."""

    def careless(self: Retention, found: retention.Survey, ours: Mapping[str, int]) -> None:
        self._settled, self._ripe = found.settled, found.forgettable

    with patch.object(Retention, "_ripen", careless):
        yield


@contextmanager
def mended_under_its_old_number() -> Iterator[None]:
    """A row that was mended stays where change feeds have read it already."""
    mended = mending.Mender.replace

    def careless(self: mending.Mender, copy: Copy) -> None:
        place = (copy.collection, copy.key)
        find = "SELECT lsn FROM _entgldb_documents WHERE collection = ? AND key = ?"
        before = self._connection.execute(find, place).fetchone()
        mended(self, copy)
        self._connection.execute(
            "UPDATE _entgldb_documents SET lsn = ? WHERE collection = ? AND key = ?",
            (before[0] if before else 0, *place),
        )

    with patch.object(mending.Mender, "replace", careless):
        yield


def under_the_number_of_its_log_row(merge: Callable[..., None]) -> Callable[..., None]:
    """``Applier.merge``, where the document takes no number of its own."""

    def careless(self: Applier, header: Header, text: str | None, lsn: int) -> None:
        self.batch.flush()
        row = self.connection.execute(
            "SELECT l.lsn FROM _entgldb_oplog l JOIN _entgldb_origins o ON o.id = l.origin"
            " WHERE o.name = ? AND l.seq = ?",
            header.version,
        ).fetchone()
        merge(self, header, text, row[0] if row else lsn)

    return careless


@contextmanager
def supplied_under_its_old_number() -> Iterator[None]:
    """A document that is applied long after it was recorded is shown under the number of its log row."""
    with patch.object(Applier, "merge", under_the_number_of_its_log_row(Applier.merge)):
        yield


@contextmanager
def sum_forgotten() -> Iterator[None]:
    """Each increment takes the place of the writer's others instead of adding to them."""
    continued = merge_rows.continued

    def careless(change: FieldChange, tree: Tree, origin: str) -> FieldChange:
        runs = {
            item: {run: (leaf[0], 0) for run, leaf in node.items() if run[0] == "+"}
            for item, node in tree.items()
            if isinstance(node, dict)
        }
        return continued(change, tree | runs, origin)

    with patch.object(merge_rows, "continued", careless):
        yield


@contextmanager
def expired_forgotten() -> Iterator[None]:
    """A document that has expired leaves nothing, so that an older write to its key shows."""
    forget = "DELETE FROM _entgldb_documents WHERE ? > 0 AND id = ?"
    with patch.object(expiring, "_HIDE", forget):
        yield


@contextmanager
def expired_under_its_old_number() -> Iterator[None]:
    """A feed that is past the write does not hear that it has expired."""
    hide = "UPDATE _entgldb_documents SET body = NULL, sha256 = NULL WHERE ? > 0 AND id = ?"
    with patch.object(expiring, "_HIDE", hide):
        yield


@contextmanager
def expired_without_fields() -> Iterator[None]:
    """A document that merges loses its fields when it expires, so that a change that was under way shows
    alone."""
    save = merge_rows.save

    def careless(row: stored.Stored, *, hidden: bool = False) -> tuple[str | None, bytes | None]:
        return (None, None) if hidden else save(row)

    with patch.object(merge_rows, "save", careless):
        yield
