"""The HTTP server as a child of the launcher: begun, watched, begun again, ended. No actor knows of it.

The launcher opens the place, so that the address stays while the server is begun again: connections
wait meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Container, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from entgldb.actors.backoff import backoff
from entgldb.launch.node.child import end_with_parent, environment
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.messages.local.actors import HttpState
from entgldb.messages.settings import NodeSettings
from entgldb.web.door.place import ANYWHERE, Place, read_place

COMMAND: Final = (sys.executable, "-m", "entgldb.web")
NEEDS: Final = ("starlette", "uvicorn", "sse_starlette", "prometheus_client", "jinja2")
START_SECONDS_MAX: Final = 30.0
"""A server that does not serve by then is ended and begun again."""
SILENT_SECONDS_MAX: Final = 30.0
"""One that serves says so every five seconds; after so long without a word it is ended."""
BACKOFF_FIRST, BACKOFF_MAX = 0.1, 30.0
HEALTHY_AFTER: Final = 60.0
"""Seconds it must have served for its backoff to begin anew."""
DEATHS_MAX: Final = 3
"""So many in a row are told as an alarm; it is begun again all the same."""
DOWN_SECONDS_MAX: Final = 15.0
"""An alarm, too: it has not served for so long."""
STOP_PATIENCE: Final = 1.5
"""Seconds that it has to end."""
SAID_BYTES_MAX: Final = 4096
"""So much of its last words is kept: a line of them tells why it died."""
LINE_CHARACTERS_MAX: Final = 200
TURN_SECONDS: Final = 5.0
REAP_SECONDS: Final = 0.02
"""Between looks whether one that was killed is gone."""


def require() -> None:
    """Raise EntglError where its libraries are not installed; none of them is loaded here."""
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        raise EntglError(
            f"the HTTP server needs {missing[0]}, which is not installed",
            code=ErrorCode.UNSUPPORTED,
            hint="pip install 'entgldb[http]'",
        )


def place_of(settings: NodeSettings, directory: Path) -> Place:
    """The place that the settings name, with the certificate that others than this machine need to see.

    Raises ConfigError for one beyond loopback that nobody may use yet.
    """
    http, sync = settings.http, settings.sync
    require()
    place = read_place(http.listen)._replace(names=http.names, tokens=http.tokens)
    files = (http.tls_cert, http.tls_key)
    if not files[0] and not place.is_loopback:
        files = (sync.tls_cert, sync.tls_key)
    if files[0]:
        place = place._replace(certificate=Path(files[0]), key=Path(files[1]))
    elif not place.is_loopback:
        place = certified(place, settings, directory)
    place.check(directory)
    return place


def certified(place: Place, settings: NodeSettings, directory: Path) -> Place:
    """The place with a certificate of the cluster's CA for its names; renewed where that is due."""
    from entgldb.actors.tls.http_certificate import http_certificate

    certificate, key = http_certificate(
        directory, settings.store.key_file, settings.store.node_id, _called(place), datetime.now(UTC)
    )
    return place._replace(certificate=certificate, key=key)


def _called(place: Place) -> list[str]:
    """The names and addresses by which others may call it."""
    names = {*place.names, place.host} - ANYWHERE
    if place.host in ANYWHERE:
        from ifaddr import get_adapters  # a node without such a server does not need it

        addresses = [ip.ip for adapter in get_adapters() for ip in adapter.ips]
        # of IPv6: address, flow, scope; a link-local one cannot stand in a certificate with its zone
        names |= {ip if isinstance(ip, str) else ip[0] for ip in addresses} | {socket.gethostname()}
    return sorted(names)


