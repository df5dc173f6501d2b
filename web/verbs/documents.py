"""Documents by HTTP: one by key, many by a filter, in bulk and in batches.

The version of a document is its entity tag, which the conditions of a request name. ``Idempotency-Key`` names
a write: sent again with the same key it is done once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from entgldb.client.conflicts import version_text
from entgldb.client.keys import named_key
from entgldb.client.spread import read_ack
from entgldb.messages.errors import InvalidError, NotFoundError
from entgldb.web.bodies import MANY_BYTES_MAX, answer, number, object_in_query, object_of
from entgldb.web.conditions import etag, expected, is_known, read_condition

if TYPE_CHECKING:
    from entgldb.client.aio.collection import Collection
    from entgldb.client.aio.database import Database
    from entgldb.client.writes import Document
    from entgldb.messages.model import Version

PAGE_DOCUMENTS: Final = 100
"""Documents of one answer, unless ``limit`` says otherwise."""
PAGE_DOCUMENTS_MAX: Final = 1000
_WRITE: Final = frozenset(("op", "collection", "key", "document", "update", "if_version", "upsert"))


class Documents:
    """The handlers, over one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def routes(self) -> list[Route]:
        """The paths that they serve."""
        one, many = "/v1/collections/{collection}/documents/{key:path}", "/v1/collections/{collection}"
        return [
            # the most frequent first: routes are tried in turn
            Route(one, self.get, methods=["GET"]),
            Route(one, self.put, methods=["PUT"]),
            Route(one, self.update, methods=["PATCH"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route("/v1/collections", self.collections, methods=["GET"]),
            Route(f"{many}/documents", self.page, methods=["GET"]),
            Route(f"{many}/documents", self.insert, methods=["POST"]),
            Route(f"{many}/_find", self.find, methods=["POST"]),
            Route(f"{many}/_count", self.count, methods=["POST"]),
            Route(f"{many}/_distinct", self.distinct, methods=["POST"]),
            Route(f"{many}/_aggregate", self.aggregate, methods=["POST"]),
            Route(f"{many}/_bulk", self.bulk, methods=["POST"]),
            Route("/v1/_batch", self.batch, methods=["POST"]),
        ]

    async def collections(self, request: Request) -> Response:
        """Names of the collections that ever had a document here, a page at a time: ``limit``, ``after``."""
        limit = number(request, "limit", PAGE_DOCUMENTS_MAX, PAGE_DOCUMENTS_MAX) or 0
        after = request.query_params.get("after", "")
        names = [name for name in sorted(await self._db.collections()) if name > after]
        page = names[:limit]
        return answer({"collections": page, "after": page[-1] if page and len(names) > limit else None})

    async def get(self, request: Request) -> Response:
        """One document, with its version as ``ETag``; 304 where ``If-None-Match`` names that, or is ``*``."""
        collection, key = _place(request)
        document = await self._db[collection].get(key)
        if document is None or document.version is None:
            raise NotFoundError(f"no document {key!r:.80} in {collection}")
        tag = etag(document.version)
        if is_known(request, tag):
            return Response(status_code=304, headers={"ETag": tag})
        return answer(document, headers={"ETag": tag})

    async def put(self, request: Request) -> Response:
        """Store a document whole; 201 where ``If-None-Match: *`` says that there must be none."""
        collection, key = _place(request)
        version = await self._acked(request, collection).replace(
            key,
            await object_of(request, "the document"),
            if_version=expected(request),
            request=request.headers.get("idempotency-key"),
        )
        return _written(version, 201 if "if-none-match" in request.headers else 200)

    async def insert(self, request: Request) -> Response:
        """Store a document under a new key; ``Location`` tells it. ``Idempotency-Key`` makes the key."""
        collection, named = request.path_params["collection"], request.headers.get("idempotency-key")
        fields, key = await object_of(request, "the document"), named and named_key(named)
        made = await self._acked(request, collection).insert(fields, key=key, request=named)
        assert made.version is not None
        place = f"/v1/collections/{collection}/documents/{quote(made.key, safe='')}"
        return answer(
            {"key": made.key, "version": version_text(made.version)},
            201,
            {"Location": place, "ETag": etag(made.version)},
        )

    async def update(self, request: Request) -> Response:
        """Change a document by operators, such as ``{"$inc": {"n": 1}}``."""
        collection, key = _place(request)
        version = await self._acked(request, collection).update(
            key,
            await object_of(request, "the update"),
            if_version=expected(request),
            upsert=request.query_params.get("upsert") == "true",
            request=request.headers.get("idempotency-key"),
        )
        if version is None:
            raise NotFoundError(f"no document {key!r:.80} in {collection}", hint="?upsert=true makes one")
        return _written(version)

    async def delete(self, request: Request) -> Response:
        """Delete a document."""
        collection, key = _place(request)
        version = await self._acked(request, collection).delete(
            key, if_version=expected(request), request=request.headers.get("idempotency-key")
        )
        if version is None:
            raise NotFoundError(f"no document {key!r:.80} in {collection}")
        return Response(status_code=204, headers={"ETag": etag(version)})

    async def page(self, request: Request) -> Response:
        """Documents that match ``filter`` (JSON), a page at a time: ``sort``, ``limit``, ``after``."""
        sort = request.query_params.get("sort")
        how = {
            "sort": sort.split(",") if sort else None,
            "limit": number(request, "limit", PAGE_DOCUMENTS, PAGE_DOCUMENTS_MAX),
            "after": request.query_params.get("after"),
        }
        return await self._found(request, object_in_query(request, "filter"), how)

    async def find(self, request: Request) -> Response:
        """The same with all that ``find`` takes, in the body; ``after`` of the answer goes on."""
        wanted = await _query(request, "filter", "sort", "limit", "skip", "after", "fields", "collation")
        limit = wanted.get("limit", PAGE_DOCUMENTS)
        if type(limit) is not int or not 0 <= limit <= PAGE_DOCUMENTS_MAX:
            raise InvalidError(f"limit is a whole number from 0 to {PAGE_DOCUMENTS_MAX}")
        return await self._found(request, wanted.pop("filter", None), {**wanted, "limit": limit})

    async def count(self, request: Request) -> Response:
        """How many documents match."""
        wanted = await _query(request, "filter", "collation")
        return answer({"count": await self._collection(request).count(**wanted)})

    async def distinct(self, request: Request) -> Response:
        """The different values at ``path`` of the documents that match."""
        wanted = await _query(request, "path", "filter", "collation")
        return answer({"values": await self._collection(request).distinct(wanted.pop("path", ""), **wanted)})

    async def aggregate(self, request: Request) -> Response:
        """The rows of a ``pipeline``."""
        wanted = await _query(request, "pipeline", "collation")
        rows = await self._collection(request).aggregate(wanted.pop("pipeline", []), **wanted)
        return answer({"rows": rows})

    async def bulk(self, request: Request) -> Response:
        """Store many documents of one collection: ``{"documents": {KEY: DOCUMENT}, "atomic": false}``."""
        wanted = await object_of(request, "the documents", MANY_BYTES_MAX)
        _refuse_others(wanted, frozenset(("documents", "atomic")), "the body")
        documents = wanted.get("documents")
        if not isinstance(documents, dict):
            raise InvalidError("documents is an object: key, document")
        target = self._acked(request, request.path_params["collection"])
        named = request.headers.get("idempotency-key")
        stored = await target.put_many(documents, atomic=wanted.get("atomic") is True, request=named)
        return answer({"stored": stored})

    async def batch(self, request: Request) -> Response:
        """Writes to several collections as one transaction: ``{"writes": [{"op": "put", ...}, ...]}``."""
        wanted = await object_of(request, "the batch", MANY_BYTES_MAX)
        _refuse_others(wanted, frozenset(("writes",)), "the batch")
        writes = wanted.get("writes")
        if not isinstance(writes, list) or not writes:
            raise InvalidError("writes is a list of at least one write")
        how, named = _ack(request), request.headers.get("idempotency-key")
        async with self._db.batch(request=named, **how) as batch:
            for at, write in enumerate(writes):
                _gather(batch, write, f"writes[{at}]", named and f"{at} {named}")
        return answer({"versions": [None if one is None else version_text(one) for one in batch.versions]})

    async def _found(self, request: Request, filter: Any, how: dict[str, Any]) -> Response:
        found = self._collection(request).find(filter, **how)
        rows = [_row(document) async for document in found]
        after = found.cursor if rows and len(rows) == how["limit"] else None
        return answer({"documents": rows, "after": after})

    def _collection(self, request: Request) -> Collection:
        return self._db[request.path_params["collection"]]

    def _acked(self, request: Request, collection: str) -> Collection:
        how = _ack(request)
        return self._db[collection].with_ack(how["ack"], how["ack_timeout"]) if how else self._db[collection]


def _row(document: Document) -> dict[str, Any]:
    version = document.version
    return {
        "key": document.key,
        "version": None if version is None else version_text(version),
        "document": document,
    }


async def _query(request: Request, *known: str) -> dict[str, Any]:
    """A query in the body, with these fields and no others; null is absent. Raises InvalidError."""
    wanted = await object_of(request, "the query")
    _refuse_others(wanted, frozenset(known), "the query")
    return {name: value for name, value in wanted.items() if value is not None}


def _place(request: Request) -> tuple[str, str]:
    return request.path_params["collection"], request.path_params["key"]


def _written(version: Version, status: int = 200) -> Response:
    return answer({"version": version_text(version)}, status, {"ETag": etag(version)})


def _ack(request: Request) -> dict[str, Any]:
    """``ack`` and ``ack_timeout`` of the query; empty where there is no ``ack``."""
    ack = request.query_params.get("ack")
    if ack is None:
        return {}
    seconds = number(request, "ack_timeout", 10, 300)
    return {"ack": read_ack(ack), "ack_timeout": float(seconds or 0)}


def _refuse_others(wanted: dict[str, Any], known: frozenset[str], what: str) -> None:
    others = wanted.keys() - known
    if others:
        raise InvalidError(f"{what} has {min(others)!r:.80}", hint=f"known: {', '.join(sorted(known))}")


def _gather(batch: Any, write: Any, what: str, named: str | None) -> None:
    """One write of a batch; ``named``: of what a key is made. Raises InvalidError that names its place."""
    if not isinstance(write, dict):
        raise InvalidError(f"{what} is not an object")
    _refuse_others(write, _WRITE, what)
    op, collection, key = (write.get(name) for name in ("op", "collection", "key"))
    if not isinstance(collection, str) or not (isinstance(key, str) or (op == "insert" and key is None)):
        raise InvalidError(f"{what} has no collection and key")
    version = write.get("if_version")
    if version is not None and not isinstance(version, str):
        raise InvalidError(f"{what}.if_version is no text")
    if version is not None and op == "insert":
        raise InvalidError(f"{what}.if_version: an insert meets no version", hint="put")
    stands = None if version is None else read_condition(version, f"{what}.if_version")
    target = batch[collection]
    if op in ("put", "insert") and not isinstance(write.get("document"), dict):
        raise InvalidError(f"{what}.document is no object")
    match op:
        case "put":
            target.replace(key, write["document"], if_version=stands)
        case "insert":
            target.insert(write["document"], key=named_key(named) if key is None and named else key)
        case "update":
            target.update(key, write.get("update"), if_version=stands, upsert=write.get("upsert") is True)
        case "delete":
            target.delete(key, if_version=stands)
        case _:
            raise InvalidError(f"{what}.op is {op!r:.40}", hint="put, insert, update or delete")
