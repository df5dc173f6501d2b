"""The description of the interface for other programs: OpenAPI 3.1, made of the routes themselves.

The path, method and summary of each operation are those of its route and handler; this module adds what a
route does not say: parameters, bodies, answers.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from entgldb._version import VERSION
from entgldb.messages.limits import (
    COUNT_MAX,
    GROUP_ENTRIES_MAX,
    INVITATION_MINUTES_MAX,
    INVITATION_MINUTES_MIN,
    KEY_BYTES_MAX,
    NAME_CHARS_MAX,
    SECRET_OVERLAP_MS_MAX,
)
from entgldb.web.bodies import SKIP_MAX, answer
from entgldb.web.problems import MEDIA_TYPE
from entgldb.web.verbs.documents import PAGE_DOCUMENTS_MAX

Schema = dict[str, Any]
_TEXT: Final[Schema] = {"type": "string"}
_OBJECT: Final[Schema] = {"type": "object"}
_FLAG: Final[Schema] = {"type": "boolean"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": COUNT_MAX}
_VERSION: Final[Schema] = {"type": "string", "description": "ORIGIN:SEQ"}
_CONDITION: Final[Schema] = {"type": "string", "description": "ORIGIN:SEQ, or *: any version"}
_FILTER: Final[Schema] = {"type": "object", "description": "docs/queries.md"}
_SORT: Final[Schema] = {"type": ["string", "array", "null"], "items": _TEXT}


def _closed(required: Iterable[str] = (), **properties: Schema) -> Schema:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_LIMIT: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": PAGE_DOCUMENTS_MAX}
_ROW: Final = _closed(("key", "document"), key=_TEXT, version=_VERSION, document=_OBJECT)
_CURSOR: Final[Schema] = {"type": ["string", "null"]}
_PAGE: Final = _closed(("documents", "after"), documents=_array(_ROW), after=_CURSOR)
_WRITTEN: Final = _closed(("version",), version=_VERSION)
_CHANGED: Final = _closed(("changed",), changed={"type": "boolean"})
_WRITE: Final = _closed(
    ("op", "collection"),
    op={"enum": ["put", "insert", "update", "delete"]},
    collection=_TEXT,
    key=_TEXT,
    document=_OBJECT,
    update=_OBJECT,
    if_version=_CONDITION,
    upsert={"type": "boolean"},
)
_INVITED: Final[dict[str, Schema]] = {
    "state": {"enum": ["none", "open", "joined", "ended"]},
    "node_id": _TEXT,
    "reason": _TEXT,
}
_MINUTES: Final[Schema] = {
    "type": "number",
    "minimum": INVITATION_MINUTES_MIN,
    "maximum": INVITATION_MINUTES_MAX,
}
_COLLATION: Final[Schema] = {"enum": ["nocase", None]}
_QUERY: Final = _closed(
    filter=_FILTER,
    sort=_SORT,
    limit=_LIMIT,
    skip=_COUNT,
    after={"type": ["string", "null"]},
    fields={"type": ["string", "array"], "items": _TEXT},
    collation=_COLLATION,
)
_WRITES: Final = {"type": "array", "items": _WRITE, "minItems": 1, "maxItems": GROUP_ENTRIES_MAX}

BODIES: Final[dict[str, Schema]] = {
    "put": _OBJECT,
    "insert": _OBJECT,
    "update": _OBJECT,
    "find": _QUERY,
    "count": _closed(filter=_FILTER, collation=_COLLATION),
    "distinct": _closed(("path",), path=_TEXT, filter=_FILTER, collation=_COLLATION),
    "aggregate": _closed(("pipeline",), pipeline=_array(_OBJECT), collation=_COLLATION),
    "bulk": _closed(
        ("documents",),
        documents={"type": "object", "additionalProperties": _OBJECT},
        atomic={"type": "boolean"},
    ),
    "batch": _closed(("writes",), writes=_WRITES),
    "put_peer": _closed(
        ("address",),
        **dict.fromkeys(("address", "authority", "client_id", "client_secret", "audience", "ca_pem"), _TEXT),
        scopes=_array(_TEXT),
        enabled={"type": "boolean"},
        max_rate=_COUNT,
    ),
    "invite": _closed(**{"for": _TEXT}, at=_TEXT, minutes=_MINUTES),
    "rotate_secret": _closed(
        ("client_secret",),
        client_secret=_TEXT,
        overlap_seconds={
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": SECRET_OVERLAP_MS_MAX // 1000,
        },
    ),
    "resolve": _closed(("version", "take"), version=_VERSION, take={"type": ["string", "object"]}),
    "set_rule": _closed(("conflict",), conflict={"enum": ["lww", "merge"]}),
    "settle": _closed(("origin", "seq", "take"), origin=_TEXT, seq=_COUNT, take={"enum": ["retry", "drop"]}),
    "release": _closed(("origin",), origin=_TEXT),
    "heal": _closed(("origin", "keep"), origin=_TEXT, keep={"enum": ["ours", "theirs"]}),
    "verify": _closed(peer=_TEXT, repair=_FLAG),
    **dict.fromkeys(
        ("ask", "tell"),
        _closed(("message",), message=_TEXT, fields=_OBJECT, timeout={"type": "number"}),
    ),
    "create_index": _closed(
        ("paths",),
        paths={"type": ["string", "array"], "items": _TEXT},
        where=_FILTER,
        name=_TEXT,
        **dict.fromkeys(("unique", "text", "everywhere"), _FLAG),
    ),
}
"""Name of a handler -> what its requests bring."""
ANSWERS: Final[dict[str, dict[int, Schema | None]]] = {
    "collections": {200: _closed(("collections", "after"), collections=_array(_TEXT), after=_CURSOR)},
    "get": {200: _OBJECT, 304: None},
    "put": {200: _WRITTEN, 201: _WRITTEN},
    "insert": {201: _closed(("key", "version"), key=_TEXT, version=_VERSION)},
    "update": {200: _WRITTEN},
    "delete": {204: None},
    "page": {200: _PAGE},
    "find": {200: _PAGE},
    "count": {200: _closed(("count",), count=_COUNT)},
    "distinct": {200: _closed(("values",), values=_array({}))},
    "aggregate": {200: _closed(("rows",), rows=_array(_OBJECT))},
    "bulk": {200: _closed(("stored",), stored=_COUNT)},
    "batch": {200: _closed(("versions",), versions=_array({"type": ["string", "null"]}))},
    "status": {200: _OBJECT},
    "nodes": {200: _closed(("nodes",), nodes=_array(_OBJECT))},
    "retire": {200: _CHANGED},
    "members": {200: _closed(("members", "secrets"), members=_array(_OBJECT), secrets=_array(_OBJECT))},
    "rotate_key": {200: _CHANGED},
    "rotate_secret": {200: _CHANGED},
    "expel": {200: _CHANGED},
    "invited": {200: _closed(("state",), **_INVITED)},
    "invite": {201: _closed(("state", "code", "qr"), **_INVITED, code=_TEXT, qr=_TEXT)},
    "withdraw": {204: None},
    "peers": {200: _closed(("peers",), peers=_array(_OBJECT))},
    "put_peer": {200: _CHANGED, 201: _CHANGED},
    "remove_peer": {204: None},
    "test_peer": {200: _closed(("steps",), steps=_array(_OBJECT))},
    "conflicts": {200: _closed(("conflicts", "more"), conflicts=_array(_OBJECT), more=_FLAG)},
    "imports": {200: _closed(("imports",), imports=_array(_OBJECT))},
    "import_": {200: _closed(("stored", "seconds"), stored=_COUNT, seconds={"type": "number"})},
    "ask": {200: _closed(("actor", "answer"), actor=_TEXT, answer=_OBJECT)},
    "tell": {202: _closed(("actor", "sent"), actor=_TEXT, sent=_TEXT)},
    "resolve": {200: _closed(("version",), version={"type": ["string", "null"]})},
    "history": {200: _closed(("versions", "endings"), versions=_array(_OBJECT), endings=_array(_OBJECT))},
    "undelete": {200: _WRITTEN},
    "why": {200: _OBJECT},
    "quarantine": {200: _closed(("quarantine",), quarantine=_array(_OBJECT))},
    "settle": {204: None},
    "held": {200: _closed(("held",), held=_array(_OBJECT))},
    "release": {200: _closed(("released",), released=_COUNT)},
    "forks": {200: _closed(("forks",), forks=_array(_OBJECT))},
    "audit": {200: _closed(("rows",), rows=_array(_OBJECT))},
    "heal": {200: _CHANGED},
    "verified": {200: _closed(("peers",), peers=_array(_OBJECT))},
    "verify": {202: _closed(("runs",), runs=_OBJECT)},
    "rule": {200: _closed(("conflict",), conflict=_TEXT)},
    "set_rule": {200: _CHANGED},
    "indexes": {200: _closed(("indexes",), indexes=_array(_OBJECT))},
    "create_index": {201: _closed(("name",), name=_TEXT)},
    "drop_index": {204: None},
    "healthz": {200: _closed(("status",), status={"const": "ok"})},
    "readyz": {
        200: _closed(("status",), status={"const": "ok"}),
        503: _closed(("status", "why"), status=_TEXT, why=_TEXT),
    },
}
"""Name of a handler -> status -> JSON of the answer; None: it has no body."""
_WRITE_OPTIONS: Final = ("ack", "ack_timeout", "Idempotency-Key")
_ONE: Final = (*_WRITE_OPTIONS, "If-Match", "If-None-Match")
OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "get": ("If-Match", "If-None-Match"),
    "put": _ONE,
    "insert": _WRITE_OPTIONS,
    "update": (*_ONE, "upsert"),
    "delete": _ONE,
    "page": ("filter", "sort", "limit", "after"),
    "bulk": _WRITE_OPTIONS,
    "batch": _WRITE_OPTIONS,
    "conflicts": ("collection", "skip", "limit"),
    "audit": ("limit",),
    "collections": ("limit", "after"),
    "import_": ("key", "format", "delimiter", "typed"),
    "export": ("filter", "format", "delimiter"),
    "readyz": ("max_lag",),
    "changes": ("collections", "filter", "since", "Last-Event-ID"),
    "watch": ("filter", "since", "Last-Event-ID"),
    "live": ("filter", "sort", "limit"),
}
_KINDS: Final[dict[str, Schema]] = {
    "ack_timeout": {"type": "integer", "minimum": 0, "maximum": 300},
    "limit": _LIMIT,
    "skip": {"type": "integer", "minimum": 0, "maximum": SKIP_MAX},
    "upsert": {"enum": ["true", "false"]},
    "If-Match": {"type": "string", "description": "the ETag of the version that must stand, or *: of any"},
    "If-None-Match": {"type": "string", "description": "*: there must be none; GET takes ETags, too"},
    "max_lag": {"type": "number", "minimum": 0},
    "collection": {"type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX},
    "key": {"type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX},
}
_IN_PATHS: Final = ("collection", "key", "node", "name", "actor")
_STREAMED: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("changes", "watch", "live"), ("text/event-stream",)),
    "export": ("application/jsonl", "text/csv"),
    "backup": ("application/vnd.sqlite3",),
}
_HEADERS: Final = frozenset(("If-Match", "If-None-Match", "Idempotency-Key", "Last-Event-ID"))
_IN_JSON: Final = frozenset(("filter",))


class Description:
    """The handler, over the routes of all parts."""

    def __init__(self, routes: list[Route]) -> None:
        self._body = described(routes)

    def routes(self) -> list[Route]:
        """The path that it serves."""
        return [Route("/v1/openapi.json", self.describe, methods=["GET"])]

    async def describe(self, request: Request) -> Response:
        """This description."""
        return answer(self._body)


def described(routes: Iterable[Route]) -> Schema:
    """The whole description."""
    paths: dict[str, Schema] = {}
    for route in routes:
        path = route.path.replace(":path}", "}")
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(path, {})[method.lower()] = _operation(route, path)
    problem = _closed(
        ("type", "title", "status", "detail", "code"),
        **dict.fromkeys(("type", "title", "detail", "code", "hint"), _TEXT),
        status={"type": "integer"},
        definite={"type": "boolean", "description": "false: it may have been done all the same"},
        key={"type": "string", "description": "of the document that was made"},
        stored={"type": "integer", "description": "documents of many that were stored"},
        **dict.fromkeys(("versions", "durable", "missing"), _array(_TEXT)),
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "EntglDB", "version": VERSION, "license": {"name": "MIT", "identifier": "MIT"}},
        "paths": paths,
        "components": {
            "schemas": {"Problem": problem},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"bearer": []}],
    }


def _operation(route: Route, path: str) -> Schema:
    name = route.name
    made: Schema = {
        "operationId": "list" if name == "page" else name.rstrip("_"),
        "summary": (inspect.getdoc(route.endpoint) or "").split("\n\n")[0].replace("\n", " "),
        "parameters": [_parameter(one, "path") for one in _IN_PATHS if f"{{{one}}}" in path],
        "responses": {str(status): _answered(body) for status, body in ANSWERS.get(name, {}).items()},
    }
    made["parameters"] += [
        _parameter(one, "header" if one in _HEADERS else "query") for one in OPTIONS.get(name, ())
    ]
    if name in _STREAMED:
        made["responses"]["200"] = {
            "description": "a stream",
            "content": {kind: {} for kind in _STREAMED[name]},
        }
    if name == "import_":
        made["requestBody"] = {"required": True, "content": {"application/jsonl": {}, "text/csv": {}}}
    if name in BODIES:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": BODIES[name]}}}
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    made["responses"]["default"] = {"description": "a problem", "content": {MEDIA_TYPE: problem}}
    return made


def _parameter(name: str, where: str) -> Schema:
    made: Schema = {"name": name, "in": where}
    if where == "path":
        made["required"] = True
    if name in _IN_JSON:
        return made | {"content": {"application/json": {"schema": _FILTER}}}
    return made | {"schema": _KINDS.get(name, _TEXT)}


def _answered(body: Schema | None) -> Schema:
    if body is None:
        return {"description": "done"}
    return {"description": "done", "content": {"application/json": {"schema": body}}}
