"""Thespian's wire, tamed: loopback only, every frame authenticated before it is decoded.

``multiprocTCPBase`` listens on every interface and unpickles whatever arrives. Importing this module
binds every socket to 127.0.0.1, puts an HMAC-SHA256 under a per-node key in front of every frame, which
counts once and at one port, carries our messages as msgpack inside one ``Envelope``, and lets only Thespian's
own system classes through a restricted unpickler. All of it patches private names of one release, so each is
asserted.
"""

from __future__ import annotations

import hmac
import io
import os
import pickle
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from entgldb.actors.host.freshness import STAMP_BYTES, Freshness
from entgldb.actors.host.poll import Selectors
from entgldb.messages.errors import EntglError
from entgldb.messages.limits import LOCAL_FRAME_BYTES_MAX
from entgldb.messages.secret import Secret

LOOPBACK = "127.0.0.1"
THESPIAN_VERSION = "4.0.1"
KEY_BYTES = 32
MAC_BYTES = 32
ASK, ANSWER = b"M", b"A"
_SYSTEM = b"P"
_LENGTH_DIGITS_MAX = 12
UNPROVEN_MAX = 64
"""Connections to one actor that have not yet shown that they hold the key; the oldest go first."""


class WireError(EntglError):
    """Thespian is not the release this module tames, or a process listens where it must not."""


@contextmanager
def _no_name_service() -> Iterator[None]:
    """Thespian looks up its own host name when imported: seconds of waiting where no DNS answers."""
    saved = socket.gethostname, socket.getfqdn
    socket.gethostname = lambda: "localhost"
    socket.getfqdn = lambda name="": "localhost"
    try:
        yield
    finally:
        socket.gethostname, socket.getfqdn = saved


os.environ["THESPIAN_BASE_IPADDR"] = LOOPBACK  # read whenever Thespian makes an address
with _no_name_service():
    from thespian.actors import ActorAddress, ActorSystemMessage
    from thespian.system import timing
    from thespian.system.transport import IPBase, TCPTransport, streamBuffer


class Envelope:
    """The item that our actors send each other: an encoded message, asked or answered."""

    __slots__ = ("kind", "payload")

    def __init__(self, kind: bytes, payload: bytes) -> None:
        self.kind = kind
        self.payload = payload

    def __str__(self) -> str:  # Thespian formats every message several times a hop
        return "Envelope"

    __repr__ = __str__


_BUILTINS = "set frozenset list dict tuple int str bytes bool float object"
_PLAIN = {("builtins", name) for name in _BUILTINS.split()} | {
    ("datetime", "timedelta"),
    ("datetime", "datetime"),
    ("logging", "LogRecord"),
    ("socket", "AddressFamily"),
    ("socket", "SocketKind"),
}
_BASES: tuple[type, ...] = (
    ActorSystemMessage,
    ActorAddress,
    IPBase.IPActorAddress,
    timing.ExpirationTimer,
    Envelope,
)


class _Unpickler(pickle.Unpickler):
    """Makes Thespian's own messages and addresses, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return super().find_class(module, name)
        found = getattr(sys.modules.get(module), name, None)
        if isinstance(found, type) and (issubclass(found, _BASES)):
            return found
        if module == "socket" and isinstance(found, socket.AddressFamily | socket.SocketKind):
            # an address holds both; Python 3.11.0 to 3.11.3 pickles such a constant by its own name
            return found
        raise pickle.UnpicklingError(f"{module}.{name} may not travel between actors")


def _unpickle(data: bytes) -> Any:
    return _Unpickler(io.BytesIO(data)).load()


class Serializer:
    """Stands in for the module ``pickle`` in Thespian's transport; one key per process at a time."""

    key = Secret(b"")
    freshness = Freshness(0)

    @classmethod
    def dumps(cls, item: Any, port: int = 0) -> bytes:
        """MAC, then either an Envelope as it is, or a pickled system message.

        ``port``: of the receiver; 0 for an acknowledgement, which goes back on the connection that it is for.
        """
        stamp = cls.freshness.stamp(port) if port else bytes(STAMP_BYTES)
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Envelope):
            sender = pickle.dumps(item[0], 5)
            body = item[1].kind + stamp + len(sender).to_bytes(2, "big") + sender + item[1].payload
        else:
            body = _SYSTEM + stamp + pickle.dumps(item, 5)
        return cls.proof(2 * MAC_BYTES + len(body)) + cls._mac(body) + body

    @classmethod
    def proof(cls, size: int) -> bytes:
        """The first bytes of a frame of ``size`` bytes: a sender without the key cannot make the receiver
        read on."""
        return cls._mac(b"size" + size.to_bytes(8, "big"))

    @classmethod
    def loads(cls, data: bytes) -> Any:
        """The item, or UnpicklingError; nothing is decoded before the MAC was found right."""
        proof, mac, body = bytes(data[:MAC_BYTES]), data[MAC_BYTES : 2 * MAC_BYTES], data[2 * MAC_BYTES :]
        right = body and hmac.compare_digest(proof, cls.proof(len(data)))
        if not right or not hmac.compare_digest(bytes(mac), cls._mac(bytes(body))):
            raise pickle.UnpicklingError("a frame that was not made with this node's actors.key")
        kind, stamp, rest = body[:1], body[1 : 1 + STAMP_BYTES], body[1 + STAMP_BYTES :]
        if not any(stamp):
            return cls._acknowledgement(kind, rest)
        refusal = cls.freshness.refusal(stamp)
        if refusal:
            raise pickle.UnpicklingError(refusal)
        if kind == _SYSTEM:
            return _unpickle(rest)
        end = 2 + int.from_bytes(rest[:2], "big")
        return _unpickle(rest[2:end]), Envelope(kind, rest[end:])

    @classmethod
    def _acknowledgement(cls, kind: bytes, rest: bytes) -> Any:
        """It says nothing but that a frame came or did not, so it may be sent again."""
        item = _unpickle(rest) if kind == _SYSTEM else None
        if not streamBuffer.isControlMessage(item):
            raise pickle.UnpicklingError("a frame that is made for nobody")
        return item

    @classmethod
    def _mac(cls, body: bytes) -> bytes:
        if len(cls.key) != KEY_BYTES:
            raise WireError("no actors.key was loaded in this process")
        return hmac.digest(cls.key.reveal(), body, "sha256")


