"""The fragments about documents: collections, search, one document, its history, why it is where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from entgldb.client.conflicts import version_text
from entgldb.messages.errors import InvalidError
from entgldb.web.bodies import SKIP_MAX, number, object_in_query
from entgldb.web.dashboard.rendering import WHOLE_CHARS, pretty, preview, render

if TYPE_CHECKING:
    from entgldb.client.aio.database import Database

PAGE_COLLECTIONS: Final = 100
PAGE_DOCUMENTS: Final = 25
HISTORY_ROWS: Final = 50
SORTED_MAX: Final = 50_000
"""Documents that are sorted without an index: some 0.4 s."""


class DocumentViews:
    """The handlers, over one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def routes(self) -> list[Route]:
        """The paths that they serve."""
        return [
            Route("/ui/documents", self.documents, methods=["GET"]),
            Route("/ui/count", self.count, methods=["GET"]),
            Route("/ui/document", self.document, methods=["GET"]),
            Route("/ui/history", self.history, methods=["GET"]),
            Route("/ui/why", self.why, methods=["GET"]),
        ]

    async def documents(self, request: Request) -> Response:
        """The collections, or the documents of one that match ``filter``, a page at a time."""
        asked = request.query_params
        if not asked.get("collection"):
            return await self._collections(request)
        name, sort, filter = asked["collection"], asked.get("sort") or "", asked.get("filter") or ""
        wanted = object_in_query(request, "filter") if filter.strip() else None
        order = [path.strip() for path in sort.split(",")] if sort.strip() else []
        if wanted is None and order and not asked.get("after") and await self._is_long_work(name, order):
            told = {"collection": name, "filter": filter, "sort": sort, "order": order}
            return render("documents", needs_index=SORTED_MAX, **told)
        found = self._db[name].find(
            wanted, sort=order or None, limit=PAGE_DOCUMENTS, after=asked.get("after")
        )
        rows = [{"key": one.key, "preview": preview(one)} async for one in found]
        after = found.cursor if len(rows) == PAGE_DOCUMENTS else None
        facts = {"collection": name, "rows": rows, "after": after, "filter": filter, "sort": sort}
        return render("rows" if asked.get("after") else "documents", **facts)

    async def _is_long_work(self, name: str, order: list[str]) -> bool:
        """Whether no index has the order, and more than SORTED_MAX documents would be sorted for a page."""
        for index in await self._db[name].indexes():
            if index.ready and not index.text and index.where is None and _has_order(index.paths, order):
                return False
        beyond = self._db[name].find(skip=SORTED_MAX, limit=1)
        return any([True async for _ in beyond])

    async def _collections(self, request: Request) -> Response:
        like, skip = request.query_params.get("like", ""), number(request, "skip", 0, SKIP_MAX) or 0
        system = request.query_params.get("system") == "true"
        names = [name for name in await self._db.collections(system=system) if like.lower() in name.lower()]
        shown = names[skip : skip + PAGE_COLLECTIONS]
        after = skip + PAGE_COLLECTIONS if skip + PAGE_COLLECTIONS < len(names) else None
        return render(
            "collections", names=shown, total=len(names), after=after, like=like, skip=skip, system=system
        )

    async def count(self, request: Request) -> Response:
        """How many documents match: apart, since it may take longer than a page of them."""
        filter = request.query_params.get("filter") or ""
        wanted = object_in_query(request, "filter") if filter.strip() else None
        return render("count", count=await self._db[_name(request)].count(wanted))

    async def document(self, request: Request) -> Response:
        """One document, to be read or edited; a large one is cut unless ``whole`` is asked for."""
        collection, key = _place(request)
        found = await self._db[collection].get(key)
        text = None if found is None else pretty(found)
        cut = text is not None and len(text) > WHOLE_CHARS and request.query_params.get("whole") != "true"
        return render(
            "document",
            collection=collection,
            key=key,
            text=text[:WHOLE_CHARS] if cut and text is not None else text,
            cut=cut,
            length=0 if text is None else len(text),
            version=None if found is None or found.version is None else version_text(found.version),
            rule=await self._db.conflict_rule(collection),
        )

    async def history(self, request: Request) -> Response:
        """Its versions, newest first."""
        collection, key = _place(request)
        told = await self._db[collection].history(key)
        return render(
            "history", versions=told.versions[:HISTORY_ROWS], total=len(told.versions), endings=told.endings
        )

    async def why(self, request: Request) -> Response:
        """Where it is, where it came from, and why somebody has it not."""
        return render("why", told=await self._db.why(*_place(request)))


def _name(request: Request) -> str:
    name = request.query_params.get("collection")
    if not name:
        raise InvalidError("a collection is needed")
    return name


def _place(request: Request) -> tuple[str, Any]:
    key = request.query_params.get("key")
    if not key:
        raise InvalidError("a key is needed")
    return _name(request), key


def _has_order(paths: list[str], order: list[str]) -> bool:
    """Whether an index on ``paths``, read from either end, begins with ``order``."""
    begin = paths[: len(order)]
    return order in (begin, [path[1:] if path.startswith("-") else f"-{path}" for path in begin])
