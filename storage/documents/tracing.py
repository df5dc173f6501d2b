"""The trace of one key in a node's file: its versions, where they came from, what keeps one back."""

from __future__ import annotations

from typing import NamedTuple

from entgldb.messages.model import NODES, REMOTE_PEERS, Origin, Version, check_collection, check_key
from entgldb.storage.log import arrivals
from entgldb.storage.log.arrivals import Arrival
from entgldb.storage.log.read import LogReader
from entgldb.storage.rules.clock import ms_of
from entgldb.storage.rules.header import DELETE, decode
from entgldb.storage.rules.vector import covers
from entgldb.storage.rules.why import KeyState

TRACES_MAX = 20
"""Versions of a key that are told, the newest first."""


class Trace(NamedTuple):
    """One version of the key."""

    version: Version
    delete: bool
    hlc: int
    arrival: Arrival | None
    """None: written here, or not known any more."""

    @property
    def written_ms(self) -> int:
        """By its writer's clock."""
        return ms_of(self.hlc)


class Tracer(LogReader):
    """Reads one file."""

    def trace(self, collection: str, key: str) -> tuple[KeyState, list[Trace]]:
        """The state of a key and its versions. Raises InvalidError for a key that cannot be one."""
        check_collection(collection, system=True)
        check_key(key)
        place = (collection, key)
        row = self.connection.execute(
            "SELECT o.name, d.seq, d.hlc, d.body IS NOT NULL, d.lsn,"
            " d.body IS NULL AND d.expires IS NOT NULL FROM _entgldb_documents d"
            " JOIN _entgldb_origins o ON o.id = d.origin WHERE d.collection = ? AND d.key = ?",
            place,
        ).fetchone()
        current = None if row is None else Version(row[0], row[1])
        traces = self._log(place)
        if row is not None and current not in [one.version for one in traces]:
            traces.append(Trace(Version(row[0], row[1]), row[3] == 0, row[2], self._arrival(row[0], row[4])))
        held, unfit = self._held(place), self._versions("_entgldb_quarantine", place)
        waiting = held + unfit
        ranked = [(hlc, *version) for version, hlc in waiting] + [(one.hlc, *one.version) for one in traces]
        newest = Version(*max(ranked)[1:]) if ranked else current
        forked = newest is not None and newest.origin in self.forked() and not covers(self.vector(), newest)
        known = KeyState(
            collection,
            current,
            row is not None and row[3] == 1,
            newest,
            held=newest in [version for version, _ in held],
            unfit=newest in [version for version, _ in unfit] or forked,
            recorded=current is None and bool(traces) and not waiting,
            expired=row is not None and row[5] == 1,
        )
        return known, traces[:TRACES_MAX]

    def nodes(self) -> list[str]:
        """Names of nodes and remote peers that are written down."""
        rows = self.connection.execute(
            "SELECT key FROM _entgldb_documents WHERE collection IN (?, ?) AND body IS NOT NULL",
            (NODES, REMOTE_PEERS),
        ).fetchall()
        return [name for (name,) in rows]

    def _log(self, place: tuple[str, str]) -> list[Trace]:
        rows = self.connection.execute(
            "SELECT lsn, header FROM _entgldb_oplog WHERE collection = ? AND key = ? ORDER BY lsn DESC", place
        ).fetchall()
        found = []
        for lsn, raw in rows:
            header = decode(raw)
            arrival = self._arrival(header.origin, lsn)
            found.append(Trace(header.version, header.op == DELETE, header.hlc, arrival))
        return found

    def _arrival(self, origin: Origin, lsn: int) -> Arrival | None:
        return None if origin == self.origin else arrivals.of(self.connection, lsn)

    def _held(self, place: tuple[str, str]) -> list[tuple[Version, int]]:
        rows = self.connection.execute("SELECT header FROM _entgldb_held").fetchall()
        headers = [decode(raw) for (raw,) in rows]
        return [(one.version, one.hlc) for one in headers if (one.collection, one.key) == place]

    def _versions(self, table: str, place: tuple[str, str]) -> list[tuple[Version, int]]:
        rows = self.connection.execute(
            f"SELECT o.name, t.seq, t.hlc FROM {table} t JOIN _entgldb_origins o ON o.id = t.origin"  # noqa: S608 -- a constant
            " WHERE t.collection = ? AND t.key = ?",
            place,
        ).fetchall()
        return [(Version(name, seq), hlc) for name, seq, hlc in rows]
