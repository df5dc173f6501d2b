"""The changes that an integration has not done yet, for ever."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from entgldb.client.database import Change, Database
from entgldb.integrations.place import Place
from entgldb.messages.errors import TokenExpired

NOW: Final = "now"
START: Final = "start"


def changes(db: Database, place: Place, collections: Collection[str], since: str) -> Iterator[Change]:
    """Changes after the kept place, each at least once, waiting for more.

    ``since`` says where to begin without one: ``now`` or ``start``. Raises TokenExpired, with what to do.
    """
    if place.token is None and since == NOW:
        place.keep(db.token())  # a change made before the first one is done shall not be lost
    return _after(db, place, collections)


def _after(db: Database, place: Place, collections: Collection[str]) -> Iterator[Change]:
    try:
        yield from db.changes(place.token, collections=collections, follow=True)
    except TokenExpired as fault:
        fault.hint = f"remove {place.file}: it then begins anew, where `since` says"
        raise
