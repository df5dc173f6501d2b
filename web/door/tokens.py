"""Bearer tokens of an HTTP server: kept as hashes, with a scope and collections each.

A token is 32 random bytes, so its SHA-256 needs no salt. The file stands in the node's directory and is read
again when it has changed: a token that is revoked is refused at once.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Final, NamedTuple

from entgldb.messages.errors import (
    ConfigError,
    EntglError,
    ErrorCode,
    InvalidError,
    NotAllowedError,
    NotFoundError,
)
from entgldb.messages.secret import Secret

FILE: Final = "http-tokens.json"
TOKEN_BYTES: Final = 32
TOKENS_MAX: Final = 1000
KEY_ID_CHARS: Final = 12
"""Of the 64 of a digest."""
SCOPES: Final = ("read", "write", "admin")
"""Each with all that stands before it."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Token(NamedTuple):
    """All that is known of a token; not the token."""

    name: str
    digest: str
    scope: str
    collections: tuple[str, ...] = ()
    """The only ones that it is good for; empty: all."""
    at_ms: int = 0


class Tokens:
    """The tokens of one directory."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / FILE
        self._read: tuple[tuple[int, int], list[Token]] = ((0, 0), [])

    def all(self) -> list[Token]:
        """In the order in which they were made. Raises ConfigError for a file that is none."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return []
        mark = (found.st_mtime_ns, found.st_ino)
        if mark != self._read[0]:
            try:
                rows = json.loads(self._file.read_text("utf-8"))
                self._read = mark, [_token(row) for row in rows]
            except (ValueError, TypeError, KeyError) as fault:
                raise ConfigError(
                    f"{self._file} holds no tokens: {fault}", hint="remove it, and add them anew"
                ) from None
        return self._read[1]

    def add(self, name: str, scope: str, collections: Iterable[str], at_ms: int) -> Secret:
        """Make a token; it is shown once and kept nowhere. Raises InvalidError, EntglError already-exists."""
        known = self.all()
        if not _NAME.fullmatch(name):
            raise InvalidError(f"{name!r:.80} is no name", hint="letters, digits, _ . -")
        if scope not in SCOPES:
            raise InvalidError(f"{scope!r:.40} is no scope", hint=", ".join(SCOPES))
        if any(one.name == name for one in known):
            raise EntglError(f"a token {name} is there", code=ErrorCode.EXISTS, hint="revoke it first")
        if len(known) >= TOKENS_MAX:
            raise InvalidError(f"{TOKENS_MAX} tokens are there", hint="entgldb http-token revoke NAME")
        token = Secret(secrets.token_urlsafe(TOKEN_BYTES))
        self._write([*known, Token(name, _digest(token), scope, tuple(sorted(set(collections))), at_ms)])
        return token

    def revoke(self, name: str) -> None:
        """Refuse a token from now on. Raises NotFoundError."""
        known = self.all()
        if not any(one.name == name for one in known):
            raise NotFoundError(f"no token {name!r:.80}", hint="entgldb http-token list")
        self._write([one for one in known if one.name != name])

    def admit(self, token: Secret, scope: str, collection: str | None) -> Token:
        """The token that was brought. Raises EntglError token-refused, NotAllowedError."""
        digest = _digest(token)
        found = next((one for one in self.all() if compare_digest(one.digest, digest)), None)
        if found is None:
            raise EntglError("this token is not known here", code=ErrorCode.TOKEN_REFUSED)
        if SCOPES.index(found.scope) < SCOPES.index(scope):
            raise NotAllowedError(f"token {found.name} is for {found.scope}, this needs {scope}")
        if found.collections and collection not in found.collections:
            raise NotAllowedError(f"token {found.name} is for {', '.join(found.collections)} alone")
        return found

    def key_id(self, name: str) -> str:
        """The beginning of a token's digest, by which the audit log knows it; empty where there is none."""
        return next((one.digest[:KEY_ID_CHARS] for one in self.all() if one.name == name), "")

    def _write(self, tokens: list[Token]) -> None:
        rows = json.dumps([one._asdict() for one in tokens], indent=1)
        made = self._file.with_suffix(".new")
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            opened.write(rows)
            opened.flush()
            os.fsync(opened.fileno())
        made.replace(self._file)


def _digest(token: Secret) -> str:
    return sha256(token.reveal()).hexdigest()


def _token(row: dict[str, object]) -> Token:
    made = Token(
        str(row["name"]),
        str(row["digest"]),
        str(row["scope"]),
        tuple(map(str, row["collections"])),  # type: ignore[call-overload]  # what is no list is refused above
        int(str(row["at_ms"])),
    )
    if made.scope not in SCOPES:
        raise ValueError(f"{made.scope!r} is no scope")
    return made
