"""Links over TLS: implements ``ports.Links`` for sync (LAN, and the cloud's listener) and the gateway.

Nothing is decided here but what a socket can decide: limits, time limits, and who holds which key.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import socket
import ssl
import time
from asyncio.sslproto import SSLProtocol
from typing import Final

from entgldb.actors.line import NOTHING, Flow
from entgldb.actors.ports import CloudTarget
from entgldb.actors.side_loop import SideLoop
from entgldb.actors.tls.entrance import Entrance
from entgldb.actors.tls.first_record import first_record
from entgldb.actors.tls.identity import LanIdentity, ServerIdentity, classify, cloud_context
from entgldb.actors.tls.link import Link
from entgldb.actors.tls.proxy_header import FIXED_BYTES, is_local, is_trusted, rest_bytes, source
from entgldb.messages import codec
from entgldb.messages.errors import ConfigError, EntglError, ErrorCode, ProtocolError, Reason
from entgldb.messages.framing import frame
from entgldb.messages.local.actors import FrameIn, LinkDown
from entgldb.messages.remote_peers import join_address, split_address
from entgldb.messages.schema import Message

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS_MAX: Final = 8.0
"""A TLS handshake that takes longer is given up: it goes three times over a line with seconds of delay."""
DIAL_SECONDS_MAX: Final = 12.0
"""The same, with the way to it (name, TCP connection)."""
SHUTDOWN_SECONDS_MAX: Final = 1.0
"""How long the other side may take to answer our close."""
READ_AHEAD_BYTES_MAX: Final = 16 * 1024 * 1024
"""Received and not yet taken by the actor; beyond it the sockets are not read."""
RENEWAL_SECONDS: Final = 3600.0
"""Seconds between looks at the age of the own certificate, if nothing else gives reason to look."""
RENEWAL_LOOK_SECONDS: Final = 5.0
"""Seconds between looks at whether the wall clock was set or a handshake refused."""
CLOCK_SET_SECONDS: Final = 60.0
"""The wall clock was set when it has moved by so much more or less than the monotonic one."""
TLS_READ_BYTES: Final = 32 * 1024
"""Each link has a buffer of so many bytes for what is not decrypted yet: two records of TLS."""
TURNS_SECONDS: Final = 0.5
"""Between two looks at whose turn is over, while others wait."""
BACKLOG: Final = 1_024
"""Connections that the system keeps until they are accepted, or as many as it is set to."""
ACCEPT_PAUSE_SECONDS: Final = 0.1
"""After an accept that failed for want of descriptors."""


# by itself 256 KiB, all of it touched; there is no parameter for it
SSLProtocol.max_size = TLS_READ_BYTES


class TlsLinks:
    """Listens and dials. ``loop`` may be started before or after; it closes everything when it stops."""

    def __init__(
        self,
        loop: SideLoop,
        *,
        lan: LanIdentity | None = None,
        listen: str = "",
        server: ServerIdentity | None = None,
        links_max: int = 0,
        balancers: tuple[str, ...] = (),
    ) -> None:
        """``lan``: member of a cluster; ``server``: cloud role. ConfigError where ``listen`` is taken.

        ``links_max``: see ``Entrance``. ``balancers``: the only ones who may connect, each time with a PROXY
        header; empty: anybody may, without.
        """
        self.loop = loop
        self._lan = lan
        self._identity = server or lan
        self._links: dict[int, Link] = {}
        self._numbers = itertools.count(1)
        self._entrance = Entrance(links_max)
        self._balancers = balancers
        self._turns: dict[int, asyncio.Future[bool]] = {}
        """Connections that wait for their turn."""
        self._looks: asyncio.TimerHandle | None = None
        self._unread_bytes = 0
        self._paused: list[Link] = []
        self._refused = False
        """Whether a handshake failed since the own certificate was looked at."""
        if listen and self._identity is None:
            raise ConfigError("a listener needs a certificate")
        self._listener = _listener(listen) if listen else None
        self._port = 0 if self._listener is None else int(self._listener.getsockname()[1])
        loop.at_end(self._end)
        if self._listener is not None:
            loop.spawn(self._accept(self._listener))
        if lan is not None:
            loop.spawn(self._renew(lan, _wall_ahead()))

    # --- ports.Links, main thread ---------------------------------------------------------------------

    def dial(self, address: str) -> int:
        if self._lan is None:
            raise ConfigError("this node has no cluster key to dial LAN peers with")
        link = self._new(address, lan=True)
        self.loop.spawn(self._dial_lan(link, self._lan))
        return link.number

    def dial_cloud(self, target: CloudTarget) -> int:
        link = self._new(target.address, lan=False)
        self.loop.spawn(self._dial_cloud(link, target.ca_pem))
        return link.number

    def send(self, link: int, message: Message) -> bool:
        found = self._links.get(link)
        if found is None:
            return False
        if found.writer.queue(frame(codec.encode(message))):
            return True
        self.loop.call(found.abort, Reason.SLOW_READER, "the peer does not read what it is sent")
        return False

    def flow(self, link: int) -> Flow:
        found = self._links.get(link)
        return NOTHING if found is None else found.flow()

    def close(self, link: int, reason: str, text: str = "") -> None:
        found = self._links.get(link)
        if found is not None:
            self.loop.call(found.finish, reason, text)

    def admit(self, link: int, client_id: str) -> None:
        found = self._links.get(link)
        if found is not None:
            self.loop.call(found.admit, client_id)

    def good_until_ms(self) -> int:
        return 0 if self._identity is None else self._identity.good_until_ms

    def port(self) -> int:
        return self._port

    # --- link.LinkOwner -----------------------------------------------------------------------------------

    def peer_of(self, transport: asyncio.BaseTransport) -> tuple[str, str, str]:
        assert self._lan is not None
        tls = transport.get_extra_info("ssl_object")
        key = self._lan.key_shown(tls.getpeercert(binary_form=True))
        return self._lan.peer_of(tls.getpeercert()), key, self._lan.key_id_of(tls.context)

    def frame_in(self, link: Link, payload: bytes) -> None:
        """Hand one frame to the actor; while it does not keep up, stop reading."""
        if self.loop.backlog() == 0:
            self._unread_bytes = 0
        self._unread_bytes += len(payload)
        if self._unread_bytes > READ_AHEAD_BYTES_MAX and link not in self._paused:
            link.writer.read_on(False)
            self._paused.append(link)
            self.loop.when_drained(self._read_on)
        self.loop.post(FrameIn(link.number, payload))

    def forget(self, link: Link) -> None:
        self._links.pop(link.number, None)
        self._entrance.leave(link.number)
        if self._entrance.crowded:
            self._look_at_turns()

    def proved(self, link: Link, who: str) -> None:
        gone = self._entrance.proved(link.number, who)
        if gone is not None:
            self._links[gone].abort(Reason.TOO_MANY_LINKS, f"{who} has opened others since")
        if self._entrance.crowded:
            self._look_at_turns()

    # --- loop -----------------------------------------------------------------------------------------

    def _new(self, address: str, *, lan: bool, inbound: bool = False) -> Link:
        link = Link(self, next(self._numbers), address, inbound=inbound, lan=lan)
        self._links[link.number] = link
        return link

    def _read_on(self) -> None:
        self._unread_bytes = 0
        paused, self._paused = self._paused, []
        for link in paused:
            link.writer.read_on(True)

    async def _dial_cloud(self, link: Link, ca_pem: str) -> None:
        try:
            context = cloud_context(ca_pem)
        except (ssl.SSLError, ValueError) as fault:
            link.down(Reason.TLS_REFUSED, f"caPem holds no usable certificate: {fault}")
            return
        await self._dial(link, [(context, "")])

    async def _dial_lan(self, link: Link, lan: LanIdentity) -> None:
        """By the cluster key that counts; where the other side does not know it yet, by one of before."""
        await self._dial(link, [(card.client, card.name) for card in lan.cards])

    async def _dial(self, link: Link, ways: list[tuple[ssl.SSLContext, str]]) -> None:
        """``ways``: contexts to try, each with the name that is asked for; empty: the host's, verified."""
        try:
            host, port = split_address(link.address)
            async with asyncio.timeout(DIAL_SECONDS_MAX):
                for context, name in ways:
                    try:
                        await self._connect(link, context, host, port, name or host)
                        return
                    except ssl.SSLCertVerificationError as fault:
                        if (context, name) == ways[-1] or classify(fault)[0] is not Reason.TLS_REFUSED:
                            raise
        except EntglError as fault:
            link.down(Reason.INVALID, fault.text)
        except (OSError, ValueError) as fault:
            self._unopened(link, fault)

    @staticmethod
    async def _connect(link: Link, context: ssl.SSLContext, host: str, port: int, name: str) -> None:
        await asyncio.get_running_loop().create_connection(
            lambda: link,
            host,
            port,
            ssl=context,
            server_hostname=name,
            ssl_handshake_timeout=HANDSHAKE_SECONDS_MAX,
            ssl_shutdown_timeout=SHUTDOWN_SECONDS_MAX,
            happy_eyeballs_delay=0.25,
        )

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    sock, address = await loop.sock_accept(listener)
                except OSError as fault:  # out of descriptors, or gone before it was taken
                    log.warning("%s: cannot accept a link: %s", self.loop.name, fault.strerror)
                    await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                    continue
                self._take(sock, host_of(address), address[1])

    def _take(self, sock: socket.socket, host: str, port: int) -> None:
        reason = self._shut_to(host)
        if reason is not None:
            sock.close()
            self.loop.post(LinkDown(next(self._numbers), reason, f"{host} was turned away"))
            return
        sock.setblocking(False)
        # asyncio does so only where the socket names its protocol; an accepted one does not
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = self._new(join_address(host, port), lan=self._identity is self._lan, inbound=True)
        for number in self._entrance.enter(link.number, host):
            self._links[number].abort(Reason.TOO_MANY_LINKS, "others came that had proved as little")
        self.loop.spawn(self._greet(link, sock))

    def _shut_to(self, host: str) -> Reason | None:
        """Why a connection from there is not taken at all; None: it is."""
        if self._balancers and not is_trusted(host, self._balancers):
            return Reason.NOT_ALLOWED
        return Reason.TOO_MANY_LINKS if self._entrance.full() else None

    async def _greet(self, link: Link, sock: socket.socket) -> None:
        assert self._identity is not None
        link.greeting = asyncio.current_task()
        if link.writer.over:
            sock.close()
            return
        try:
            if self._balancers and not await self._read_proxy(link, sock):
                return
            if not await self._has_turn(link, sock):
                return
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: link,
                sock,
                ssl=self._identity.server,
                ssl_handshake_timeout=HANDSHAKE_SECONDS_MAX,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS_MAX,
            )
        except OSError as fault:
            self._unopened(link, fault)
        finally:
            link.greeting = None  # a task that was cancelled keeps its frames, too

    async def _has_turn(self, link: Link, sock: socket.socket) -> bool:
        """Wait until the client has begun and may be spoken to; False: it is down. Raises OSError."""
        begun = False
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS_MAX):
                begun = await first_record(sock)
            if begun:
                self._entrance.ready(link.number)
                self._turns[link.number] = asyncio.get_running_loop().create_future()
                self._look_at_turns()
                begun = False
                begun = await self._turns[link.number]
        except TimeoutError:
            link.down(Reason.HANDSHAKE_TIMEOUT, "no handshake of TLS began")
        finally:
            self._turns.pop(link.number, None)
            if not begun:
                sock.close()
                link.down(Reason.TLS_REFUSED, "the peer ended the connection before any handshake")
        return begun

    def _look_at_turns(self) -> None:
        """Whenever somebody comes or goes; and now and then while somebody waits."""
        come, gone = self._entrance.turns(time.monotonic())
        for number in gone:
            self._links[number].abort(Reason.TOO_MANY_LINKS, "others came that had proved as little")
        for number in come:
            if number in self._turns and not self._turns[number].done():
                self._turns[number].set_result(True)
        if self._entrance.crowded and self._looks is None:
            self._looks = asyncio.get_running_loop().call_later(TURNS_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._looks = None
        self._look_at_turns()

    async def _read_proxy(self, link: Link, sock: socket.socket) -> bool:
        """The link is from the client that a balancer names; False: it is down. Raises OSError."""
        found, ended = None, True
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS_MAX):
                fixed = await _exactly(sock, FIXED_BYTES)
                rest = await _exactly(sock, rest_bytes(fixed))
            if is_local(fixed):
                self.forget(link)  # it is no link, and nothing to count
            else:
                found, ended = source(fixed, rest), False
        except TimeoutError:
            link.down(Reason.HANDSHAKE_TIMEOUT, "the PROXY header of the connection did not come")
        except ProtocolError as fault:
            link.down(Reason.MALFORMED, fault.text)
        finally:
            if ended:
                sock.close()
        if found is not None:
            link.address = join_address(*found)
            for number in self._entrance.enter(link.number, found[0]):
                self._links[number].abort(Reason.TOO_MANY_LINKS, "others came that had proved as little")
        return not ended

    def _unopened(self, link: Link, fault: BaseException) -> None:
        reason, text = _unopened(fault)
        self._refused = self._refused or reason in (Reason.CLOCK, Reason.TLS_REFUSED)
        link.down(reason, text)
        # asyncio keeps the frames of a failed handshake in a circle with its fault, and with them all that
        # TLS has taken, until the collector comes: a flood of strangers takes memory meanwhile
        fault.__traceback__ = None

    async def _renew(self, lan: LanIdentity, apart: float) -> None:
        looked = time.monotonic()
        while True:
            await asyncio.sleep(RENEWAL_LOOK_SECONDS)
            was_set = abs(_wall_ahead() - apart) > CLOCK_SET_SECONDS
            if not (was_set or self._refused or time.monotonic() - looked > RENEWAL_SECONDS):
                continue
            looked, apart, self._refused = time.monotonic(), _wall_ahead(), False
            try:
                if await asyncio.to_thread(lan.renew_if_due):
                    log.info("%s: the certificate of this node was renewed", self.loop.name)
            except OSError as fault:
                log.warning("%s: the certificate cannot be renewed yet: %s", self.loop.name, fault)

    async def _end(self) -> None:
        """Write what is queued, say goodbye in TLS, and be gone."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        for link in list(self._links.values()):
            link.finish(Reason.STOPPING, "this node stops")
        try:
            async with asyncio.timeout(SHUTDOWN_SECONDS_MAX):
                while self._links:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            for link in list(self._links.values()):
                link.abort(Reason.STOPPING, "this node stops")


def _listener(listen: str) -> socket.socket:
    """Bound at once, so that the port is known and a taken one is a fault of the start."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    try:
        found = _bound(host, int(port))
    except (OSError, ValueError, OverflowError) as fault:
        taken = isinstance(fault, OSError) and fault.errno == errno.EADDRINUSE
        raise ConfigError(
            f"cannot listen at {listen!r}: {fault}",
            code=ErrorCode.IN_USE if taken else ErrorCode.CONFIG,
            hint="give another port in the configuration",
        ) from None
    found.setblocking(False)
    return found


