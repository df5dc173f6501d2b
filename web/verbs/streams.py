"""Whole collections and the whole node by HTTP, as streams: import, export, backup.

Each runs in a thread, piece by piece, at the pace of the slower side: nothing is held in memory but a piece.
"""

from __future__ import annotations

import asyncio
import io
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from entgldb.client.database import Database as Blocking
from entgldb.client.streams.lines import KEY_FIELD, Lines, exported
from entgldb.client.streams.tabular import Rows, Writer, columns
from entgldb.client.upkeep.backup import copied
from entgldb.client.upkeep.tracing import CALL
from entgldb.messages.errors import BusyError, EntglError, InvalidError
from entgldb.messages.schema import Json
from entgldb.web.bodies import answer, object_in_query, text_of_json

if TYPE_CHECKING:
    from entgldb.client.aio.database import Database

IMPORTS_MAX: Final = 2
"""Imports at one time: each has a thread and a connection to the node."""
EXPORTS_MAX: Final = 16
DOWNLOADS_MAX: Final = 2
"""Backups that are sent at one time: each takes the room of the database on the disk."""
PIECE_BYTES: Final = 64 * 1024
HOW: Final = "key, format, delimiter and typed of the query say how the body is read"


class Streams:
    """The handlers, over one database."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._imports = list[_Import]()
        self._exports = self._downloads = 0
        self._copying = False

    def routes(self) -> list[Route]:
        """The paths that they serve."""
        collection = "/v1/collections/{collection}"
        return [
            Route(f"{collection}/_import", self.import_, methods=["POST"]),
            Route("/v1/imports", self.imports, methods=["GET"]),
            Route(f"{collection}/_export", self.export, methods=["GET"]),
            Route("/v1/backup", self.backup, methods=["GET"]),
        ]

    async def import_(self, request: Request) -> Response:
        """Store each line (JSON Lines), or each row (CSV), as a document, while the body comes.

        A fault names its line, and how many documents are stored before it.
        """
        if len(self._imports) >= IMPORTS_MAX:
            raise BusyError(f"{IMPORTS_MAX} imports are under way", hint="try again later")
        how, body = _how(request), _Body(request)
        work = _Import(request.path_params["collection"], body)
        self._imports.append(work)
        try:
            stored = await asyncio.to_thread(work.store, self._db.directory, how)
        finally:
            self._imports.remove(work)
            body.end()
        return answer({"stored": stored, "seconds": work.seconds})

    async def imports(self, request: Request) -> Response:
        """The imports that are under way: how many bytes of the body have come, and documents been read."""
        return answer({"imports": [work.told() for work in self._imports]})

    async def export(self, request: Request) -> Response:
        """All documents that match ``filter``, by key, as JSON Lines or with ``format=csv`` as CSV."""
        if self._exports >= EXPORTS_MAX:
            raise BusyError(f"{EXPORTS_MAX} exports are under way", hint="try again later")
        name, filter = request.path_params["collection"], object_in_query(request, "filter")
        tabular, delimiter = _how(request)["tabular"], _how(request)["delimiter"]
        found = self._db.blocking[name].find(filter)  # refuses a filter that is none before the answer begins
        if tabular:
            self._exports += 1  # all documents are read for the names of the columns
            try:
                fields = await asyncio.to_thread(columns, found)
            finally:
                self._exports -= 1
            pieces = _rows(self._db.blocking, name, filter, fields, delimiter)
        else:
            pieces = _lines(self._db.blocking, name, filter)
        headers = {"Content-Disposition": f'attachment; filename="{name}.{"csv" if tabular else "jsonl"}"'}
        kind = "text/csv; charset=utf-8" if tabular else "application/jsonl"
        return StreamingResponse(self._sent(pieces), media_type=kind, headers=headers)

    async def _sent(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        self._exports += 1
        try:
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield piece
        finally:
            self._exports -= 1

    async def backup(self, request: Request) -> Response:
        """This node as one file, as ``entgldb backup`` makes it: checked before the first byte is sent."""
        if self._copying or self._downloads >= DOWNLOADS_MAX:
            raise BusyError("another backup is under way", hint="try again later")
        self._copying = True
        try:
            made = await asyncio.to_thread(copied, self._db.directory)
        finally:
            self._copying = False
        digest = b64encode(bytes.fromhex(made.manifest.sha256)).decode()
        headers = {
            "Content-Length": str(made.size),
            "Content-Disposition": f'attachment; filename="{made.manifest.node_id}.db"',
            "Repr-Digest": f"sha-256=:{digest}:",
            "Cache-Control": "no-store",
        }
        sent = self._downloaded(made.file)
        return StreamingResponse(sent, media_type="application/vnd.sqlite3", headers=headers)

    async def _downloaded(self, file: BinaryIO) -> AsyncIterator[bytes]:
        self._downloads += 1
        try:
            with file:
                while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                    yield piece
        finally:
            self._downloads -= 1


class _Body(io.RawIOBase):
    """The body of a request as a file for a thread, which waits for the loop to bring the next piece."""

    def __init__(self, request: Request) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces = request.stream()
        self._piece = memoryview(b"")
        self._awaited: Any = None
        self._over = False
        self.come = 0
        """Bytes that were read from it."""
        length = request.headers.get("content-length", "")
        self.size = int(length) if length.isdecimal() else None
        """Bytes in all, where the client has said that."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._piece:
            if self._over:
                raise EntglError("the import was cut off")
            self._awaited = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            piece = self._awaited.result()
            if piece is None:
                return 0
            self._piece = memoryview(piece)
        taken = self._piece[: len(buffer)]
        buffer[: len(taken)] = taken
        self._piece = self._piece[len(taken) :]
        self.come += len(taken)
        return len(taken)

    async def _next(self) -> bytes | None:
        try:
            return await anext(self._pieces, None)
        except ClientDisconnect:
            raise EntglError("the client has gone before the end of the body") from None

    def end(self) -> None:
        """The request is over: a thread that still waits is let go."""
        self._over = True
        if self._awaited is not None:
            self._awaited.cancel()


