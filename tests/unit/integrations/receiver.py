"""A receiver of webhooks on loopback, with answers that a test chooses."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import NamedTuple


class Heard(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """``answers``: status and further headers, one for each POST; then 204."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.hangs_up = False
        """Close each connection after its answer, without having said so."""
        self.heard = SimpleQueue[Heard]()

    def next(self, seconds: float = 30.0) -> Heard:
        return self.heard.get(timeout=seconds)


@contextmanager
def receiver(secure: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """One that serves while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, more = made.answers.pop(0) if made.answers else (204, {})
            made.heard.put(
                Heard(self.path, {name.lower(): text for name, text in self.headers.items()}, body)
            )
            self.send_response(status)
            for name, text in more.items():
                self.send_header(name, text)
            self.send_header("content-length", "0")
            self.end_headers()
            self.close_connection = self.close_connection or made.hangs_up

        def log_message(self, format: str, *arguments: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        if secure is not None:
            server.socket = secure.wrap_socket(server.socket, server_side=True)
        scheme = "http" if secure is None else "https"
        made = Receiver(f"{scheme}://127.0.0.1:{server.server_address[1]}/hook?a=1")
        serving = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        serving.start()
        yield made
        server.shutdown()
        serving.join()