class WebProcess:
    """The server of one node. Times are seconds of the monotonic clock."""

    def __init__(
        self, directory: Path, place: Place, log: Callable[[str], None], command: Sequence[str] = COMMAND
    ) -> None:
        """Opens the place. Raises EntglError in-use. ``log`` is given what the server says."""
        self._command = command
        self._directory, self._place, self._log = directory, place, log
        self._listener = place.listen()
        self.url = place.url(self._listener.getsockname()[1])
        self.restarts = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._ending: subprocess.Popen[bytes] | None = None
        self._control = self._said = -1
        self._last_words = b""
        self._up_at = self._due_at = self._heard_at = 0.0
        self._down_since: float | None = None
        self._deaths = 0
        self._why = ""

    @property
    def up(self) -> bool:
        """Whether it serves, as far as is known."""
        return self._up_at > 0

    def sources(self) -> list[int]:
        """The descriptors by which something is heard of it."""
        return [] if self._process is None else [self._control, self._said]

    def begin(self, now: float) -> None:
        """Start it; whether it serves is heard later."""
        self._control, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._said, words = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        told = {
            "directory": str(self._directory),
            "host": self._place.host,
            "port": self._place.port,
            "names": self._place.names,
            "tokens": self._place.tokens,
            "files": [name and str(name) for name in (self._place.certificate, self._place.key)],
            "listener": self._listener.fileno(),
            "control": theirs,
        }
        self._process = subprocess.Popen(  # noqa: S603 -- this very interpreter and package
            [*self._command, json.dumps(told)],
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            env=environment(),
            pass_fds=(self._listener.fileno(), theirs),
            preexec_fn=end_with_parent,
        )
        os.close(theirs)
        os.close(words)
        self._heard_at, self._last_words = now, b""
        self._down_since = now if self._down_since is None else self._down_since
        self.restarts += 1

    def due(self, now: float) -> float:
        """Seconds until the next turn that nothing may announce."""
        return TURN_SECONDS if self._process is not None else max(REAP_SECONDS, self._due_at - now)

    def turn(self, ready: Container[int], now: float) -> None:
        """Take what is heard of it, and do what is due."""
        if self._process is None:
            # one that waits for a disk ends later than it is killed; the next would wait beside it
            if now >= self._due_at and (self._ending is None or self._ending.poll() is not None):
                self._log(f"begun again: {self._why}")
                self.begin(now)
            return
        if self._said in ready:
            self._hear()
        if self._control in ready and self._beaten(now):
            self._over(self._spoken() or "it died", now)
        elif now - self._heard_at > (SILENT_SECONDS_MAX if self.up else START_SECONDS_MAX):
            self._over(f"it has said nothing for {now - self._heard_at:.0f} s", now)
        elif self.up and now - self._up_at >= HEALTHY_AFTER:
            self._deaths = 0

    def state(self, now: float) -> HttpState:
        """How it is, for status; ``trouble`` where an operator should look."""
        down = 0.0 if self._down_since is None else now - self._down_since
        troubled = self._deaths >= DEATHS_MAX or down > DOWN_SECONDS_MAX
        why = f": {self._why}" if self._why else ""
        text = f"the HTTP server at {self.url} does not stay up, it is begun again and again{why}"
        return HttpState(self.url, "up" if self.up else "down", self.restarts, text if troubled else "")

    def stop(self) -> None:
        """Tell it to end."""
        self._listener.close()
        if self._process is not None:
            self._process.terminate()

    def end(self) -> None:
        """Leave nothing of it behind."""
        self._listener.close()
        for process in filter(None, (self._process, self._ending)):
            process.terminate()
            try:
                process.wait(STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
        self._let_go()

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            said = os.read(self._said, SAID_BYTES_MAX)
            self._last_words = (self._last_words + said)[-SAID_BYTES_MAX:]
            if said:
                self._log(said.decode(errors="replace"))

    def _spoken(self) -> str:
        """The last line that it said."""
        self._hear()
        lines = self._last_words.decode(errors="replace").strip().splitlines()
        return lines[-1][:LINE_CHARACTERS_MAX] if lines else ""

    def _beaten(self, now: float) -> bool:
        """It serves; or it is gone, and its end of the pipe closed: then true."""
        with contextlib.suppress(BlockingIOError):
            if not os.read(self._control, SAID_BYTES_MAX):
                return True
            self._heard_at = now
            if not self.up:
                self._up_at, self._down_since = now, None
        return False

    def _over(self, why: str, now: float) -> None:
        assert self._process is not None
        self._why, self._deaths = why, self._deaths + 1
        self._due_at = now + backoff(self._deaths, BACKOFF_FIRST, BACKOFF_MAX)
        self._up_at, self._down_since = 0.0, now if self._down_since is None else self._down_since
        self._process.kill()
        self._let_go()

    def _let_go(self) -> None:
        if self._process is not None:
            os.close(self._control)
            os.close(self._said)
            self._process, self._ending = None, self._process