class _BoundedBuffer(streamBuffer.ReceiveBuffer):  # type: ignore[misc]  # thespian is untyped
    """Refuses a frame by the length it announces, before memory is taken, unless the key vouches for it."""

    proven = False
    """Whether the sender has shown that it holds the key."""
    _item: Any = None

    def completed(self) -> Any:
        """As in Thespian, which asks twice where it waits for an acknowledgement and finds a message."""
        if self._size is None or self._blen != self._size:
            return None
        if self._item is None:
            self._item = self._deserialize(self._buf)
        return self._item, self._extra

    def remainingAmount(self) -> int:  # noqa: N802 -- Thespian's name
        if self._size is None or self.proven:
            return int(super().remainingAmount())
        return MAC_BYTES - int(self._blen)

    def addMore(self, buf: bytes) -> None:  # noqa: N802 -- Thespian's name
        super().addMore(buf)
        if self._size is None and len(self._buf) > _LENGTH_DIGITS_MAX:
            raise ValueError("no length at the head of a frame")
        if self._size is not None and not 0 < self._size <= LOCAL_FRAME_BYTES_MAX:
            raise ValueError(f"a frame of {self._size} bytes announced")
        if self._size is not None and not self.proven and self._blen >= MAC_BYTES:
            if not hmac.compare_digest(bytes(self._buf[:MAC_BYTES]), Serializer.proof(self._size)):
                raise ValueError("a frame that was not made with this node's actors.key")
            self.proven = True


def shed(transport: Any) -> None:
    """Close the oldest of too many connections that have proved nothing."""
    waiting = transport._incomingSockets
    unproven = [number for number, incoming in waiting.items() if not incoming._rData.proven]
    for number in unproven[: max(0, len(unproven) - UNPROVEN_MAX)]:
        waiting.pop(number).close()


_open_transport = TCPTransport.TCPTransport.__init__


def _open_and_tell(transport: Any, *arguments: Any) -> None:
    _open_transport(transport, *arguments)
    Serializer.freshness.listens(port_of(transport.myAddress))


def _serialize(transport: Any, intent: Any) -> Any:
    """The frame of an intent, made for its target alone."""
    port = port_of(intent.targetAddr)
    return streamBuffer.toSendBuffer(
        (transport.myAddress, intent.message), lambda item: Serializer.dumps(item, port)
    )


_accept_incoming = TCPTransport.TCPTransport._acceptNewIncoming


def _accept_and_shed(transport: Any) -> None:
    _accept_incoming(transport)
    shed(transport)


_PATCHED: tuple[tuple[object, str], ...] = (
    (IPBase.IPActorAddress, "bindArgs"),
    (TCPTransport, "serializer"),
    (TCPTransport, "selectors"),
    (TCPTransport, "ReceiveBuffer"),
    (TCPTransport, "ackMsg"),
    (TCPTransport, "ackDataErrMsg"),
    (streamBuffer, "toSendBuffer"),
    (streamBuffer, "ackPacket"),
    (streamBuffer, "ackDataErrPacket"),
    (streamBuffer, "isControlMessage"),
    (TCPTransport.TCPTransport, "__init__"),
    (TCPTransport.TCPTransport, "serializer"),
    (TCPTransport.TCPTransport, "set_watch"),
    (TCPTransport.TCPTransport, "_acceptNewIncoming"),
)


