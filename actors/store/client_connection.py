"""One client of a node's Unix socket: its requests not taken yet, and its answers not read yet."""

from __future__ import annotations

import logging
import socket
import struct
import time
from typing import Final, Protocol

from entgldb.actors.behaviour import Asker
from entgldb.messages import codec
from entgldb.messages.client import Follow, Piece, Refused
from entgldb.messages.errors import EntglError, ErrorCode, ProtocolError, Reason, UnknownMessage
from entgldb.messages.framing import FrameReader, FrameWriter, frame
from entgldb.messages.limits import (
    CLIENT_ANSWER_BYTES_MAX,
    CLIENT_REQUESTS_MAX,
    CLIENT_TURN_MAX,
    FRAME_BYTES_MAX,
    LINK_QUEUE_BYTES_MAX,
    REQUEST_BYTES_MAX,
)
from entgldb.messages.schema import Channel, Message

log = logging.getLogger(__name__)

IDLE_SECONDS_MIN: Final = 1.0
"""How long a connection has been silent that may have to make room for another."""
PATIENCE_SECONDS: Final = 10.0
"""How long a client may leave its answers unread, or a large request unfinished."""
READ_BYTES: Final = 64 * 1024
"""At most: below what the C library takes from the kernel, and gives back, for every single read."""
READS_PER_TURN_MAX: Final = 16
"""Reads of one client before the others have their turn; the rest waits in the kernel."""


class ConnectionOwner(Protocol):
    """The part of ``ClientSocket`` that a connection calls."""

    @property
    def paused(self) -> bool:
        """Whether nobody is read now."""

    def took(self, size: int, message: Message, asker: Asker) -> None:
        """A request of ``size`` bytes goes to the actor."""

    def answered(self, size: int) -> None:
        """A request of ``size`` bytes has its answer."""

    def reserve(self, client: Connection, size: int) -> bool:
        """Room for a large request; False: ``client`` has to wait and is called when there is."""

    def give_back(self, size: int) -> None:
        """A large request is whole, or will never be."""

    def drop(self, reason: Reason) -> None:
        """The actor counts what it never saw."""

    def watch(self, client: Connection) -> None:
        """Wait for what the client may do next and we can take."""

    def closed(self, client: Connection) -> None:
        """A client has gone."""


