"""A write whose limits hold, and the check that they do."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

from entgldb.messages.client import Base, FieldOperation, Write, Written
from entgldb.messages.errors import InvalidError, NotAllowedError, TooLargeError
from entgldb.messages.limits import GROUP_BYTES_MAX, GROUP_ENTRIES_MAX
from entgldb.messages.model import SYSTEM_PREFIX, Place, Version, check_collection, check_key
from entgldb.storage.rules.body import check_body


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
    expects: Written | None = None
    """The version that it is meant for, as ``Write.expects``."""

    @property
    def deletes(self) -> bool:
        """Whether it deletes the document."""
        return self.text is None and not self.operations


def check_writes(
    writes: Sequence[Write], known: Set[str], *, system: bool, whole: bool = False
) -> list[Checked]:
    """All of a request's writes, or the first fault as an EntglError. ``known``: collections there are."""
    # an operation takes the time of a write, though all on one document make one entry
    count = sum(max(1, len(write.operations)) for write in writes)
    if not 0 < count <= GROUP_ENTRIES_MAX:
        raise InvalidError(f"a commit of {count} writes", hint=f"1 to {GROUP_ENTRIES_MAX} are possible")
    size = sum(len(write.body) for write in writes if write.body is not None)
    if size > GROUP_BYTES_MAX:
        raise TooLargeError(f"a commit of {size} bytes, {GROUP_BYTES_MAX} allowed", hint="split it")
    checked = []
    for write in writes:
        collection, body = write.collection, write.body
        if collection not in known or collection.startswith(SYSTEM_PREFIX):
            _check_name(collection, system=system)
        text = None if body is None else check_body(body)
        base, operations = None if body is None else write.base, write.operations
        if operations and (body is not None or whole):
            raise InvalidError("a write is a document or operations, not both")
        place = (collection, check_key(write.key))
        checked.append(Checked(place, body, text, (), whole, base, operations, write.expects))
    return checked


def _check_name(collection: str, *, system: bool) -> None:
    if collection.startswith(SYSTEM_PREFIX) and not system:
        raise NotAllowedError(
            f"{collection} is written by its own verbs only",
            hint="add-cloud-peer, update-peer or remove-peer",
        )
    check_collection(collection, system=system)
