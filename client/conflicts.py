"""An application's work with conflicts, histories and deleted documents, for both APIs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from entgldb.client import writes as client_writes
from entgldb.messages.administration import Resolve, SetConflict, SetExpiry, Undelete
from entgldb.messages.client import CommitDone
from entgldb.messages.errors import InvalidError
from entgldb.messages.model import Version
from entgldb.storage.documents.conflicts import life_ms

if TYPE_CHECKING:
    from entgldb.client.door import Door
    from entgldb.storage.documents.history import History

SEQ_DIGITS_MAX: Final = 16
"""Digits of a number in a log: it is less than 2**53."""


def conflict_rule(database: Door, collection: str) -> str:
    """``lww`` or ``merge``."""
    return database.documents.conflict_rule(collection)


def set_conflict_rule(database: Door, collection: str, conflict: str) -> bool:
    """Have a collection merge fields (``merge``) or keep the later document (``lww``), on all nodes.

    False where it is so already. Raises InvalidError.
    """
    answer = database.request(SetConflict(database.next_request(), collection, conflict))
    return isinstance(answer, CommitDone) and answer.lsn > 0


def expiry(database: Door, collection: str) -> float | None:
    """Seconds after which what is written to a collection expires, as far as the node knows; None: never."""
    found = database.documents.put_to(lambda connection: life_ms(connection, collection))
    return None if found is None else found / 1000


def set_expiry(database: Door, collection: str, seconds: float | None) -> bool:
    """Have what is written to a collection from now on expire, by whatever node; None: never.

    Documents that are there keep the moment that they were written with. False where it is so
    already. Raises InvalidError.
    """
    life = client_writes.life(seconds) or 0
    answer = database.request(SetExpiry(database.next_request(), collection, life))
    return isinstance(answer, CommitDone) and answer.lsn > 0


def resolve(
    database: Door,
    collection: str,
    key: str,
    version: Version,
    take: str | Mapping[str, Any],
) -> Version | None:
    """Settle a conflict on all nodes: ``take`` is ``"loser"``, ``"winner"`` or a document.

    ``version`` is the one that lost, as ``conflicts`` lists it. The version made. Raises NotFoundError.
    """
    name, body = (
        (take, None) if isinstance(take, str) else ("", client_writes.put(collection, key, take).body)
    )
    request = database.next_request()
    answer = database.request(Resolve(request, collection, key, version.origin, version.seq, name, body))
    return client_writes.versions(answer)[0]


def history(database: Door, collection: str, key: str) -> History:
    """The versions of a document, newest first, as far as the node's log has them."""
    return database.documents.history(collection, key)


def undelete(database: Door, collection: str, key: str) -> Version:
    """Write the newest live version of a deleted document again; the version made.

    Raises NotFoundError where this node's log has none any more, EntglError ``already-exists``.
    """
    answer = database.request(Undelete(database.next_request(), collection, key))
    (version,) = client_writes.versions(answer)
    assert version is not None
    return version


def version_text(version: Version) -> str:
    """A version as ``ORIGIN:SEQ``, which ``read_version`` reads."""
    return f"{version.origin}:{version.seq}"


def read_version(text: str, what: str = "") -> Version:
    """``ORIGIN:SEQ``, as ``conflicts``, ``history`` and ETag tell it; ``what`` names its place.

    Raises InvalidError.
    """
    origin, _, seq = text.rpartition(":")
    if not origin or not seq.isascii() or not seq.isdigit() or len(seq) > SEQ_DIGITS_MAX:
        raise InvalidError(
            f"{what} {text!r:.120} is not a version".lstrip(),
            hint="ORIGIN:SEQ, as entgldb conflicts prints it",
        )
    return Version(origin, int(seq))