class Connection:
    """One connection."""

    def __init__(self, owner: ConnectionOwner, made: socket.socket) -> None:
        self.fd = made.fileno()
        self.over = self.closing = self.following = False
        self.watched = 0
        """The events that the poll waits for."""
        self.heard_at = self._moved_at = time.monotonic()
        """When it last said something, and when it last read or had nothing to read."""
        self.who = _who(made)
        self._owner = owner
        self._socket = made
        self._reader = FrameReader()
        self._writer = FrameWriter(LINK_QUEUE_BYTES_MAX)
        self._unanswered = 0
        self._large: _Large | None = None
        self._stalled: tuple[int, Piece] | None = None

    @property
    def waiting(self) -> int:
        """Bytes answered and not yet taken by the kernel."""
        return self._writer.waiting

    @property
    def blocked(self) -> bool:
        """Whether it is not read now."""
        return (
            self.closing
            or self._owner.paused
            or self._stalled is not None
            or self._unanswered >= CLIENT_REQUESTS_MAX
            or self.waiting > CLIENT_ANSWER_BYTES_MAX
        )

    @property
    def leftover(self) -> bool:
        """Whether it has sent more than its last turn had room for."""
        return self._reader.ready

    def idle(self, now: float) -> bool:
        """Whether nobody loses anything by its end."""
        busy = self._unanswered or self.waiting or self._large or self._stalled or self.leftover
        return not (busy or self.following or self.closing) and now - self.heard_at >= IDLE_SECONDS_MIN

    def be_patient(self, now: float) -> None:
        """End it where it has not read, or not sent the rest of a large request, for too long."""
        if self.waiting and now - self._moved_at > PATIENCE_SECONDS:
            self._owner.drop(Reason.SLOW_READER)
            self.cut()
        elif self._large is not None and not self.blocked and now - self.heard_at > PATIENCE_SECONDS:
            self._owner.drop(Reason.IDLE)
            self.dismiss(f"the rest of a request did not come within {PATIENCE_SECONDS:.0f} s")

    def read(self) -> None:
        """Take what has come, as far as it is this client's turn."""
        left = CLIENT_TURN_MAX
        try:
            for _ in range(READS_PER_TURN_MAX):
                left = self._take_frames(left)
                if left <= 0 or self.blocked:
                    break
                data = self._socket.recv(READ_BYTES)
                if not data:
                    self.cut()
                    return
                self.heard_at = time.monotonic()
                self._reader.feed(data)
                if len(data) < READ_BYTES:
                    self._take_frames(left)
                    break
        except BlockingIOError:
            pass
        except ProtocolError as fault:
            self._malformed(fault)
            return
        except OSError:
            self.cut()
            return
        self._owner.watch(self)

    def answer(self, data: bytes, *, asked: bool) -> bool:
        """One answer, or a push to a follower; False when too many bytes wait already.

        Written with all that waits as soon as nobody else on this connection is about to be answered.
        """
        self._unanswered -= asked
        idle = not self.waiting
        if self.over or not self._writer.put(data):
            return False
        if idle:
            self._moved_at = time.monotonic()
        if not self._unanswered:
            self.write()
        elif idle or self._unanswered == CLIENT_REQUESTS_MAX - 1:
            self._owner.watch(self)
        return True

    def write(self) -> None:
        """Hand the kernel what waits; where it takes no more, go on when it has room."""
        waiting = self.waiting
        try:
            self._writer.write_to(self._socket)
        except OSError:
            self.cut()
            return
        if self.waiting < waiting:
            self._moved_at = time.monotonic()
        if self.closing and not self.waiting:
            self.cut()
        else:
            self._owner.watch(self)

    def refuse(self, request_id: int, fault: EntglError) -> None:
        """Answer what the actor never saw."""
        refused = Refused(fault.code.value, fault.text, fault.hint, fault.definite)
        self.answer(frame(codec.encode(refused, request_id)), asked=False)

    def dismiss(self, why: str) -> None:
        """Tell it that there is no place for it, and close."""
        self.refuse(0, EntglError(why, code=ErrorCode.BUSY, hint="try again"))
        self.finish()

    def finish(self) -> None:
        """Read no more; close as soon as nothing waits any more."""
        self.closing = True
        if not self.over:
            self.write()

    def cut(self) -> None:
        """Close at once."""
        if not self.over:
            self.over = True
            self._writer.clear()
            self._owner.closed(self)
            self._socket.close()
            if self._large is not None:
                large, self._large = self._large, None
                self._owner.give_back(large.size)

    def go_on(self) -> None:
        """There is room again for the large request that it waits with."""
        if self._stalled is None:
            return
        (request_id, piece), self._stalled = self._stalled, None
        try:
            self._take_piece(request_id, piece)
        except ProtocolError as fault:
            self._malformed(fault)
        else:
            self._owner.watch(self)

    def _malformed(self, fault: ProtocolError) -> None:
        log.warning("a client sent a malformed frame and was dropped: %s", fault.text)
        self._owner.drop(Reason.MALFORMED)
        self.refuse(0, fault)
        self.finish()

    def _take_frames(self, left: int) -> int:
        """Take up to ``left`` frames; how many more it may be."""
        for payload in self._reader:
            self._take(payload, FRAME_BYTES_MAX)
            left -= 1
            if left <= 0 or self.blocked:
                break
        return left

    def _take(self, payload: bytes, bytes_max: int) -> None:
        try:
            decoded = codec.decode(payload, Channel.CLIENT, bytes_max)
        except UnknownMessage as fault:
            self._owner.drop(Reason.UNKNOWN_MESSAGE)
            self.refuse(fault.request_id, EntglError(fault.text, code=ErrorCode.UNSUPPORTED))
            return
        if decoded.trailing:
            self._owner.drop(Reason.TRAILING_FIELD)
        if isinstance(decoded.message, Piece):
            self._take_piece(decoded.request_id, decoded.message)
            return
        self.following = self.following or isinstance(decoded.message, Follow)
        self._unanswered += 1
        asker = SocketAsker(self._owner, self, decoded.request_id, len(payload))
        self._owner.took(len(payload), decoded.message, asker)

    def _take_piece(self, request_id: int, piece: Piece) -> None:
        large = self._large
        if large is None:
            if not 0 < piece.size <= REQUEST_BYTES_MAX:
                raise ProtocolError(f"a request of {piece.size} bytes, {REQUEST_BYTES_MAX} allowed")
            if not self._owner.reserve(self, piece.size):
                self._stalled = (request_id, piece)
                return
            large = self._large = _Large(request_id, piece.size)
        large.add(request_id, piece)
        if len(large.data) == large.size:
            self._large = None
            self._owner.give_back(large.size)
            self._take(bytes(large.data), REQUEST_BYTES_MAX)


class _Large:
    """A request larger than a frame, as far as it has come."""

    def __init__(self, request_id: int, size: int) -> None:
        self.request_id = request_id
        self.size = size
        self.data = bytearray()

    def add(self, request_id: int, piece: Piece) -> None:
        """One more piece. Raises ProtocolError for what is none of this request."""
        fits = 0 < len(piece.data) <= self.size - len(self.data)
        if not fits or (request_id, piece.size) != (self.request_id, self.size):
            raise ProtocolError("a piece of a request is out of its turn")
        self.data += piece.data


class SocketAsker:
    """The client at the other end of the socket, who waits for one answer or follows pushed messages."""

    __slots__ = ("_client", "_owner", "_request_id", "_size")

    def __init__(self, owner: ConnectionOwner, client: Connection, request_id: int, size: int) -> None:
        self._owner = owner
        self._client = client
        self._request_id = request_id
        self._size = size

    def __eq__(self, other: object) -> bool:
        """Two askers on one connection are one listener."""
        return isinstance(other, SocketAsker) and other._client is self._client

    def __hash__(self) -> int:
        return hash(self._client)

    @property
    def who(self) -> str:
        """The client, for the audit log."""
        return self._client.who

    @property
    def closed(self) -> bool:
        """The client has gone; an actor that pushes to it may forget it."""
        return self._client.over

    def answer(self, message: Message) -> None:
        """Write ``message`` back. A client that does not read is dropped."""
        asked = bool(self._size)
        if asked:
            self._owner.answered(self._size)
            self._size = 0
        try:
            data = frame(codec.encode(message, self._request_id))
        except ProtocolError as fault:
            told = Refused(ErrorCode.TOO_LARGE.value, f"the answer is too large: {fault.text}")
            data = frame(codec.encode(told, self._request_id))
        if not self._client.answer(data, asked=asked) and not self._client.over:
            self._owner.drop(Reason.SLOW_READER)
            self._client.cut()


def _who(made: socket.socket) -> str:
    """The process at the other end, by the word of the kernel."""
    found = made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", found)
    return f"uid {uid} pid {pid}"