def _version() -> str:
    """The version of the Thespian that is installed."""
    # the name of this folder tells it; the library that reads what is in there takes longer to import
    folder = Path(IPBase.__file__).parents[3] / f"thespian-{THESPIAN_VERSION}.dist-info"
    if folder.is_dir():
        return THESPIAN_VERSION
    from importlib import metadata

    return metadata.version("thespian")


def require(names: tuple[tuple[object, str], ...]) -> None:
    """Assert that this is the pinned Thespian and has every private name we rely on."""
    found = _version()
    if found != THESPIAN_VERSION:
        raise WireError(
            f"thespian {found} is installed, {THESPIAN_VERSION} is needed",
            hint=f"pip install thespian=={THESPIAN_VERSION}",
        )
    missing = [f"{getattr(home, '__name__', home)}.{name}" for home, name in names if not hasattr(home, name)]
    if missing:
        raise WireError(f"thespian lacks {', '.join(missing)}", hint="reinstall it; it may have been altered")


def _about_to_fork() -> None:
    _Fork.at_ns = time.monotonic_ns()


def _forked() -> None:
    """A child has ports of its own, of which nobody knew before it was forked."""
    Serializer.freshness = Freshness(_Fork.at_ns)


class _Fork:
    at_ns = 0
    """When this process was last about to fork."""


def _patch() -> None:
    require(_PATCHED)
    IPBase.IPActorAddress.bindArgs = property(lambda self: ((LOOPBACK, self.bindname[1]),))
    TCPTransport.serializer = Serializer
    TCPTransport.selectors = Selectors
    TCPTransport.ReceiveBuffer = _BoundedBuffer
    TCPTransport.TCPTransport._acceptNewIncoming = _accept_and_shed
    TCPTransport.TCPTransport.__init__ = _open_and_tell
    TCPTransport.TCPTransport.serializer = _serialize
    os.register_at_fork(before=_about_to_fork, after_in_child=_forked)


_patch()


def use_key(key: Secret) -> None:
    """From now on this process speaks and hears frames under ``key``."""
    Serializer.key = key
    Serializer.freshness = Freshness(time.monotonic_ns())
    # Acknowledgements are prepared frames in Thespian and would carry the old key.
    TCPTransport.ackMsg = streamBuffer.toSendBuffer(streamBuffer.ackPacket, Serializer.dumps)
    TCPTransport.ackDataErrMsg = streamBuffer.toSendBuffer(streamBuffer.ackDataErrPacket, Serializer.dumps)


def load_key(directory: Path) -> Secret:
    """``actors.key`` of a node's directory, made on first use; mode 0600."""
    path = directory / "actors.key"
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(fd, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
    key = path.read_bytes()
    if len(key) != KEY_BYTES or path.stat().st_mode & 0o077:
        raise WireError(
            f"{path} is not a key of {KEY_BYTES} bytes that only its owner can read",
            hint="stop the node and remove the file; the next start makes a new one",
        )
    return Secret(key)


def address_of(port: int) -> Any:
    """The Thespian address of an actor on this machine."""
    return ActorAddress(IPBase.TCPv4ActorAddress(LOOPBACK, port, external=True))


def port_of(address: Any) -> int:
    """The loopback port of a Thespian address."""
    return int(address.addressDetails.sockname[1])


def listeners(pid: int | str = "self") -> list[tuple[str, int]]:
    """(host, port) of every TCP socket the process listens on, from the kernel's table."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        # there is none where IPv6 is switched off; it may have as many lines as the machine has connections
        with suppress(FileNotFoundError), open(f"/proc/{pid}/net/{table}") as lines:
            for fields in map(str.split, lines):
                if fields[3] == "0A" and fields[9] in inodes:
                    found.append(_kernel_address(fields[1], family))
    return found


def close_listeners() -> None:
    """In a process just forked: let go of listening sockets that belong to the parent."""
    for entry in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        try:
            found = socket.socket(fileno=entry)
        except OSError:  # no socket
            continue
        if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found.close()
        else:
            found.detach()


def _kernel_address(text: str, family: socket.AddressFamily) -> tuple[str, int]:
    """``0100007F:1F90`` as the kernel prints it: 32-bit words in host order, port in hexadecimal."""
    host, port = text.split(":")
    words = [int(host[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(host), 8)]
    return socket.inet_ntop(family, b"".join(words)), int(port, 16)


def check_listeners(pid: int | str = "self") -> None:
    """Raise WireError when a process listens anywhere but on loopback."""
    open_to_others = [f"{host}:{port}" for host, port in listeners(pid) if host not in (LOOPBACK, "::1")]
    if open_to_others:
        raise WireError(f"process {pid} listens on {', '.join(open_to_others)}", hint="report this as a bug")
