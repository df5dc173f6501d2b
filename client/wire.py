"""The node's Unix socket from the client's side: blocking, one request at a time, small to import."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from entgldb.client.upkeep.behalf import on_behalf
from entgldb.messages.client import Advanced, Piece, Refused, Relay, RequestId
from entgldb.messages.codec import Decoded, decode, encode
from entgldb.messages.errors import (
    BusyError,
    EntglError,
    ErrorCode,
    NoAnswerError,
    NoNodeError,
    TooLargeError,
)
from entgldb.messages.framing import FrameReader, frame
from entgldb.messages.limits import FRAME_BYTES_MAX, PIECE_BYTES_MAX, REQUEST_BYTES_MAX
from entgldb.messages.schema import Channel, Message

SOCKET_NAME: Final = "entgldb.sock"
SOCKET_PATH_BYTES_MAX: Final = 100
"""Beyond it a path does not fit the kernel's address and is reached through its directory's descriptor."""
CONNECT_SECONDS: Final = 2.0
CONNECT_AGAIN_SECONDS: Final = 0.02
RECEIVE_BYTES: Final = 64 * 1024
"""At most: what is larger the C library takes from the kernel, and gives back, for every single read."""
PATIENCE_SLACK: Final = 0.1
"""Seconds by which a wait may outlast its deadline: each new timeout of a socket is a call of the kernel."""


class WireClient:
    """A connection to the node in ``directory``. Not for several threads at once.

    Raises NoNodeError when nobody listens there.
    """

    def __init__(self, directory: str | os.PathLike[str], patience: float = CONNECT_SECONDS) -> None:
        """``patience``: seconds to wait for a place while the node is there and has none."""
        self._directory = Path(directory)
        self._frames = FrameReader()
        self._waiting: list[bytes] = []
        self._last_id = 0
        self._due: set[int] = set()
        self._answers: dict[int, Message] = {}
        self._pushed = False
        self._socket = connected(self._directory, patience)
        self._patience = CONNECT_SECONDS

    def close(self) -> None:
        """Hang up; doing it twice is fine."""
        self._socket.close()

    def request(self, message: Message, timeout: float) -> Message:
        """Send one request and give its answer.

        Raises what the node refused it with; NoAnswerError (not definite) when none came within
        ``timeout`` seconds or the connection broke.
        """
        return self.answer(self.send(message, timeout), timeout)

    def send(self, message: Message, timeout: float) -> int:
        """Send one request; the number to ask ``answer`` for. Raises NoAnswerError as ``request``."""
        self._last_id += 1
        data = framed(message, self._last_id)
        try:
            self._be_patient(timeout)
            self._socket.sendall(data)
        except TimeoutError:
            raise self._lost("") from None
        except OSError as fault:
            self._hear_why()
            raise self._lost(f"the connection broke: {fault}") from None
        self._due.add(self._last_id)
        return self._last_id

    def answer(self, number: int, timeout: float) -> Message:
        """The answer to a request that was sent; others' are kept for them. Raises as ``request``."""
        deadline = time.monotonic() + timeout
        while number not in self._answers:
            payload = self._next(deadline)
            if payload is None:
                raise self._lost("")
            self._take(decode(payload, Channel.LOCAL))
        return unless_refused(self._answers.pop(number))

    def relay(self, actor: str, message: Message, timeout: float) -> Message:
        """Have the node hand an admin message to one of its actors, and give that actor's answer."""
        return self.request(Relay(actor, encode(message)), timeout)

    def wait_pushed(self, timeout: float) -> bool:
        """Wait for an ``Advanced``; whether one came. Raises NoAnswerError when the connection broke."""
        deadline = time.monotonic() + timeout
        while not self._pushed:
            payload = self._next(deadline)
            if payload is None:
                return False
            self._take(decode(payload, Channel.LOCAL))
        self._pushed = False
        return True

    def _take(self, decoded: Decoded) -> None:
        """An answer, a push, or why the node hangs up."""
        if decoded.request_id in self._due:
            self._due.discard(decoded.request_id)
            self._answers[decoded.request_id] = decoded.message
        elif decoded.request_id == 0 and isinstance(decoded.message, Refused):
            unless_refused(decoded.message)
        else:
            self._pushed = self._pushed or isinstance(decoded.message, Advanced)

    def _hear_why(self) -> None:
        """The node has hung up; it may have said why before. Raises what it said."""
        with contextlib.suppress(NoAnswerError):
            while (payload := self._next(time.monotonic() + PATIENCE_SLACK)) is not None:
                self._take(decode(payload, Channel.LOCAL))

    def _next(self, deadline: float) -> bytes | None:
        """The next payload, or None at the deadline."""
        while not self._waiting:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            try:
                self._be_patient(left)
                data = self._socket.recv(RECEIVE_BYTES)
            except TimeoutError:
                return None
            except OSError as fault:
                raise self._lost(f"the connection broke: {fault}") from None
            if not data:
                raise self._lost("the node closed the connection")
            self._frames.feed(data)
            self._waiting.extend(self._frames)
        return self._waiting.pop(0)

    def _be_patient(self, seconds: float) -> None:
        """Have the socket wait so long for its next call."""
        if not seconds <= self._patience <= seconds + PATIENCE_SLACK:
            self._socket.settimeout(seconds)
            self._patience = seconds

    def _lost(self, text: str) -> NoAnswerError:
        """``text``: the fault; empty where only time has passed."""
        fault = NoAnswerError(
            f"the node in {self._directory}: {text or 'no answer in time'}",
            hint=f"entgldb status --dir {self._directory}",
            definite=False,
        )
        fault.detail = text
        return fault


