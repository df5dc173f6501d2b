"""One POST over a connection that is kept open. It follows no redirect and reads little of an answer."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from entgldb.messages.errors import ConfigError

ANSWER_BYTES_MAX: Final = 64 * 1024
RETRY_AFTER_SECONDS_MAX: Final = 3600.0


class Answer(NamedTuple):
    """The answer to a POST, or the reason why there is none."""

    status: int
    """0: there is none."""
    why: str = ""
    retry_after: float = 0.0
    """Seconds that the receiver asks for."""


class Poster:
    """Posts to one URL."""

    def __init__(self, url: str, ca_file: str, timeout: float) -> None:
        """``ca_file``: PEM of the CAs that are trusted; empty: the system's. Raises ConfigError for a bad
        one."""
        parts = urlsplit(url)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host, port = parts.hostname or "", parts.port
        try:
            secure = ssl.create_default_context(cafile=ca_file or None)
        except OSError as fault:
            raise ConfigError(f"{ca_file}: {fault.strerror or fault}") from None
        self._connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(host, port, timeout=timeout, context=secure)
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=timeout)
        )

    def __call__(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer to ``body``."""
        kept = self._connection.sock is not None
        try:
            try:
                answer = self._asked(body, headers)
            except ConnectionError:
                if not kept:
                    raise
                # receivers end connections on which nothing came for some seconds, without a word
                self.close()
                answer = self._asked(body, headers)
        except (OSError, http.client.HTTPException) as fault:
            self.close()
            return Answer(0, f"{type(fault).__name__}: {fault}"[:200])
        asked = answer.headers.get("Retry-After", "")
        wait = min(float(asked), RETRY_AFTER_SECONDS_MAX) if asked.isdecimal() and len(asked) < 9 else 0.0
        return Answer(answer.status, f"{answer.status} {answer.reason}"[:200], wait)

    def _asked(self, body: bytes, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        self._connection.request("POST", self._path, body, dict(headers))
        answer = self._connection.getresponse()
        if len(answer.read(ANSWER_BYTES_MAX)) == ANSWER_BYTES_MAX:
            self.close()
        return answer

    def close(self) -> None:
        """The next POST opens a connection."""
        self._connection.close()