class _Import:
    """One import, and how far it has come."""

    def __init__(self, collection: str, body: _Body) -> None:
        self._collection, self._body = collection, body
        self._begun, self._name = time.monotonic(), CALL.get()
        self._documents = 0

    @property
    def seconds(self) -> float:
        """Since it began."""
        return round(time.monotonic() - self._begun, 3)

    def told(self) -> dict[str, Json]:
        """One element of ``imports``."""
        return {
            "request": self._name,
            "collection": self._collection,
            "documents": self._documents,
            "bytes": self._body.come,
            "of_bytes": self._body.size,
            "seconds": self.seconds,
        }

    def store(self, directory: Path, how: dict[str, Any]) -> int:
        """In a thread: how many documents were stored. Raises an error that says what stands."""
        file, collection = io.BufferedReader(self._body, PIECE_BYTES), self._collection
        read: Lines | Rows
        if how["tabular"]:
            csv = {"delimiter": how["delimiter"], "typed": how["typed"]}
            read = Rows(file, "the body", how["key"], collection, **csv)
        else:
            read = Lines(file, "the body", how["key"], collection)
        try:
            # a connection of its own: it keeps nobody else waiting
            with Blocking(directory) as db:
                return db[collection].put_many(self._counted(read))
        except EntglError as fault:
            fault.text = f"{fault.text.removesuffix('.')}; {read.given.stored(fault.stored)}"
            fault.hint = HOW if "entgldb import" in fault.hint else fault.hint
            raise

    def _counted(self, read: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
        for one in read:
            self._documents += 1
            yield one


def _how(request: Request) -> dict[str, Any]:
    """The query of an import or export. Raises InvalidError."""
    query = request.query_params
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    form = query.get("format") or ("csv" if kind == "text/csv" else "jsonl")
    delimiter, typed = query.get("delimiter", ","), query.get("typed", "false")
    delimiter = "\t" if delimiter == "tab" else delimiter
    if form not in ("jsonl", "csv"):
        raise InvalidError(f"format={form!r:.40}", hint="jsonl or csv")
    if len(delimiter) != 1 or delimiter in '\r\n"\0' or not delimiter.isascii():
        raise InvalidError(f"delimiter={delimiter!r:.40} is not one character", hint="tab, or such as ;")
    if typed not in ("true", "false"):
        raise InvalidError(f"typed={typed!r:.40}", hint="true or false")
    return {
        "tabular": form == "csv",
        "key": query.get("key") or KEY_FIELD,
        "delimiter": delimiter,
        "typed": typed == "true",
    }


def _lines(db: Blocking, name: str, filter: Any) -> Iterator[bytes]:
    piece = bytearray()
    for document in db[name].find(filter):
        piece += text_of_json(exported(document.key, document)).encode() + b"\n"
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def _rows(db: Blocking, name: str, filter: Any, fields: list[str], delimiter: str) -> Iterator[bytes]:
    text = io.StringIO(newline="")
    writer = Writer(text, fields, delimiter)
    for document in db[name].find(filter):
        writer.write(document.key, document)
        if text.tell() >= PIECE_BYTES:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()
