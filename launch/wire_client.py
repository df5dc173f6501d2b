"""The node's Unix socket from the client's side: blocking, one request at a time, small to import."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Final

from entgldb.messages.client import Advanced, Refused, Relay
from entgldb.messages.codec import decode, encode
from entgldb.messages.errors import EntglError, ErrorCode, NoAnswerError, NoNodeError
from entgldb.messages.framing import FrameReader, frame
from entgldb.messages.schema import Channel, Message

SOCKET_NAME: Final = "entgldb.sock"
SOCKET_PATH_BYTES_MAX: Final = 100
"""Beyond it a path does not fit the kernel's address and is reached through its directory's descriptor."""
CONNECT_SECONDS: Final = 2.0
RECEIVE_BYTES: Final = 64 * 1024
"""At most: what is larger the C library takes from the kernel, and gives back, for every single read."""
PATIENCE_SLACK: Final = 0.1
"""Seconds by which a wait may outlast its deadline: each new timeout of a socket is a call of the kernel."""


class WireClient:
    """A connection to the node in ``directory``. Not for several threads at once.

    Raises NoNodeError when nobody listens there.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)
        self._frames = FrameReader()
        self._waiting: list[bytes] = []
        self._last_id = 0
        self._due: set[int] = set()
        self._answers: dict[int, Message] = {}
        self._pushed = False
        self._socket = connected(self._directory)
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
        data = frame(encode(message, self._last_id))
        try:
            self._be_patient(timeout)
            self._socket.sendall(data)
        except OSError as fault:
            raise self._lost(f"the connection broke: {fault}") from None
        self._due.add(self._last_id)
        return self._last_id

    def answer(self, number: int, timeout: float) -> Message:
        """The answer to a request that was sent; others' are kept for them. Raises as ``request``."""
        deadline = time.monotonic() + timeout
        while number not in self._answers:
            payload = self._next(deadline)
            if payload is None:
                raise self._lost(f"no answer within {timeout:.1f} s")
            decoded = decode(payload, Channel.LOCAL)
            if decoded.request_id in self._due:
                self._due.discard(decoded.request_id)
                self._answers[decoded.request_id] = decoded.message
            else:
                self._pushed = self._pushed or isinstance(decoded.message, Advanced)
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
            self._pushed = isinstance(decode(payload, Channel.LOCAL).message, Advanced)
        self._pushed = False
        return True

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
        return NoAnswerError(
            f"the node in {self._directory}: {text}",
            hint=f"entgldb status --dir {self._directory}",
            definite=False,
        )


def connected(directory: Path) -> socket.socket:
    """A socket connected to the node in ``directory``. Raises NoNodeError when nobody listens there."""
    path = str(directory.absolute() / SOCKET_NAME)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(CONNECT_SECONDS)
    try:
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
            made.connect(path)
        else:
            _connect_through_descriptor(made, directory)
    except OSError:
        made.close()
        raise NoNodeError(
            f"no node is running in {directory}", hint=f"entgldb start --dir {directory}"
        ) from None
    return made


def _connect_through_descriptor(made: socket.socket, directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        made.connect(f"/proc/self/fd/{descriptor}/{SOCKET_NAME}")
    finally:
        os.close(descriptor)


_TYPES: Final = {cls.code: cls for cls in EntglError.__subclasses__() if "code" in vars(cls)}


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
