"""TestPeer's steps towards one cloud peer: dns, tcp, tls, token, hello, clock.

A probe says Hello under a node id of its own, so that it never meets the link of the gateway itself.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from entgldb.actors.gateway import cloud_hello
from entgldb.actors.oauth.client import HttpTokenSource, Token
from entgldb.actors.oauth.http import AuthorityError
from entgldb.actors.ports import CloudTarget
from entgldb.actors.side_loop import SideLoop
from entgldb.actors.tls.identity import classify, cloud_context
from entgldb.messages import codec, wire
from entgldb.messages.errors import EntglError, Reason, SecretError
from entgldb.messages.framing import PREFIX_BYTES, frame, payload_length
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.local.actors import ProbeDone
from entgldb.messages.remote_peers import OAuth2, split_address
from entgldb.messages.schema import Channel, Json, Message

PROBE_SECONDS_MAX = 5.0
"""Each of dns, tcp, tls and hello; the token has the bounds of its own."""
DAY_SECONDS = 86_400


class ProbeError(EntglError):
    """A step failed for the reason in its text."""


Fetch = Callable[[str, OAuth2], Awaitable[Token]]
"""A token for a cloud peer, by its node id."""


class Pipe(NamedTuple):
    """An open TLS connection to a cloud peer."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class CloudProber:
    """Implements ``ports.Prober`` on a side loop."""

    def __init__(self, loop: SideLoop, tokens: HttpTokenSource) -> None:
        self._loop = loop
        self._tokens = tokens

    def probe(self, ticket: int, target: CloudTarget, oauth2: OAuth2) -> None:
        """Begin; ProbeDone with this ``ticket`` will be posted, exactly one."""
        self._loop.post_outcome(self._outcome(ticket, target, oauth2))

    async def _outcome(self, ticket: int, target: CloudTarget, oauth2: OAuth2) -> Message:
        return ProbeDone(ticket, tuple(await run_probe(target, oauth2, self._tokens.fetch)))


async def run_probe(target: CloudTarget, oauth2: OAuth2, fetch: Fetch) -> list[Json]:
    """All six steps in order, each ``{"name", "ok", "ms", "detail"}``; a step that another needs and that
    failed leaves the later one untried."""
    steps = _Steps()
    host, port = split_address(target.address)
    with steps.step("dns") as dns:
        dns.detail = await _resolve(host, port)
    async with _connection(steps, host, port, target.ca_pem) as pipe:
        token: Token | None = None
        with steps.step("token") as step:
            token, by = await _token(fetch, target.node_id, oauth2)
            step.detail = f"lives {token.expires_in:.0f} s{by}"
        offset_ms: int | None = None
        with steps.step("hello") as step:
            offset_ms, step.detail = await _greet(pipe, token, target)
        with steps.step("clock") as step:
            step.detail = _judge_clock(offset_ms)
    return steps.done


class _Step:
    def __init__(self, steps: _Steps, name: str) -> None:
        self.steps = steps
        self.name = name
        self.detail = ""

    def __enter__(self) -> _Step:
        self.began = time.monotonic()
        return self

    def __exit__(self, kind: Any, fault: BaseException | None, trace: Any) -> bool:
        """Note how it went; an ordinary failure ends the step alone."""
        if fault is not None and not isinstance(fault, Exception):
            return False
        ms = round((time.monotonic() - self.began) * 1000, 1)
        detail = self.detail if fault is None else _explain(fault)
        self.steps.done.append({"name": self.name, "ok": fault is None, "ms": ms, "detail": detail})
        return True


class _Steps:
    def __init__(self) -> None:
        self.done: list[Json] = []

    def step(self, name: str) -> _Step:
        return _Step(self, name)


@asynccontextmanager
async def _connection(steps: _Steps, host: str, port: int, ca_pem: str) -> AsyncIterator[Pipe | None]:
    """The steps tcp and tls, and the connection they opened, kept until the later steps are through."""
    pipe: Pipe | None = None
    secured = False
    with steps.step("tcp") as step:
        if not steps.done[-1]["ok"]:
            raise ProbeError("not tried: the name was not resolved")
        async with asyncio.timeout(PROBE_SECONDS_MAX):
            pipe = Pipe(*await asyncio.open_connection(host, port))
        step.detail = "to {}".format(pipe.writer.get_extra_info("peername")[0])
    try:
        with steps.step("tls") as step:
            if pipe is None:
                raise ProbeError("not tried: no connection was opened")
            async with asyncio.timeout(PROBE_SECONDS_MAX):
                await pipe.writer.start_tls(cloud_context(ca_pem), server_hostname=host)
            secured = True
            step.detail = _describe(pipe.writer.get_extra_info("peercert"))
        yield pipe if secured else None
    finally:
        if pipe is not None:
            pipe.writer.transport.abort()


