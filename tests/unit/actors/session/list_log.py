"""A log that is a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from entgldb.messages.model import Author, Entry, Vector
from entgldb.storage.authorship.cluster_keys import Rotation
from entgldb.storage.rules.results import Heard, LogRow

ME, YOU, THIRD = "me/" + "0" * 32, "you/" + "1" * 32, "third/" + "2" * 32


class ListLog:
    """A LogReader over a list of rows."""

    origin = ME

    def __init__(self) -> None:
        self.all: list[LogRow] = []
        self.authors: dict[str, Author] = {}
        self.pruned: dict[str, int] = {}
        self.set_apart: set[str] = set()
        self.held_back: dict[str, int] = {}
        self.lacks: dict[str, int] | None = None
        """What the vector covers of the configuration, and is not here."""
        self.last = 0

    def add(self, origin: str, body: bytes = b"{}", collection: str = "c", applied: bool = True) -> LogRow:
        seq = 1 + self.pruned.get(origin, 0) + sum(row.origin == origin for row in self.all)
        self.last = lsn = self.last + 1
        row = LogRow(lsn, origin, seq, b"h%d" % seq, collection, b"%d" % lsn, body, applied)
        self.all.append(row)
        return row

    def pauses(self) -> dict[str, object]:
        return {}

    def vector(self) -> Vector:
        return {row.origin: (row.seq, row.hash) for row in self.all}

    def held(self) -> dict[str, int]:
        return self.held_back

    def wants_no_more(self, named: Iterable[str] = ()) -> dict[str, int]:
        return self.held_back

    def shown_ms(self) -> int:
        return 0

    def last_lsn(self) -> int:
        return max(self.last, self.all[-1].lsn if self.all else 0)

    def first_missing(self, theirs: Mapping[str, int]) -> int:
        lacking = (row.lsn for row in self.all if row.seq > theirs.get(row.origin, 0))
        return next(lacking, self.last_lsn() + 1)

    def disputes(self, origin: str, seq: int, digest: bytes) -> bool:
        mine = {row.seq: row.hash for row in self.all if row.origin == origin}
        return mine.get(seq) != digest

    def forked(self) -> set[str]:
        return self.set_apart

    def branched(self) -> set[str]:
        return self.set_apart

    def rows(self, from_lsn: int, rows_max: int) -> list[LogRow]:
        return [row for row in self.all if row.lsn >= from_lsn][:rows_max]

    def unapplied(self, rows_max: int, after: tuple[str, int] = ("", 0)) -> list[tuple[str, int]]:
        ids = [(row.origin, row.seq) for row in self.all if not row.applied]
        return ids[ids.index(after) + 1 if after in ids else 0 :][:rows_max]

    def lacking(self) -> dict[str, int] | None:
        return self.lacks

    def rotation(self) -> Rotation | None:
        return None

    def expelled(self) -> frozenset[str]:
        return frozenset()

    def vouches(self) -> bool:
        return self.lacks is None

    def entries(self, ids: Sequence[tuple[str, int]]) -> list[Entry]:
        return [
            Entry(row.header, row.body)
            for row in self.all
            if (row.origin, row.seq) in set(ids) and row.applied
        ]

    def signed_upto(self, origin: str) -> int:
        return max((row.seq for row in self.all if row.origin == origin), default=0)

    def author(self, origin: str) -> Author | None:
        return self.authors.get(origin)

    def members(self) -> dict[str, Heard]:
        return {}

    def floors(self) -> dict[str, int]:
        return self.pruned

    def prune(self, origin: str, seq: int) -> None:
        """Forget the rows up to ``seq``, as the store does when all members have them."""
        self.all = [row for row in self.all if row.origin != origin or row.seq > seq]
        self.pruned[origin] = seq

    def acknowledged(self) -> dict[str, int]:
        return {origin: seq for origin, (seq, _) in self.vector().items()}

    def marks(self) -> list[tuple[int, dict[str, int]]]:
        return []

    def size(self) -> tuple[int, int]:
        return len(self.all), len(self.all)

    def log_bytes(self) -> int:
        return 0

    def tombstones(self, after: Mapping[str, int], upto: Mapping[str, int]) -> int:
        return 0

    def documents(self, collection: str) -> list[tuple[str, bytes]]:
        return []

    def get(self, collection: str, key: str) -> bytes | None:
        return None

    def known(self, collection: str, key: str) -> bool:
        return False
