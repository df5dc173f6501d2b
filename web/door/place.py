"""Where a server listens, and as whom. Loads no HTTP library: the launcher opens the place, too."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import Final, NamedTuple

from entgldb.messages.errors import ConfigError, EntglError, ErrorCode
from entgldb.messages.model import whole_number
from entgldb.web.door.tokens import Tokens

LOOPBACK: Final = frozenset(("127.0.0.1", "localhost", "[::1]"))
ANYWHERE: Final = frozenset(("0.0.0.0", "::"))  # noqa: S104 -- names to compare with
"""All addresses of the machine."""
BACKLOG: Final = 1024
"""Connections that wait for the server to take them; more are refused by the system."""


class Place(NamedTuple):
    """Where a server listens, and as whom."""

    host: str
    port: int
    names: tuple[str, ...] = ()
    """Names that it has beside its address."""
    certificate: Path | None = None
    key: Path | None = None
    tokens: bool = False
    """Whether it asks for a token on loopback, too: there may be other users on this machine."""

    @property
    def is_loopback(self) -> bool:
        """Whether nobody beyond this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def asks(self) -> bool:
        """Whether nobody is served without a token."""
        return self.tokens or not self.is_loopback

    def hosts(self) -> frozenset[str]:
        """The names by which a request may call it."""
        here = self.is_loopback or self.host in ANYWHERE
        return frozenset((*self.names, self._bracketed)) | (LOOPBACK if here else frozenset())

    def url(self, port: int) -> str:
        """Its address for a person; ``port``: the one that it was given."""
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://{self._bracketed}:{port}"

    def check(self, directory: Path) -> None:
        """Beyond loopback there must be TLS; where it asks for a token, one of ``directory``. Raises
        ConfigError."""
        if not self.is_loopback and (self.certificate is None or self.key is None):
            raise ConfigError(
                f"{self.host} is reached from other machines, and there is no TLS",
                hint="--tls-cert FILE --tls-key FILE, or 127.0.0.1",
            )
        if self.asks and not Tokens(directory).all():
            why = "asks for a token" if self.is_loopback else "is reached from other machines"
            raise ConfigError(
                f"{self.host} {why}, and there is no token",
                hint="entgldb http-token add NAME",
            )

    def listen(self) -> socket.socket:
        """A socket that listens here. Raises EntglError in-use, or one that says why it cannot."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.host == "::":
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            made.bind((self.host, self.port))
            made.listen(BACKLOG)
        except OSError as fault:
            made.close()
            raise EntglError(
                f"{self._bracketed}:{self.port} cannot be listened on by HTTP: {fault.strerror}",
                code=ErrorCode.IN_USE,
                hint="another HOST:PORT, or port 0 for any that is free",
            ) from None
        return made

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def read_place(listen: str) -> Place:
    """``HOST:PORT``. Raises ConfigError."""
    host, _, port = listen.rpartition(":")
    number = whole_number(port, 65_535)
    if not host or number is None:
        raise ConfigError(f"{listen!r:.80} is no HOST:PORT", hint="127.0.0.1:8080")
    return Place(host.strip("[]"), number)
