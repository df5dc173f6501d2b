"""From documents to the writes of a commit, for both APIs: checked before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from entgldb.messages.client import CommitDone, Write
from entgldb.messages.errors import EntglError, InvalidError, TooLargeError
from entgldb.messages.limits import BODY_BYTES_MAX
from entgldb.messages.model import Version
from entgldb.messages.schema import Message

PART_DOCUMENTS: Final = 500
"""Documents of ``put_many`` that are one transaction."""
PART_BYTES: Final = 1024 * 1024
"""Bodies of one such transaction; with one more document it still fits a frame."""

Many = Mapping[str, Mapping[str, Any]] | Iterable[tuple[str, Any]]


def put(collection: str, key: str, document: Mapping[str, Any]) -> Write:
    """One document as the bytes that will travel unchanged to the last replica.

    Raises InvalidError for what is no JSON object, TooLargeError.
    """
    if not isinstance(document, Mapping):
        raise InvalidError(f"document {key!r:.80} is a {type(document).__name__}, not a JSON object")
    try:
        text = json.dumps(dict(document), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        body = text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as fault:
        raise InvalidError(f"document {key!r:.80} is not JSON: {fault}") from None
    if len(body) > BODY_BYTES_MAX:
        raise TooLargeError(f"document {key!r:.80} has {len(body)} bytes, {BODY_BYTES_MAX} allowed")
    return Write(collection, key, body)


def parts(collection: str, documents: Many) -> Iterator[tuple[Write, ...]]:
    """Many documents, cut into transactions."""
    pairs = documents.items() if isinstance(documents, Mapping) else documents
    part: list[Write] = []
    size = 0
    for key, document in pairs:
        write = put(collection, key, document)
        bytes_more = len(write.body or b"")
        if part and (len(part) == PART_DOCUMENTS or size + bytes_more > PART_BYTES):
            yield tuple(part)
            part, size = [], 0
        part.append(write)
        size += bytes_more
    if part:
        yield tuple(part)


def versions(answer: Message) -> list[Version | None]:
    """The versions a commit made; None where a delete met nothing."""
    if not isinstance(answer, CommitDone):
        raise EntglError(f"the node answered {answer} to a commit", definite=False)
    return [written.version if written.seq else None for written in answer.written]