async def _token(fetch: Fetch, node_id: str, oauth2: OAuth2) -> tuple[Token, str]:
    """A token, and a word about the secret where the new one is refused and the one before still counts."""
    try:
        return await fetch(node_id, oauth2.settled), ""
    except (AuthorityError, SecretError) as fault:
        if not oauth2.overlaps(int(time.time() * 1000)) or not getattr(fault, "by_client", True):
            raise
        return await fetch(node_id, oauth2.before), f", by the secret before; with the new one: {fault.text}"


async def _resolve(host: str, port: int) -> str:
    async with asyncio.timeout(PROBE_SECONDS_MAX):
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return ", ".join(dict.fromkeys(str(address[0]) for *_, address in found))


def _describe(certificate: dict[str, Any]) -> str:
    """The issuer of the certificate, and how many days are left."""
    issuer = {key: value for part in certificate.get("issuer", ()) for key, value in part}
    name = issuer.get("organizationName") or issuer.get("commonName") or "unnamed issuer"
    days = (ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / DAY_SECONDS
    return f"{name}, {days:.0f} d left"


async def _greet(pipe: Pipe | None, token: Token | None, target: CloudTarget) -> tuple[int, str]:
    """Say Hello; the peer's clock minus ours in ms, and what it said."""
    if pipe is None or token is None:
        raise ProbeError("not tried: it needs tls and a token")
    began, sent_ms = time.monotonic(), time.time() * 1000
    async with asyncio.timeout(PROBE_SECONDS_MAX):
        await _send(pipe, _hello(token, target.cluster, int(sent_ms)))
        hello = await _receive(pipe)
    if isinstance(hello, wire.Bye):
        raise ProbeError(f"refused: {hello.reason} {hello.text}".rstrip())
    if not isinstance(hello, wire.Hello):
        raise ProbeError("the peer did not say Hello")
    # a probe has a name that nobody has
    found = cloud_hello.fault(hello, target.node_id, own="")
    if found is not None:
        reason, text = found
        raise ProbeError(f"{reason.value}: {text}")
    await _send(pipe, wire.Bye(Reason.PEER_CLOSED.value, "a probe"))
    half_way_ms = sent_ms + (time.monotonic() - began) * 500
    return round(hello.clock_ms - half_way_ms), f"protocol {hello.protocol_max}, role {hello.role}"


def _judge_clock(offset_ms: int | None) -> str:
    if offset_ms is None:
        raise ProbeError("not tried: the peer did not say Hello")
    text = f"offset {offset_ms / 1000:+.1f} s"
    if abs(offset_ms) > DRIFT_MS_MAX:
        raise ProbeError(f"{text}, more than {DRIFT_MS_MAX // 1000} s: entries would be held back")
    return text


def _hello(token: Token, cluster: str, clock_ms: int) -> wire.Hello:
    node_id = f"probe-{secrets.token_hex(4)}"
    return wire.Hello(
        protocol_min=wire.PROTOCOL_MIN,
        protocol_max=wire.PROTOCOL_MAX,
        node_id=node_id,
        origin=f"{node_id}/{secrets.token_hex(16)}",
        cluster=cluster,
        features=(wire.PROBE,),
        clock_ms=clock_ms,
        role="lan",
        token=token.text,
    )


async def _send(pipe: Pipe, message: Message) -> None:
    pipe.writer.write(frame(codec.encode(message)))
    await pipe.writer.drain()


async def _receive(pipe: Pipe) -> Message:
    prefix = await pipe.reader.readexactly(PREFIX_BYTES)
    payload = await pipe.reader.readexactly(payload_length(prefix))
    return codec.decode(payload, Channel.PEER).message


def _explain(fault: Exception) -> str:
    if isinstance(fault, AuthorityError):
        return f"{fault.reason.value}: {fault.text}"
    if isinstance(fault, EntglError):
        return fault.text
    if isinstance(fault, asyncio.IncompleteReadError):
        return f"{Reason.PEER_CLOSED.value}: the peer closed the connection"
    reason, text = classify(fault)
    return f"{reason.value}: {text}"
