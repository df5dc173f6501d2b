"""The stage of the session's transcripts: one session, its peer and its store played by hand."""

from __future__ import annotations

from collections.abc import Callable

from entgldb.messages import wire
from entgldb.messages.local.actors import Applied, Apply, SessionEnded
from entgldb.messages.model import Entry, Vector, node_of
from entgldb.messages.schema import Message
from tests.unit.actors.session.list_log import ME, THIRD, YOU
from tests.unit.actors.session.test_session import Bench
from tests.unit.actors.session.test_staging import WRITER
from tests.unit.actors.session.test_staging import entries as proven

ORIGINS = {"me": ME, "you": YOU, "third": THIRD}


class SessionStage:
    """Commands of a transcript -> frames sent, actors told, reasons counted."""

    def __init__(self) -> None:
        self.bench = Bench()
        self._frames: dict[str, Callable[..., Message]] = {
            "vectors": lambda **pairs: wire.Vectors(vector(pairs), {}),
            "entries": self._entries,
            "ack": lambda round, batch: wire.Ack(int(round), int(batch)),
            "gap": lambda round, **pairs: wire.GapRequest(int(round), vector(pairs), {}),
            "change": lambda **pairs: wire.VectorChange(vector(pairs)),
            "beat": lambda round="0", sent="0", **pairs: wire.Heartbeat(
                0,
                int(round),
                int(sent),
                None,
                vector(pairs) if pairs else None,
                {} if pairs else None,
                told=2 if pairs else 0,
            ),
            "bye": lambda: wire.Bye("stopping"),
        }

    def perform(self, verb: str, words: list[str], pairs: dict[str, str]) -> list[str]:
        """One command; the lines it caused."""
        counted = self.bench.counts.copy()
        getattr(self, "do_" + verb)(*words, **pairs)
        lines = [self._sent(message) for message in self.bench.sent]
        lines += [text for actor, message in self.bench.ctx.told if (text := _told(actor, message))]
        lines += [f"counts {reason.value}" for reason in self.bench.counts - counted]
        self.bench.sent.clear()
        self.bench.ctx.told.clear()
        return lines

    def do_cloud(self) -> None:
        self.bench = Bench(cloud=True)

    def do_log(self, *names: str) -> None:
        """Rows that are there before the session."""
        for name in names:
            self.bench.log.add(ORIGINS[name])

    def do_large(self, name: str, times: str) -> None:
        """Rows of which each fills a batch."""
        for _ in range(int(times)):
            self.bench.log.add(ORIGINS[name], body=b"x" * 262_143)

    def do_system(self, name: str, applied: str = "yes") -> None:
        """A row of a system collection, applied here or only recorded."""
        self.bench.log.add(ORIGINS[name], collection="_system_remote_peers", applied=applied == "yes")

    def do_start(self) -> None:
        self.bench.session.start(self.bench.ctx)

    def do_hear(self, kind: str, **pairs: str) -> None:
        self.bench.session.receive(self._frames[kind](**pairs), self.bench.ctx)

    def do_commit(self, *names: str) -> None:
        self.bench.commit(*(ORIGINS[name] for name in names))

    def do_applied(self, round: str, batch: str, **pairs: str) -> None:
        done = Applied("sync:1", int(round), int(batch), vector(pairs))
        self.bench.session.applied(done, self.bench.ctx)

    def do_refused(self, round: str, batch: str, why: str) -> None:
        self.bench.session.applied(Applied("sync:1", int(round), int(batch), {}, why), self.bench.ctx)

    def do_beat(self) -> None:
        self.bench.session.beat(self.bench.ctx, None)

    def do_wait(self, seconds: str) -> None:
        self.bench.wait(float(seconds))

    def do_end(self) -> None:
        self.bench.session.end(self.bench.ctx)

    def do_again(self) -> None:
        """Another session over the same log, as after a lost link."""
        log = self.bench.log
        self.bench = Bench()
        self.bench.log.all = log.all

    def _entries(self, round: str, batch: str, entries: str = "1") -> Message:
        return wire.Entries(int(round), int(batch), proven(int(entries)), (), (WRITER.author,))

    def _sent(self, message: Message) -> str:
        match message:
            case wire.Vectors(known, _):
                return f"sends Vectors {shown(known)}"
            case wire.Entries(round, batch, entries, recorded):
                only = f", recorded only: {list(recorded)}" if recorded else ""
                return f"sends Entries round {round} batch {batch}: {self._rows(entries)}{only}"
            case wire.Supply(entries):
                return f"sends Supply: {self._rows(entries)}"
            case wire.Ack(round, batch):
                return f"sends Ack round {round} batch {batch}"
            case wire.GapRequest(round, known, _):
                return f"sends GapRequest round {round} from {shown(known)}"
            case wire.VectorChange(changes):
                return f"sends VectorChange {shown(changes)}"
            case wire.Heartbeat(_, round, sent, _, known, _, _, _, told):
                same = f", vector {told}" if told else ""
                rides = same if known is None else f", vector {told}: {shown(known)}"
                return f"sends Heartbeat round {round} sent {sent}{rides}"
            case wire.Want(ids):
                return "sends Want " + " ".join(f"{short(origin)}:{seq}" for origin, seq in ids)
        return f"sends {message}"

    def _rows(self, entries: tuple[Entry, ...]) -> str:
        rows = {row.header: row for row in self.bench.log.all}
        names = []
        for entry in entries:
            row = rows[entry.header]
            names.append(f"{short(row.origin)}:{row.seq}" + ("" if entry.body is not None else " (no body)"))
        return " ".join(names)


def vector(pairs: dict[str, str]) -> Vector:
    """``me=2`` -> everything of mine up to 2."""
    return {ORIGINS[name]: (int(seq), b"h%d" % int(seq)) for name, seq in pairs.items()}


def short(origin: str) -> str:
    """The node of an origin."""
    return node_of(origin)


def shown(known: Vector) -> str:
    """A vector in one line."""
    return "{" + ", ".join(f"{short(origin)}:{seq}" for origin, (seq, _) in sorted(known.items())) + "}"


def _told(actor: str, message: Message) -> str:
    match message:
        case Apply():
            cloud = ", by a cloud" if message.cloud else ""
            count = len(message.entries)
            return f"tells {actor}: round {message.round} batch {message.batch}, {count} entries{cloud}"
        case SessionEnded(session):
            return f"tells {actor}: session {session} has ended"
    return ""
