"""Reading the log: for the store, and read-only for every other process, one short transaction per call."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgpack

from entgldb.messages.limits import COUNT_MAX, PAGE_ROWS_MAX
from entgldb.messages.model import KEYS, Author, Entry, Origin, Vector, node_of
from entgldb.messages.schema import Json
from entgldb.storage.authorship import authors
from entgldb.storage.authorship.cluster_keys import Rotation, newest
from entgldb.storage.file.open import open_reader
from entgldb.storage.log import members, recorded
from entgldb.storage.rules.clock import ms_of
from entgldb.storage.rules.ended import end_of_expelled, is_any_log
from entgldb.storage.rules.results import Heard, LogRow
from entgldb.storage.rules.vector import seqs

PINNED: Final = "cluster"
PAUSES: Final = "pauses"
"""Name in ``_entgldb_meta``."""
CACHE_KIB: Final = 1_024
"""Pages kept by each process that reads the log: it reads on, and seldom back."""
PAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Headers and bodies of one page of rows, not counting the row that crosses it."""


_SINCE: Final = (
    # without a save since, no more than a tail of the log has come; with one, it may be all of it
    "SELECT 0, saves, 0, NULL FROM _entgldb_state UNION ALL SELECT l.lsn, origin, seq, hash"
    " FROM _entgldb_state CROSS JOIN _entgldb_oplog l NOT INDEXED WHERE saves = ? AND l.lsn > ?"
)
_HEADS: Final = (
    "SELECT id, name, seq, head, (SELECT saves FROM _entgldb_state), (SELECT lsn FROM _entgldb_last)"
    " FROM _entgldb_heads"
)


class _Heads(NamedTuple):
    """All heads, as of row ``last`` of the log and of save number ``saved``."""

    saved: int
    last: int
    heads: dict[int, tuple[Origin, int, bytes]]


