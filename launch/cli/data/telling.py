"""Words about documents: their versions, and the likely name of a collection that is not there."""

from __future__ import annotations

from typing import Any

from entgldb.launch.cli.common import ended, say
from entgldb.messages.errors import NotFoundError
from entgldb.messages.model import check_collection


def version_fields(version: Any) -> dict[str, object] | None:
    """A version as JSON shows it."""
    return None if version is None else {"origin": version.origin, "seq": version.seq}


def written_fields(version: Any) -> dict[str, object]:
    """A version that a write gave as JSON shows it, and who has it where the write waited for others."""
    fields: dict[str, object] = {"version": version_fields(version)}
    if version.spread is not None:
        fields |= {"durable": version.spread.durable, "missing": version.spread.missing}
    return fields


def reach(version: Any) -> str:
    """The same for people, behind what was written; empty where the write waited for nobody else."""
    return "" if version.spread is None else f": {version.spread}"


def meant(db: Any, collection: str) -> str:
    """A remark on a collection in which there has never been a document; empty where there has.

    Raises InvalidError for what is no name of one.
    """
    check_collection(collection, system=True)
    known = db.collections(system=True)
    if collection in known:
        return ""
    # difflib is needed by whoever mistyped, and by nobody else
    from difflib import get_close_matches

    near = get_close_matches(collection, known, 1, 0.5)
    return f"there has never been a document in {collection} here" + (
        f"; did you mean {near[0]}?" if near else ""
    )


def hint_at(db: Any, collection: str) -> None:
    """On standard error: that nothing was found because the collection is none."""
    if unknown := meant(db, collection):
        say(f"note: {ended(unknown)} Try: entgldb collections", err=True)


def no_document(db: Any, collection: str, key: str, what: str = "no document") -> NotFoundError:
    """The error of a key that is not there."""
    unknown = meant(db, collection)
    text = f"{what} {key!r} in {collection}" + (f": {unknown}" if unknown else "")
    return NotFoundError(text, hint="entgldb collections" if unknown else f"entgldb find {collection}")