def framed(message: Message, request_id: int) -> bytes:
    """A request as one frame, or as the frames of its pieces. Raises TooLargeError."""
    payload = encode(on_behalf(message), request_id)
    size = len(payload)
    if size <= FRAME_BYTES_MAX:
        return frame(payload)
    if size > REQUEST_BYTES_MAX:
        raise TooLargeError(f"a request of {size} bytes, {REQUEST_BYTES_MAX} allowed", hint="split it")
    return b"".join(
        frame(encode(Piece(size, payload[at : at + PIECE_BYTES_MAX]), request_id))
        for at in range(0, size, PIECE_BYTES_MAX)
    )


def no_answer(
    directory: Path, seconds: float, fault: EntglError | None = None, request: RequestId | None = None
) -> NoAnswerError:
    """The error of a request that had no answer; ``request``: the id of a write that can be repeated."""
    detail = getattr(fault, "detail", "") if fault is None or isinstance(fault, NoAnswerError) else fault.text
    text = f"no answer from the node in {directory} within {seconds:.1f} s{detail and f' ({detail})'}"
    hint = f"entgldb status --dir {directory}"
    told = request_text(request) if request is not None else ""
    if told:
        hint += f"; then the same again with --request {told} (request= in Python): it is done once"
    made = NoAnswerError(text, hint=hint, definite=False)
    made.request = told
    return made


def request_text(request: RequestId) -> str:
    """A request id as ``request=`` and ``--request`` take it."""
    return f"{request.client.hex()}:{request.counter}"


def connected(directory: Path, patience: float = CONNECT_SECONDS) -> socket.socket:
    """A socket connected to the node in ``directory``.

    Raises NoNodeError when nobody listens there, BusyError when somebody does and has no place for
    ``patience`` seconds: a full queue is no absence.
    """
    path = str(directory.absolute() / SOCKET_NAME)
    short = len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX
    deadline = time.monotonic() + patience
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # the kernel answers at once, with EAGAIN where the queue of the listener is full
    made.setblocking(False)
    try:
        while True:
            try:
                made.connect(path) if short else _connect_through_descriptor(made, directory)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise BusyError(
                        f"the node in {directory} has let nobody in for {patience:.1f} s",
                        hint=f"entgldb status --dir {directory}",
                    ) from None
                time.sleep(CONNECT_AGAIN_SECONDS)
            else:
                made.settimeout(CONNECT_SECONDS)
                return made
    except OSError:
        made.close()
        raise NoNodeError(
            f"no node is running in {directory}", hint=f"entgldb start --dir {directory}"
        ) from None
    except BusyError:
        made.close()
        raise


def _connect_through_descriptor(made: socket.socket, directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        made.connect(f"/proc/self/fd/{descriptor}/{SOCKET_NAME}")
    finally:
        os.close(descriptor)


def by_code(kinds: Iterable[type[EntglError]]) -> dict[ErrorCode, type[EntglError]]:
    """Code -> the first class of it: an actor or a verb may have one of its own besides."""
    return {kind.code: kind for kind in reversed(list(kinds)) if "code" in vars(kind)}


_TYPES: Final = by_code(EntglError.__subclasses__())


def unless_refused(answer: Message) -> Message:
    """The answer, or the error it carries, as the type it had in the node."""
    if not isinstance(answer, Refused):
        return answer
    try:
        code = ErrorCode(answer.code)
    except ValueError:
        # a newer node may know more codes
        code = ErrorCode.INTERNAL
    raise _TYPES.get(code, EntglError)(answer.text, code=code, hint=answer.hint, definite=answer.definite)