class LogQueries:
    """Short read transactions on the log; nothing is open between two calls."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._names: dict[int, Origin] = {}
        self._known = _Heads(0, 0, {})

    @property
    def origin(self) -> Origin:
        """The origin under which this node writes."""
        return str(self._meta("origin"))

    @property
    def file_id(self) -> str:
        """Names this file; a change-feed token of another file is refused."""
        return str(self._meta("file_id"))

    def pinned_cluster(self) -> tuple[str, str]:
        """The cluster that a cloud node serves and the client id that brought it; empty before the first."""
        row = self.connection.execute("SELECT value FROM _entgldb_meta WHERE name = ?", (PINNED,)).fetchone()
        cluster, client_id = ("", "") if row is None else json.loads(row[0])
        return cluster, client_id

    def pauses(self) -> dict[str, Json]:
        """Kind of links -> the pause of it, as the store keeps it."""
        row = self.connection.execute("SELECT value FROM _entgldb_meta WHERE name = ?", (PAUSES,)).fetchone()
        found: dict[str, Json] = {} if row is None else json.loads(row[0])
        return found

    def remembered_peers(self) -> dict[str, str]:
        """Node id -> address, the latest first, where LAN peers were reached."""
        rows = self.connection.execute(
            "SELECT node_id, address FROM _entgldb_peers ORDER BY seen_ms DESC, node_id"
        )
        return dict(rows.fetchall())

    def authorities(self) -> dict[bytes, str]:
        """The public key of a CA -> its cluster, of the clusters that a cloud node serves."""
        return authors.authorities(self.connection)

    def vector(self) -> Vector:
        """Origin -> (newest contiguous seq, its hash)."""
        return {name: (seq, head) for name, seq, head in self._heads().values() if seq}

    def held(self) -> dict[Origin, int]:
        """Origin -> newest seq that is held."""
        rows = self.connection.execute(
            "SELECT o.name, max(h.seq) FROM _entgldb_held h JOIN _entgldb_origins o ON o.id = h.origin"
            " GROUP BY o.name"
        )
        return dict(rows.fetchall())

    def last_lsn(self) -> int:
        """The newest row's number; 0 in an empty log."""
        return int(self.connection.execute("SELECT lsn FROM _entgldb_last").fetchone()[0])

    def first_missing(self, theirs: Mapping[Origin, int]) -> int:
        """Lowest lsn of an entry that ``theirs`` does not cover; last lsn + 1 when it covers all."""
        first = self.last_lsn() + 1
        for number, (name, seq, _) in self._heads().items():
            known = theirs.get(name, 0)
            if seq <= known:
                continue
            row = self.connection.execute(
                "SELECT lsn FROM _entgldb_oplog WHERE origin = ? AND seq > ? ORDER BY seq LIMIT 1",
                (number, known),
            ).fetchone()
            if row is not None:
                first = min(first, row[0])
        return first

    def disputes(self, origin: Origin, seq: int, digest: bytes) -> bool:
        """Whether our file has another entry of ``origin`` at ``seq``, or has not come so far."""
        row = self.connection.execute(
            "SELECT o.seq, l.hash FROM _entgldb_heads o LEFT JOIN _entgldb_oplog l"
            " ON l.origin = o.id AND l.seq = ? WHERE o.name = ?",
            (seq, origin),
        ).fetchone()
        head, recorded = (0, None) if row is None else row
        # without a row at or before the head it is pruned: nothing can be said against it
        return bool(seq > head or (recorded is not None and recorded != digest))

    def forked(self) -> set[Origin]:
        """Origins of which nothing more is taken."""
        rows = self.connection.execute("SELECT name FROM _entgldb_origins WHERE quarantined = 1")
        return {name for (name,) in rows.fetchall()}

    def branched(self) -> set[Origin]:
        """Origins of which two different entries with one number are, or were, known."""
        rows = self.connection.execute(
            "SELECT name FROM _entgldb_origins WHERE id IN (SELECT origin FROM _entgldb_forks)"
        )
        return {name for (name,) in rows.fetchall()}

    def rows(self, from_lsn: int, rows_max: int) -> list[LogRow]:
        """Rows with lsn >= ``from_lsn``, in lsn order, at most ``rows_max`` and about 4 MiB."""
        cursor = self.connection.execute(
            "SELECT lsn, origin, seq, hash, collection, header, CAST(body AS BLOB), applied, signature"
            " FROM _entgldb_oplog WHERE lsn >= ? ORDER BY lsn LIMIT ?",
            (from_lsn, min(rows_max, PAGE_ROWS_MAX)),
        )
        found, size = list[LogRow](), 0
        with closing(cursor):
            for lsn, number, seq, digest, collection, header, body, applied, signature in cursor:
                place = (lsn, self._name(number), seq, digest, collection)
                found.append(LogRow(*place, header, body, applied != 0, signature))
                size += len(header) + len(body or b"")
                if size >= PAGE_BYTES_MAX:
                    break
        return found

    def unapplied(self, rows_max: int, after: tuple[Origin, int] = ("", 0)) -> list[tuple[Origin, int]]:
        """System entries recorded from a cloud link, not supplied by a LAN peer since: behind ``after``."""
        rows = self.connection.execute(
            # '`' is the character after '_'
            "SELECT origin, seq FROM _entgldb_oplog WHERE applied = 0"
            " AND collection > '_system_' AND collection < '_system`' AND lsn > coalesce("
            " (SELECT l.lsn FROM _entgldb_oplog l JOIN _entgldb_origins o ON o.id = l.origin"
            " WHERE o.name = ? AND l.seq = ?), 0) ORDER BY lsn LIMIT ?",
            (*after, rows_max),
        ).fetchall()
        return [(self._name(number), seq) for number, seq in rows]

    def lacking(self) -> dict[Origin, int] | None:
        """Up to where in each log configuration is lacking that a cloud's snapshot covers; None: nowhere."""
        return recorded.lacking(self.connection)

    def expelled(self) -> frozenset[str]:
        """The nodes that were expelled, as far as is known here."""
        return members.expelled(self.connection)

    def expulsions(self) -> list[tuple[Origin, int]]:
        """The ends of the logs of those nodes, and then that of any other log of each: whoever hears of them
        in this order lets nothing go that counts."""
        out = self.expelled()
        rows = self.connection.execute("SELECT origin, seq FROM _entgldb_ended").fetchall()
        ends = [(origin, seq) for origin, seq in rows if node_of(origin) in out]
        return sorted(ends, key=lambda end: (is_any_log(end[0]), end))

    def wants_no_more(self, named: Iterable[Origin] = ()) -> dict[Origin, int]:
        """Origin -> seq up to which nothing of it is to be sent: what is held, and all that counts nowhere.

        ``named``: the logs that are there elsewhere. Of a node that was expelled nothing is wanted once the
        end of its log is here, and nobody has to bring what stands behind it, be it by a snapshot.
        """
        wanted, ended = self.held(), dict(self.expulsions())
        have = seqs(self.vector()) if ended else {}
        for origin in {*have, *named} if ended else ():
            end = end_of_expelled(ended, origin)
            if end is not None and have.get(origin, 0) >= end:
                wanted[origin] = COUNT_MAX
        return wanted

    def vouches(self) -> bool:
        """Whether a snapshot of this file brings the configuration."""
        return recorded.vouches(self.connection)

    def entries(self, ids: Sequence[tuple[Origin, int]]) -> list[Entry]:
        """Those of the named entries that are here and applied, in lsn order."""
        found = []
        for origin, seq in ids:
            row = self.connection.execute(
                "SELECT l.lsn, l.header, CAST(l.body AS BLOB), l.signature FROM _entgldb_oplog l"
                " JOIN _entgldb_origins o ON o.id = l.origin"
                " WHERE o.name = ? AND l.seq = ? AND l.applied = 1",
                (origin, seq),
            ).fetchone()
            if row is not None:
                found.append(row)
        return [Entry(*row[1:]) for row in sorted(found, key=itemgetter(0))]

    def signed_upto(self, origin: Origin) -> int:
        """The seq of the newest entry of a log that is signed: what follows is nobody's to relay yet."""
        row = self.connection.execute(
            "SELECT l.seq FROM _entgldb_origins o CROSS JOIN _entgldb_oplog l ON l.origin = o.id"
            " WHERE o.name = ? AND l.signature IS NOT NULL ORDER BY l.seq DESC LIMIT 1",
            (origin,),
        ).fetchone()
        return 0 if row is None else int(row[0])

    def author(self, origin: Origin) -> Author | None:
        """The author of a log; None where nobody has named it yet."""
        return authors.read(self.connection, origin)

    def members(self) -> dict[str, Heard]:
        """Name (node id; origin in the cloud role) -> the last row of that member kept in the file."""
        return members.members(self.connection)

    def size(self) -> tuple[int, int]:
        """Live documents, and rows of the log."""
        documents, entries = self.connection.execute("SELECT documents, entries FROM _entgldb_now").fetchone()
        return documents, entries

    def floors(self) -> dict[Origin, int]:
        """Origin -> newest seq whose log rows are gone, for those that have any such.

        Nobody lacks what stands behind the end of a node that was expelled.
        """
        rows = self.connection.execute("SELECT name, floor FROM _entgldb_origins WHERE floor > 0")
        floors = dict[Origin, int](rows.fetchall())
        ended = dict(self.connection.execute("SELECT origin, seq FROM _entgldb_ended").fetchall())
        for origin, floor in floors.items() if ended else ():
            end = end_of_expelled(ended, origin)
            floors[origin] = floor if end is None else min(floor, end)
        return floors

    def get(self, collection: str, key: str) -> bytes | None:
        """The body of a live document, or None."""
        row = self.connection.execute(
            "SELECT CAST(body AS BLOB) FROM _entgldb_documents WHERE collection = ? AND key = ?",
            (collection, key),
        ).fetchone()
        return None if row is None else row[0]

    def documents(self, collection: str) -> list[tuple[str, bytes]]:
        """All live documents of a small (system) collection, by key."""
        return self.connection.execute(
            "SELECT key, CAST(body AS BLOB) FROM _entgldb_documents"
            " WHERE collection = ? AND body IS NOT NULL ORDER BY key",
            (collection,),
        ).fetchall()

    def rotation(self) -> Rotation | None:
        """The key of the cluster that counts; None while it is the first one."""
        return newest(
            self.connection.execute(
                "SELECT d.key, CAST(d.body AS BLOB), d.hlc, o.name FROM _entgldb_documents d"
                " JOIN _entgldb_origins o ON o.id = d.origin WHERE d.collection = ? AND d.body IS NOT NULL",
                (KEYS,),
            ).fetchall()
        )

    def known(self, collection: str, key: str) -> bool:
        """Whether a document or a tombstone is there."""
        row = self.connection.execute(
            "SELECT 1 FROM _entgldb_documents WHERE collection = ? AND key = ?", (collection, key)
        ).fetchone()
        return row is not None

    def acknowledged(self) -> dict[Origin, int]:
        """The vector as far as it is applied: a node may yet have to ask for entries that are only
        recorded."""
        found = {name: seq for name, (seq, _) in self.vector().items()}
        rows = self.connection.execute(
            "SELECT o.name, min(l.seq) FROM _entgldb_oplog l INDEXED BY _entgldb_oplog_unapplied"
            " CROSS JOIN _entgldb_origins o ON o.id = l.origin WHERE l.applied = 0 GROUP BY o.name"
        )
        found.update((name, seq - 1) for name, seq in rows.fetchall())
        return found

    def marks(self) -> list[tuple[int, dict[Origin, int]]]:
        """When in the life of the store the vector was what, the oldest first."""
        rows = self.connection.execute("SELECT at_ms, vector FROM _entgldb_marks ORDER BY at_ms").fetchall()
        return [(at_ms, msgpack.unpackb(vector)) for at_ms, vector in rows]

    def high_mark_ms(self) -> int:
        """The hybrid clock's milliseconds: no new write is stamped before."""
        return ms_of(int(self.connection.execute("SELECT clock FROM _entgldb_now").fetchone()[0]))

    def shown_ms(self) -> int:
        """The latest time that this node's own clock has shown, a second of commits behind at most."""
        return int(self.connection.execute("SELECT shown_ms FROM _entgldb_state").fetchone()[0])

    def lived_ms(self) -> int:
        """How long a store has had this file open, a second of commits behind at most."""
        return int(self.connection.execute("SELECT lived_ms FROM _entgldb_state").fetchone()[0])

    def log_bytes(self) -> int:
        """Headers and bodies in the log."""
        return int(self.connection.execute("SELECT log_bytes FROM _entgldb_now").fetchone()[0])

    def tombstones(self, after: Mapping[Origin, int], upto: Mapping[Origin, int]) -> int:
        """How many collectable tombstones have versions behind ``after`` and not behind ``upto``."""
        rows = self.connection.execute(
            # '`' is the character after '_'
            "SELECT o.name, d.seq FROM _entgldb_documents d JOIN _entgldb_origins o ON o.id = d.origin"
            " WHERE d.body IS NULL AND NOT (d.collection > '_system_' AND d.collection < '_system`')"
        )
        return sum(after.get(name, 0) < seq <= upto.get(name, 0) for name, seq in rows)

    def _heads(self) -> dict[int, tuple[Origin, int, bytes]]:
        """Number of each origin -> its name, newest seq and hash.

        While the state is not saved anew, heads move by new rows of the log alone: only those are read. Each
        statement sees one moment of the file.
        """
        saved, last, heads = self._known
        rows = self.connection.execute(_SINCE, (saved, last)).fetchall()
        if rows[0][1] == saved and all(number in heads for _, number, _, _ in rows[1:]):
            for lsn, number, seq, digest in rows[1:]:
                heads[number] = (heads[number][0], seq, digest)
                last = max(last, lsn)
            self._known = _Heads(saved, last, heads)
        else:
            found = self.connection.execute(_HEADS).fetchall()
            saved, last = found[0][4:] if found else (0, 0)
            self._known = _Heads(
                saved, last, {number: (name, seq, head) for number, name, seq, head, *_ in found}
            )
        return self._known.heads

    def close(self) -> None:
        self.connection.close()

    def _meta(self, name: str) -> object:
        return self.connection.execute("SELECT value FROM _entgldb_meta WHERE name = ?", (name,)).fetchone()[
            0
        ]

    def _name(self, number: int) -> Origin:
        name = self._names.get(number)
        if name is None:
            self._names.update(self.connection.execute("SELECT id, name FROM _entgldb_origins").fetchall())
            name = self._names[number]
        return name


class LogReader(LogQueries):
    """On a connection of its own, in any process."""

    @classmethod
    def open(cls, directory: str | Path) -> Self:
        """Raises NotFoundError where there is no database, ConfigError for a newer format."""
        connection = open_reader(directory)
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        return cls(connection)
