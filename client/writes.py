"""From documents to the writes of a commit, for both APIs: checked before anything is sent."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from entgldb.messages.client import Base, CommitDone, RequestId, Write, Written
from entgldb.messages.errors import EntglError, InvalidError, NoAnswerError, TooLargeError
from entgldb.messages.limits import (
    BASE_BYTES_MAX,
    BODY_BYTES_MAX,
    GROUP_BYTES_MAX,
    GROUP_ENTRIES_MAX,
    KEY_BYTES_MAX,
    LIFE_MS_MAX,
)
from entgldb.messages.model import Version, check_key
from entgldb.messages.schema import Json, Message
from entgldb.messages.strict_json import check_names, check_value, no_json
from entgldb.storage.documents.reading import Read, parsed

PART_DOCUMENTS: Final = 500
"""Documents of ``put_many`` that are one transaction."""
PART_BYTES: Final = 1024 * 1024
"""Bodies of one such transaction; with one more document it still fits a frame."""

_text_of: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
"""As ``json.dumps``, which makes an encoder at each call: a quarter of its time for a small document."""
_REQUEST: Final = re.compile(r"([0-9a-f]{32}):([0-9]{1,15})")

Many = Mapping[str, Mapping[str, Any]] | Iterable[tuple[str, Any]]


class Document(dict[str, Json]):
    """A JSON object that knows its ``key`` and the ``version`` that was read.

    Changed and put again where collections merge, only the changes are written: changes that others have
    made meanwhile stay. ``copy`` and ``|`` keep that; ``dict(document)`` and ``{**document}`` make an
    ordinary object, which is put whole.
    """

    __slots__ = ("_read", "collection", "key")

    def __init__(
        self, key: str, fields: Mapping[str, Json], *, collection: str = "", read: Read | None = None
    ) -> None:
        super().__init__(fields)
        self.collection = collection
        self.key = key
        self._read = read

    @property
    def version(self) -> Version | None:
        """The newest version of what was read or last put; None for what never was."""
        return None if self._read is None else self._read.version

    @property
    def snippet(self) -> str | None:
        """A piece of it with the words that ``$text`` asked for, marked; None where no ``highlight`` was."""
        found: str | None = getattr(self._read, "snippet", None)
        return found

    def copy(self) -> Document:
        """Another one with the same fields, read as the same version."""
        return Document(self.key, self, collection=self.collection, read=self._read)

    def __or__(self, other: Any) -> Any:
        made = self.copy()
        made.update(other)
        return made

    def read_from(self, collection: str, key: str) -> Read | None:
        """The state in which the document was read, if it was read at that place."""
        return self._read if (self.collection, self.key) == (collection, key) else None

    def was_put(self, write: Write, version: Version) -> None:
        """It is the version ``version`` now, unless it was put as it had been read."""
        text = (write.body or b"").decode()
        read = self.read_from(write.collection, write.key)
        if read is None or json.loads(read.text) != json.loads(text):
            self.collection, self.key = write.collection, write.key
            self._read = Read(text, version)


class Excerpt(Document):
    """Some fields of a document, with the version that they were read of; it cannot be put."""

    __slots__ = ()


def document(collection: str, key: str, read: Read) -> Document:
    """A document that was read."""
    # as its __init__ does, in half the time
    made = Document.__new__(Document)
    made.update(parsed(read.text))
    made.collection, made.key, made._read = collection, key, read
    return made


class Part(NamedTuple):
    """One transaction of ``put_many``, ``update_many`` or ``delete_many``."""

    writes: tuple[Write, ...]
    documents: tuple[Mapping[str, Any], ...]

    def was_put(self, versions: list[Version | None]) -> int:
        """It is durable; how many documents it was."""
        for document, write, version in zip(self.documents, self.writes, versions, strict=True):
            if isinstance(document, Document) and version is not None:
                document.was_put(write, version)
        return sum(version is not None for version in versions)


Merges = Callable[[], bool]
"""Whether the collection merges, as far as this node knows."""


def put(
    collection: str,
    key: str,
    document: Mapping[str, Any],
    merges: Merges = lambda: False,
    expects: Written | None = None,
    life_ms: int | None = None,
) -> Write:
    """One document as the bytes that will travel unchanged to the last replica.

    With what was read where it merges. Raises InvalidError for what is no JSON object, TooLargeError.
    """
    what = f"document {check_key(key)!r:.80}"
    if not isinstance(document, Mapping):
        raise InvalidError(f"{what} is a {type(document).__name__}, not a JSON object")
    if isinstance(document, Excerpt):
        raise InvalidError(
            f"{what} was read with fields=: put, it would lose the others",
            hint="put dict(document), if these fields are to be all",
        )
    fields = dict(document)
    try:
        text = _text_of(fields)
    except (TypeError, ValueError, RecursionError) as fault:
        raise no_json(fields, what, fault) from None
    check_value(fields, text, what)
    check_names(fields, what)
    body = text.encode("utf-8")
    if len(body) > BODY_BYTES_MAX:
        raise TooLargeError(f"{what} has {len(body)} bytes, {BODY_BYTES_MAX} allowed")
    read = document.read_from(collection, key) if isinstance(document, Document) else None
    if read is None or not merges():
        return Write(collection, key, body, expects=expects, expire_after=life_ms)
    if len(read.text.encode()) > BASE_BYTES_MAX:
        raise TooLargeError(
            f"document {key!r:.80} was read with over {BASE_BYTES_MAX} bytes: its changes cannot be told",
            hint="put dict(document), which puts it whole",
        )
    versions = tuple(Written(*version) for version in read.versions())
    base = Base(versions, read.text.encode())
    return Write(collection, key, body, base, expects=expects, expire_after=life_ms)


def life(expire_after: float | None) -> int | None:
    """Seconds as the milliseconds of ``Write.expire_after``. Raises InvalidError."""
    if expire_after is None:
        return None
    if expire_after == math.inf:
        return 0
    is_number = isinstance(expire_after, int | float) and not isinstance(expire_after, bool)
    if not is_number or not 0 < expire_after <= LIFE_MS_MAX / 1000:
        raise InvalidError(
            f"expire_after is {expire_after!r:.40}",
            hint=f"seconds up to {LIFE_MS_MAX // 1000}, math.inf for a document that never expires",
        )
    return max(1, round(expire_after * 1000))


def update(
    collection: str,
    key: str,
    operators: Mapping[str, Any],
    expects: Written | None = None,
    *,
    upsert: bool = False,
    life_ms: int | None = None,
) -> Write:
    """An update, read as the node will. Raises InvalidError, TooLargeError, UnsupportedError."""
    # those who write no update need not know how one is read
    from entgldb.storage.rules.updating.parse import read_update

    try:
        plain = dict(operators) if isinstance(operators, Mapping) else operators
        text = _text_of(plain)
        data = text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as fault:
        raise no_json(plain, "an update", fault) from None
    read_update(data)
    check_names(plain, "an update")
    return Write(
        collection, check_key(key), None, expects=expects, update=data, upsert=upsert, expire_after=life_ms
    )


def whole(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """A document without what was read of it, so that it is put whole."""
    return dict(document) if isinstance(document, Document) else document


def inserted(write: Write, version: Version) -> Document:
    """The document that a write has made."""
    return document(write.collection, write.key, Read((write.body or b"").decode(), version))


def delete(collection: str, key: str, expects: Written | None = None) -> Write:
    """A delete. Raises InvalidError for what cannot be a key."""
    return Write(collection, check_key(key), None, expects=expects)


def expected(version: Version | None) -> Written | None:
    """A version given as ``if_version``. Raises InvalidError for what is none."""
    if version is None:
        return None
    if not isinstance(version, Version):
        raise InvalidError(
            f"if_version is a {type(version).__name__}, not a version", hint="use document.version"
        )
    return Written(*version)


def keyed(documents: Mapping[str, Any] | Iterable[Any], keys: list[str]) -> Iterator[tuple[str, Any]]:
    """Documents with their own keys or with new ones; the keys are added to ``keys``."""
    pairs = documents.items() if isinstance(documents, Mapping) else ((new_key(), one) for one in documents)
    for key, one in pairs:
        keys.append(key)
        yield key, one


def new_key() -> str:
    """A key that no other document has."""
    # verbs that read need no uuid
    from entgldb.client import keys

    return keys.new_key()


def refuse_unnamed(request: str | None, *, keyed: bool) -> None:
    """Raise InvalidError for a named request whose repetition would not have the same keys."""
    if request is not None and not keyed:
        raise InvalidError("a request with an id is repeated with the same keys: give them", hint="key=")


def matching(
    collection: str, filter: Mapping[str, Any], collation: str | None, operators: Mapping[str, Any] | None
) -> Callable[[list[str]], Iterator[Part]]:
    """The function that makes parts of keys: updates, or (None) deletes, of those that still match.

    Raises as ``update``.
    """
    from entgldb.storage.rules.filtering.parser import plain

    where = json.dumps([plain(filter), collation], ensure_ascii=False, separators=(",", ":")).encode()
    told = None if operators is None else update(collection, "any", operators).update
    together = max(1, min(PART_DOCUMENTS, PART_BYTES // (len(where) + len(told or b"") + KEY_BYTES_MAX)))

    def parts_of(keys: list[str]) -> Iterator[Part]:
        for start in range(0, len(keys), together):
            part = keys[start : start + together]
            writes = tuple([Write(collection, key, None, update=told, where=where) for key in part])
            yield Part(writes, ({},) * len(part))

    return parts_of


def forget_request(fault: EntglError) -> None:
    """An error of a call that finds other documents when it is repeated: no request id names it."""
    if isinstance(fault, NoAnswerError):
        fault.request, fault.hint = "", "look at the documents, then decide whether to do it again"


def request_id(text: str | None, number: int = 0) -> RequestId | None:
    """The id of the ``number``-th transaction that is done under a name; None for None.

    Raises InvalidError.
    """
    if text is None:
        return None
    if not 0 < len(text.encode("utf-8", "replace")) <= KEY_BYTES_MAX:
        raise InvalidError(f"a request id of {len(text)} characters", hint=f"use 1 to {KEY_BYTES_MAX} bytes")
    from hashlib import sha256

    made = _REQUEST.fullmatch(text)
    if made is not None:
        return RequestId(bytes.fromhex(made[1]), int(made[2]) + number)
    return RequestId(sha256(b"entgldb request " + text.encode("utf-8", "replace")).digest()[:16], number)


def parts(
    collection: str,
    documents: Many,
    merges: Merges = lambda: False,
    *,
    atomic: bool = False,
    expects: Written | None = None,
    life_ms: int | None = None,
) -> Iterator[Part]:
    """Many documents, cut into transactions; ``atomic``: not cut. Raises TooLargeError."""
    pairs = documents.items() if isinstance(documents, Mapping) else documents
    part: list[tuple[Write, Mapping[str, Any]]] = []
    size = 0
    for key, document in pairs:
        write = put(collection, key, document, merges, expects, life_ms)
        bytes_more = len(write.body or b"") + (0 if write.base is None else len(write.base.body))
        full = len(part) == PART_DOCUMENTS or size + bytes_more > PART_BYTES
        if atomic and (len(part) == GROUP_ENTRIES_MAX or size + len(write.body or b"") > GROUP_BYTES_MAX):
            raise TooLargeError(
                f"a transaction has at most {GROUP_ENTRIES_MAX} documents and {GROUP_BYTES_MAX} bytes",
                hint="put them without atomic",
            )
        if part and full and not atomic:
            yield _part(part)
            part, size = [], 0
        part.append((write, document))
        size += len(write.body or b"") if atomic else bytes_more
    if part:
        yield _part(part)


def _part(pairs: list[tuple[Write, Mapping[str, Any]]]) -> Part:
    writes, documents = zip(*pairs, strict=True)
    return Part(writes, documents)


def versions(answer: Message, asked: Sequence[Write] | None = None) -> list[Version | None]:
    """The versions a commit made; None where a delete met nothing.

    ``asked``: the writes of it. Raises InvalidError where the answer, which a request named like this one
    had, is not one to them.
    """
    if not isinstance(answer, CommitDone):
        raise EntglError(f"the node answered {answer} to a commit", definite=False)
    made = [written.version if written.seq else None for written in answer.written]
    if asked is not None and (
        len(made) != len(asked)
        or any(version is None and write.body is not None for version, write in zip(made, asked, strict=True))
    ):
        raise InvalidError("another request had this name", hint="a name of its own for each request")
    return made
