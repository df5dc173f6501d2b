"""``entgldb dev-authority``: a small authorization server on loopback, for trying out and for tests only.

``/control`` changes it while it runs: GET tells its state, POST takes a JSON object with any of
``mode``, ``delay_s``, ``lifetime_s``, ``retry_after_s``, ``rotate``, ``withdraw``, ``algorithm``, ``revoke``,
``allow`` and ``client`` (``{"id": ..., "secret": ...}``, or ``keys`` in place of ``secret``). Modes are what
goes wrong with real servers.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import click

from entgldb.launch.playground.dev_authority_provider import ALGORITHMS, SCOPE, Provider
from entgldb.messages.schema import Json

MODES = ("ok", "down", "hang", "500", "429", "html", "truncated", "huge", "redirect", "empty", "broken-json")
BODY_BYTES_MAX = 64 * 1024
HUGE_BYTES = 64 * 1024 * 1024
HTML = b"<html><body>Please log in to the hotel's network</body></html>"


class DevAuthority(ThreadingHTTPServer):
    """The server; it binds at once, so that ``issuer`` is known before it serves."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        port: int,
        clients: Mapping[str, str],
        *,
        audience: str = "entgldb",
        lifetime_s: int = 300,
        scopes: tuple[str, ...] = (SCOPE,),
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        issuer = f"http://127.0.0.1:{self.server_address[1]}"
        self.provider = Provider(issuer, clients, audience=audience, lifetime_s=lifetime_s, scopes=scopes)
        self.mode = "ok"
        self.delay_s = 0.0
        self.retry_after_s = 0
        self.requests = 0
        self.changed = threading.Condition()
        self.parent_pid = 0
        """End as soon as this process is no longer our parent; 0: never."""

    @property
    def issuer(self) -> str:
        """The URL that clients and cloud nodes are given as authority."""
        return self.provider.issuer

    def control(self, wanted: dict[str, Json]) -> None:
        """Change what is named. Raises ValueError for what cannot be."""
        unknown = set(wanted) - set(_CONTROLS)
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(_CONTROLS)}")
        with self.changed:
            for name, value in wanted.items():
                _CONTROLS[name](self, value)
            self.changed.notify_all()

    def state(self) -> dict[str, Json]:
        """The counts that tests look at; no secrets."""
        provider = self.provider
        return {
            "authority": self.issuer,
            "issued": provider.issued,
            "requests": self.requests,
            "mode": self.mode,
            "lifetime_s": provider.lifetime_s,
            "kid": provider.keys[0].kid,
            "clients": sorted(set(provider.clients) - provider.revoked),
        }

    def service_actions(self) -> None:
        """Called by serve_forever at every poll."""
        if self.parent_pid and os.getppid() != self.parent_pid:
            self.parent_pid = 0
            self.stop_soon()

    def stop_soon(self) -> None:
        """End serve_forever from inside it: shutdown waits for it, so another thread must call that."""
        threading.Thread(target=self.shutdown, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is no news; anything else is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def serve(
    port: int,
    clients: Mapping[str, str],
    *,
    audience: str = "entgldb",
    lifetime_s: int = 300,
    scopes: tuple[str, ...] = (SCOPE,),
    parent_pid: int = 0,
    ready: Callable[[DevAuthority], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, or until ``parent_pid`` is no longer our parent.

    ``ready`` is called once connections are taken. Raises OSError when the port cannot be had.
    """
    server = DevAuthority(port, clients, audience=audience, lifetime_s=lifetime_s, scopes=scopes)

    server.parent_pid = parent_pid
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop_soon())
    with server:
        if ready is not None:
            ready(server)
        server.serve_forever(poll_interval=0.1)


def _set_mode(server: DevAuthority, mode: Json) -> None:
    if mode not in MODES:
        raise ValueError(f"mode is one of {', '.join(MODES)}")
    server.mode = mode


def _set_algorithm(server: DevAuthority, name: Json) -> None:
    if name not in ALGORITHMS:
        raise ValueError(f"algorithm is one of {', '.join(ALGORITHMS)}")
    server.provider.rotate(withdraw=False, algorithm=name)


def _set_client(server: DevAuthority, client: Json) -> None:
    if "keys" in client:
        server.provider.register_keys(str(client["id"]), list(client["keys"]))
    else:
        server.provider.clients[str(client["id"])] = str(client["secret"])


_CONTROLS: dict[str, Callable[[DevAuthority, Json], None]] = {
    "mode": _set_mode,
    "delay_s": lambda server, value: setattr(server, "delay_s", float(value)),
    "retry_after_s": lambda server, value: setattr(server, "retry_after_s", int(value)),
    "lifetime_s": lambda server, value: setattr(server.provider, "lifetime_s", int(value)),
    "rotate": lambda server, value: server.provider.rotate(withdraw=False),
    "algorithm": _set_algorithm,
    "withdraw": lambda server, value: server.provider.rotate(withdraw=True),
    "revoke": lambda server, value: server.provider.revoked.add(str(value)),
    "allow": lambda server, value: server.provider.revoked.discard(str(value)),
    "client": _set_client,
}


class _Handler(BaseHTTPRequestHandler):
    server: DevAuthority
    timeout = 30

    def do_GET(self) -> None:
        if self.path == "/control":
            self._json(self.server.state())
        elif self._well():
            provider = self.server.provider
            texts = {
                "/.well-known/oauth-authorization-server": provider.metadata,
                "/jwks": provider.jwks,
            }
            found = texts.get(self.path)
            self._json({"error": "not_found"}, 404) if found is None else self._text(200, found())

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 <= length <= BODY_BYTES_MAX:
            self._json({"error": "invalid_request"}, 413)
            return
        body = self.rfile.read(length).decode("utf-8", "replace")
        if self.path == "/control":
            self._control(body)
        elif self._well():
            if self.path == "/token":
                headers, text, status = self.server.provider.issue(body, dict(self.headers.items()))
                self._text(status, text, headers)
            else:
                self._json({"error": "not_found"}, 404)

    def _control(self, body: str) -> None:
        # a web page cannot send this type across origins without being asked first
        if self.headers.get_content_type() != "application/json":
            self._json({"error": "Content-Type must be application/json"}, 415)
            return
        try:
            self.server.control(json.loads(body))
        except (ValueError, TypeError, KeyError) as fault:
            self._json({"error": str(fault)}, 400)
        else:
            self._json(self.server.state())

    def _well(self) -> bool:
        """Misbehave as told; True when a proper answer is to be given."""
        server = self.server
        with server.changed:
            server.requests += 1
            if server.delay_s:
                server.changed.wait(server.delay_s)
            while server.mode == "hang":
                server.changed.wait()
            mode = server.mode
        if mode != "ok":
            self._misbehave(mode)
        return mode == "ok"

    def _misbehave(self, mode: str) -> None:
        self.close_connection = True
        if mode in ("500", "429"):
            self._text(int(mode), "{}", {"Retry-After": str(self.server.retry_after_s)})
        elif mode == "redirect":
            self._text(302, "", {"Location": "http://169.254.169.254/latest/meta-data/"})
        elif mode == "truncated":
            self._raw(200, b'{"access_token": "cut', length=4096)
        elif mode == "huge":
            self._raw(200, b" " * HUGE_BYTES, length=HUGE_BYTES)
        elif mode in ("html", "empty", "broken-json"):
            body = {"html": HTML, "empty": b"", "broken-json": b'{"access_token": '}[mode]
            self._raw(200, body, "text/html" if mode == "html" else "application/json")

    def _json(self, body: dict[str, Json], status: int = 200) -> None:
        self._text(status, json.dumps(body))

    def _text(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        self._raw(status, text.encode(), headers=headers)

    def _raw(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        *,
        length: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: requests carry secrets."""


@click.command("dev-authority")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; 0 picks one.")
@click.option("--client", "clients", multiple=True, metavar="ID:SECRET", help="A client; may be repeated.")
@click.option("--audience", default="entgldb", show_default=True, help="Audience where none is asked for.")
@click.option("--scope", "scopes", multiple=True, default=(SCOPE,), show_default=True, help="Scopes granted.")
@click.option("--lifetime", type=click.IntRange(1, 3600), default=300, show_default=True, help="Seconds.")
@click.option("--with-parent", is_flag=True, help="End when the process that started this one ends.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object when ready.")
def dev_authority(
    port: int,
    clients: tuple[str, ...],
    audience: str,
    scopes: tuple[str, ...],
    lifetime: int,
    with_parent: bool,
    as_json: bool,
) -> None:
    """A small authorization server on loopback, for trying out and tests only.

    Without --client it makes up one client and prints its secret. Ctrl-C ends it.

    \b
    Example: entgldb dev-authority --port 9090 --client gateway:s3cret
    """
    parent_pid = os.getppid() if with_parent else 0
    known = dict(_client(text) for text in clients) or {"dev": secrets.token_urlsafe(24)}

    def ready(server: DevAuthority) -> None:
        facts = {"schema_version": 1, "authority": server.issuer, "control": f"{server.issuer}/control"}
        if as_json:
            shown = {} if clients else {"clients": known}
            click.echo(json.dumps({**facts, **shown}))
            return
        click.echo(f"authority  {server.issuer}\naudience   {audience}\nscopes     {' '.join(scopes)}")
        for client_id, secret in known.items():
            click.echo(f"client     {client_id}" + ("" if clients else f"  secret {secret}"))
        click.echo(f"controls   {facts['control']}\nFor trying out and tests only. Ctrl-C ends it.")

    try:
        serve(
            port,
            known,
            audience=audience,
            lifetime_s=lifetime,
            scopes=scopes,
            parent_pid=parent_pid,
            ready=ready,
        )
    except OSError as fault:
        raise click.ClickException(f"port {port} cannot be used: {fault.strerror}") from None


def _client(text: str) -> tuple[str, str]:
    client_id, colon, secret = text.partition(":")
    if not (client_id and colon and secret):
        raise click.UsageError("--client is ID:SECRET")
    return client_id, secret
