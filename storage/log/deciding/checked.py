"""A write whose limits hold, and the check that they do."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

from entgldb.messages.client import Base, FieldOperation, Write, Written
from entgldb.messages.errors import InvalidError, NotAllowedError, TooLargeError
from entgldb.messages.limits import BODY_BYTES_MAX, GROUP_BYTES_MAX, GROUP_ENTRIES_MAX
from entgldb.messages.model import (
    REMOTE_PEERS,
    SYSTEM_PREFIX,
    Place,
    Version,
    check_collection,
    check_key,
)
from entgldb.messages.strict_json import read_json
from entgldb.storage.rules.body import check_body
from entgldb.storage.rules.filtering.nodes import Node
from entgldb.storage.rules.filtering.parser import FILTER_DEPTH_MAX, parse_filter
from entgldb.storage.rules.merging.collection_rule import check_life
from entgldb.storage.rules.updating.parse import Update, read_update, weight


class Terms(NamedTuple):
    """The dependence of a write on the document that stands."""

    expects: Written | None
    """The version that it is meant for, as ``Write.expects``."""
    update: Update = ()
    """Changes of the document; empty where the write does not depend on its content."""
    upsert: bool = False
    """Whether the update makes a document where there is none."""
    where: Node | None = None
    """A filter that the document must match, or nothing is done."""


class Checked(NamedTuple):
    """A write whose limits hold; ``text`` is None for a delete."""

    place: Place
    body: bytes | None
    text: str | None
    resolves: tuple[Version, ...] = ()
    """Conflicts that it settles."""
    whole: bool = False
    """Write all of a document that merges anew, whatever is there."""
    base: Base | None = None
    """The document that the writer had read; used where the document merges."""
    operations: tuple[FieldOperation, ...] = ()
    """On counters and sets, instead of a document or delete."""
    terms: Terms | None = None
    skipped: bool = False
    """It was decided to change nothing: the document is as it should be, or (``text`` None) there is none."""
    life_ms: int | None = None
    """How long it lives; 0: for good. None: as the collection has it."""
    keeps_moment: bool = False
    """Where neither says how long, it expires when the document does that it changes."""
    moment: int | None = None
    """The moment at which it expires whoever says how long it lives; 0: never. None: as they say."""

    @property
    def update(self) -> Update:
        """The update to be done on the document that merges."""
        return () if self.terms is None else self.terms.update

    @property
    def deletes(self) -> bool:
        return self.text is None and not self.operations and not self.update


def check_writes(
    writes: Sequence[Write], known: Set[str], *, system: bool, whole: bool = False
) -> list[Checked]:
    """All of a request's writes, or the first fault as an EntglError. ``known``: collections there are."""
    # an operation takes the time of a write, though all on one document make one entry
    _check_count(sum(max(1, len(write.operations)) for write in writes))
    size = sum(len(write.body or write.update or b"") for write in writes)
    if size > GROUP_BYTES_MAX:
        raise TooLargeError(f"a commit of {size} bytes, {GROUP_BYTES_MAX} allowed", hint="split it")
    checked = []
    updates: dict[bytes, Update] = {}
    filters: dict[bytes, Node] = {}
    for write in writes:
        collection, body = write.collection, write.body
        if collection not in known or collection.startswith(SYSTEM_PREFIX):
            _check_name(collection, system=system)
        text = None if body is None else check_body(body)
        base, operations, terms = None if body is None else write.base, write.operations, None
        if write.expects is not None or write.update is not None or write.where is not None:
            terms = _terms(write, updates, filters)
        if (operations or write.update is not None) and (
            body is not None or whole or (operations and write.update is not None)
        ):
            raise InvalidError("a write is a document, operations or an update, and only one of them")
        place = (collection, check_key(write.key))
        life_ms, keeps = write.expire_after, bool(operations or write.update is not None)
        if life_ms is not None:
            check_life(life_ms)
            if text is None and not keeps:
                raise InvalidError("a delete does not expire")
        made = Checked(place, body, text, (), whole, base, operations, terms)
        if keeps or life_ms is not None:
            made = made._replace(life_ms=life_ms, keeps_moment=keeps)
        checked.append(made)
    if any(weight(update) > 1 for update in updates.values()):
        _check_count(sum(max(1, len(one.operations), weight(one.update)) for one in checked))
    return checked


def _terms(write: Write, updates: dict[bytes, Update], filters: dict[bytes, Node]) -> Terms:
    """The dictionaries have what earlier writes said: a commit may be one update of many documents."""
    update, where = write.update, write.where
    if update is not None and update not in updates:
        updates[update] = read_update(update)
    if where is not None and where not in filters:
        filters[where] = _read_filter(where)
    if where is not None and write.upsert:
        raise InvalidError("an update with a filter makes no document", hint="leave out upsert")
    return Terms(
        write.expects,
        () if update is None else updates[update],
        write.upsert,
        None if where is None else filters[where],
    )


def _read_filter(data: bytes) -> Node:
    if len(data) > BODY_BYTES_MAX:
        raise TooLargeError(f"a filter of {len(data)} bytes, {BODY_BYTES_MAX} allowed")
    told = read_json(data.decode("utf-8", "replace"), "a filter", 2 * FILTER_DEPTH_MAX)
    if type(told) is not list or len(told) != 2 or type(told[0]) is not dict:
        raise InvalidError("a filter travels as an array of itself and its collation")
    return parse_filter(told[0], told[1])


def _check_count(count: int) -> None:
    if not 0 < count <= GROUP_ENTRIES_MAX:
        raise InvalidError(f"a commit of {count} writes", hint=f"1 to {GROUP_ENTRIES_MAX} are possible")


def _check_name(collection: str, *, system: bool) -> None:
    if collection.startswith(SYSTEM_PREFIX) and not system:
        raise NotAllowedError(
            f"{collection} is written by its own verbs only",
            hint="add-cloud-peer, update-peer or remove-peer" if collection == REMOTE_PEERS else "",
        )
    check_collection(collection, system=system)