def _bound(host: str, port: int) -> socket.socket:
    """``::`` is all addresses, of IPv4 too, and those alone where the machine has no IPv6."""
    if host == "::" and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"  # noqa: S104 -- what was asked for
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = socket.getaddrinfo(host or None, port, family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)[0][4]
    return socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=host == "::")


def host_of(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """The host of a socket's address as others write it: with its zone, and IPv4 as IPv4."""
    host = address[0].removeprefix("::ffff:") if "." in address[0] else address[0]
    if len(address) == 4 and address[3] and "%" not in host:
        host = f"{host}%{socket.if_indextoname(address[3])}"
    return host


async def _exactly(sock: socket.socket, size: int) -> bytes:
    """So many bytes and none beyond, which are for TLS. Raises ProtocolError at an early end."""
    found = b""
    while len(found) < size:
        more = await asyncio.get_running_loop().sock_recv(sock, size - len(found))
        if not more:
            raise ProtocolError("the connection ended within its PROXY header")
        found += more
    return found


def _wall_ahead() -> float:
    """The wall clock less the monotonic clock: the difference stays as it is until somebody sets the
    clock."""
    return time.time() - time.monotonic()


def _unopened(fault: BaseException) -> tuple[Reason, str]:
    """Why a link never opened. asyncio refuses without a TLS alert: the other side sees only the end."""
    if isinstance(fault, ConnectionResetError | BrokenPipeError):
        return Reason.TLS_REFUSED, "the peer broke the handshake off, as with another cluster key"
    return classify(fault)
