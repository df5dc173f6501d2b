"""The quotas of one tenant on a cloud node: whether a batch that would make it more is taken. Pure.

A quota may be exceeded by the batch, or the snapshot, that crosses it: only a row that was merged shows
whether it is new. From then on what makes the tenant grow is refused, and deletes go on.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Final, NamedTuple

from entgldb.messages.errors import ProtocolError, Reason
from entgldb.messages.model import Entry, Origin
from entgldb.messages.tenants import Quotas
from entgldb.storage.rules.header import DELETE, Header, decode

BURST_SECONDS: Final = 10.0
"""A tenant that has been quiet may bring the writes of so many seconds at once."""
SIZE_SECONDS: Final = 5.0
"""Between two looks at the size of its files."""


class Figures(NamedTuple):
    """How much a tenant has; asked for where a quota needs it."""

    documents: Callable[[], int]
    bytes: Callable[[], int]
    origins: Callable[[], Container[Origin]]
    count_origins: Callable[[], int]


class Gate:
    """The quotas of one open tenant. Times are in seconds of the monotonic clock."""

    def __init__(self, quotas: Quotas, now: float) -> None:
        self.quotas = quotas
        self._left = BURST_SECONDS * quotas.writes
        self._at = now
        self._bytes, self._looked_at = 0, -SIZE_SECONDS
        self.refused = 0
        """Batches that were not taken."""

    def writes_spent(self, now: float) -> bool:
        """Whether it has written more than it may by now: then its links wait."""
        rate = self.quotas.writes
        self._left = min(BURST_SECONDS * rate, self._left + rate * (now - self._at))
        self._at = now
        return rate > 0 and self._left <= 0

    def spend(self, entries: int) -> None:
        """So many were written, here or by another process that serves the tenant."""
        self._left -= entries

    def refusal(self, entries: tuple[Entry, ...], figures: Figures, now: float) -> Reason | None:
        """Why a batch is not taken, or None: then its writes are spent."""
        reason = self._refusal(entries, figures, now)
        self.refused += reason is not None
        return reason

    def _refusal(self, entries: tuple[Entry, ...], figures: Figures, now: float) -> Reason | None:
        quotas = self.quotas
        if self.writes_spent(now):
            return Reason.QUOTA_WRITES
        full = self._full(figures, now)
        if full is not None and any(_grows(entry) for entry in entries):
            return full
        if quotas.origins and figures.count_origins() >= quotas.origins:
            known = figures.origins()
            if any(header.origin not in known for header in map(_header, entries) if header is not None):
                return Reason.QUOTA_ORIGINS
        self._left -= len(entries)
        return None

    def _full(self, figures: Figures, now: float) -> Reason | None:
        quotas = self.quotas
        if quotas.documents and figures.documents() > quotas.documents:
            return Reason.QUOTA_DOCUMENTS
        if not quotas.bytes:
            return None
        if now - self._looked_at >= SIZE_SECONDS:
            self._bytes, self._looked_at = figures.bytes(), now
        return Reason.QUOTA_BYTES if self._bytes > quotas.bytes else None


def told(reason: Reason, quotas: Quotas) -> str:
    """The sentence that the gateway is told."""
    words = {
        Reason.QUOTA_DOCUMENTS: f"your tenant may have {quotas.documents} documents on this cloud node",
        Reason.QUOTA_BYTES: f"your tenant may have {quotas.bytes} bytes on this cloud node",
        Reason.QUOTA_WRITES: f"your tenant may write {quotas.writes} entries a second to this cloud node",
        Reason.QUOTA_LINKS: f"your tenant may have {quotas.links} links to this cloud node",
        Reason.QUOTA_ORIGINS: f"your tenant may have {quotas.origins} origins on this cloud node",
    }
    return words[reason]


def _header(entry: Entry) -> Header | None:
    """None of an entry that cannot be read: the store refuses that by itself."""
    try:
        return decode(entry.header)
    except ProtocolError:
        return None


def _grows(entry: Entry) -> bool:
    header = _header(entry)
    return header is not None and header.op != DELETE
