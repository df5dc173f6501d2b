"""The origins whose word counts: those with a key that the cluster's CA has attested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from entgldb.actors.ports import LogReader, Witness
from entgldb.messages.errors import ProtocolError
from entgldb.messages.limits import ORIGINS_MAX
from entgldb.messages.model import Author, Entry, Origin, node_of
from entgldb.storage.rules import vector as vectors
from entgldb.storage.rules.authorship import fits, head_statement, is_guest
from entgldb.storage.rules.ended import ended_by
from entgldb.storage.rules.header import Header, decode, digest

SUPPLIED_CHECKED_MAX = 256
"""Signatures that are checked of what one message supplies; an entry beyond is as good as unsigned."""


class Writers:
    """Looks each origin up once, for as long as the same CAs are believed: its key cannot change."""

    def __init__(self, node_id: str, witness: Witness, log: LogReader) -> None:
        self._node_id, self._witness, self._log = node_id, witness, log
        self._known: dict[Origin, Author] = {}
        self._by = frozenset[bytes]()
        """The CAs that were believed when they were looked up."""
        self._forgotten = 0

    def look(self) -> int:
        """Before each message: forget all once other CAs are believed than before. How often it has: several
        sessions look, and each that has waiting entries has to name their authors again."""
        before, self._by = self._by, self._witness.believed()
        if before != self._by:
            self._forgotten += 1
            self._known.clear()
        return self._forgotten

    def author(self, origin: Origin, named: Author | None = None) -> Author | None:
        """An origin that may write here, or None; ``named``: its author by the word of a peer."""
        found = self._known.get(origin)
        if found is None:
            kept = self._log.author(origin)
            ours = node_of(origin) == self._node_id
            if kept is not None and self._may_write(kept, trusted=ours):
                found = kept
            elif named is not None and self._may_write(named):
                found = named
            else:
                return None
            if len(self._known) >= ORIGINS_MAX:
                self._known.clear()
            self._known[origin] = found
        return found

    def by_several(self, origins: Iterable[Origin]) -> tuple[Author, ...]:
        """Those of these origins that may write here; none where one CA alone is believed, whose word they
        then have."""
        self.look()
        found = [self.author(origin) for origin in sorted(origins)] if len(self._by) > 1 else []
        return tuple(author for author in found if author is not None)

    def had(self) -> dict[Origin, int]:
        """Origin -> seq up to which our file has its log, or holds it back."""
        return vectors.covered_by_any((vectors.seqs(self._log.vector()), self._log.held()))

    def may_end(self, header: Header) -> bool:
        """Whether an entry ends no log, or one that its writer may end: a guest ends none of a member."""
        end = ended_by(header)
        if end is None:
            return True
        mine, ended = self.author(header.origin), self.author(end[0])
        return mine is None or not is_guest(mine) or ended is None or is_guest(ended)

    def has_signed(self, origin: Origin, header_hash: bytes, signature: bytes | None) -> bool:
        """Whether an origin that may write here has signed its log up to the entry with this hash."""
        author = self.author(origin)
        if author is None or signature is None:
            return False
        return self._witness.signed(author.public_key, head_statement(header_hash), signature)

    def supplied(self, entries: Iterable[Entry], named: Iterable[Author]) -> tuple[Entry, ...]:
        """Entries that were asked for one by one: those with a wrong signature are left out.

        One without a signature is good for what the file knows by its hash already, and proves nothing else.
        """
        self.look()
        authors = {author.origin: author for author in named}
        return tuple(
            one
            for number, entry in enumerate(entries)
            if (one := self._checked(entry, authors, sure=number < SUPPLIED_CHECKED_MAX)) is not None
        )

    def _checked(self, entry: Entry, named: Mapping[Origin, Author], *, sure: bool) -> Entry | None:
        try:
            origin = decode(entry.header).origin
        except ProtocolError:
            return None
        author = self.author(origin, named.get(origin)) if entry.signature and sure else None
        if author is None:
            return Entry(entry.header, entry.body)
        return entry if self.has_signed(origin, digest(entry.header), entry.signature) else None

    def _may_write(self, author: Author, *, trusted: bool = False) -> bool:
        """``trusted``: an origin of this very node as its file has it, which a cloud node cannot attest."""
        return fits(author) and (trusted or self._witness.attested(author))
