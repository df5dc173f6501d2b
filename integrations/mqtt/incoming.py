"""A message becomes a write, or a count that says why not."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from entgldb.client.database import Change, Database
from entgldb.integrations.mqtt.routes import In
from entgldb.messages.errors import EntglError, ErrorCode, InvalidError
from entgldb.messages.limits import BODY_BYTES_MAX
from entgldb.messages.model import Version
from entgldb.messages.strict_json import read_object

REMEMBERED_MAX: Final = 10_000
"""Writes of which it is known that they came from the broker. A forgotten one goes out once more, and ends as
unchanged."""
_NEVER: Final = (ErrorCode.INVALID, ErrorCode.TOO_LARGE, ErrorCode.NOT_ALLOWED, ErrorCode.UNSUPPORTED)
"""A write that is refused so is refused whenever it is tried."""


class MalformedError(Exception):
    """A message that will never be a document; the text says why."""


class Writer:
    """Writes what messages say."""

    def __init__(self, db: Database, routes: Sequence[In], cluster: str) -> None:
        """``cluster``: whose own messages are left out."""
        self._db, self._routes, self._cluster = db, routes, cluster
        self._lock = threading.Lock()
        self._written: OrderedDict[tuple[str, str], tuple[Version, str]] = OrderedDict()
        """Version and topic of what was written last, by place; the oldest are forgotten."""

    def take(self, topic: str, payload: bytes, clusters: Sequence[str]) -> str:
        """The fate of a message: ``written``, ``deleted``, ``unchanged``, or ``own``.

        ``clusters``: those that say they have published it. A message of this very cluster is not written: it
        comes by replication, perhaps newer by now. Raises MalformedError, and EntglError where it is to be
        tried again.
        """
        if self._cluster in clusters:
            return "own"
        try:
            with self._lock:
                return self._write(topic, payload)
        except EntglError as fault:
            if fault.code in _NEVER:
                raise MalformedError(fault.text) from fault
            raise

    def came_from(self, change: Change) -> str:
        """The topic whose message has made this very version, as far as it is remembered, or empty."""
        with self._lock:  # the feed may tell of a write before its answer has been read
            version, topic = self._written.get((change.collection, change.key), (None, ""))
        return topic if version == change.version else ""

    def _write(self, topic: str, payload: bytes) -> str:
        collection, key = self._place(topic)
        there = self._db[collection].get(key)
        if not payload:
            if there is None:
                return "unchanged"
            self._remember(collection, key, self._db[collection].delete(key), topic)
            return "deleted"
        if len(payload) > BODY_BYTES_MAX:
            raise MalformedError(f"{len(payload)} bytes are more than a document has, {BODY_BYTES_MAX}")
        try:
            text = payload.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise MalformedError("it is no UTF-8") from None
        found = read_object(text, "it")
        # a broker sends again what was not acknowledged, and two bridges may hear the same
        if there is not None and dict(there) == found:
            return "unchanged"
        self._remember(collection, key, self._db[collection].put(key, found), topic)
        return "written"

    def _remember(self, collection: str, key: str, version: Version | None, topic: str) -> None:
        if version is not None:
            self._written[(collection, key)] = version, topic
            self._written.move_to_end((collection, key))
        if len(self._written) > REMEMBERED_MAX:
            self._written.popitem(last=False)

    def _place(self, topic: str) -> tuple[str, str]:
        for route in self._routes:
            key = route.topic.key(topic)
            if key is not None:
                return route.collection, key
        raise InvalidError("no topic of the configuration is like it")
