"""Backups in a bucket of S3, or of a service that speaks as it does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from entgldb.messages.errors import EntglError, ExistsError, NoAnswerError, NotAllowedError, NotFoundError
from entgldb.messages.secret import Secret

RETRY: Final = timedelta(minutes=2)
"""A request is tried again for so long; then the run has failed, and is begun anew later."""
_TEXT_CHARS_MAX: Final = 300


class Bucket:
    """The objects of a bucket that begin with a prefix."""

    def __init__(
        self, bucket: str, prefix: str, options: Mapping[str, Any], *, plaintext: bool = False
    ) -> None:
        """``options`` as obstore has them, any may be a Secret; others are from ``AWS_*`` of the environment.

        ``plaintext``: http is allowed.
        """
        inner = prefix.strip("/")
        clear: dict[str, Any] = {
            name: one.text() if isinstance(one, Secret) else one for name, one in options.items()
        }
        self.place = f"s3://{bucket}/{inner}".rstrip("/")
        self._prefix = f"{inner}/" if inner else ""
        with self._told():
            self._store = S3Store(
                bucket,
                retry_config={"retry_timeout": RETRY},
                client_options={"allow_http": plaintext},
                **clear,
            )

    def put(self, name: str, file: Path) -> None:
        """As Shelf."""
        with self._told():
            try:
                obstore.head(self._store, self._prefix + name)
            except FileNotFoundError:
                obstore.put(self._store, self._prefix + name, file)
                return
        raise ExistsError(f"{self.place}/{name} is there already")

    def digest(self, name: str) -> str:
        """As Shelf."""
        digest = sha256()
        with self._told():
            for chunk in obstore.get(self._store, self._prefix + name).stream():
                digest.update(chunk)
        return digest.hexdigest()

    def remove(self, name: str) -> None:
        """As Shelf."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, self._prefix + name)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as fault:
            raise NotFoundError(f"{self.place}: {_first(fault)}") from None
        except (PermissionDeniedError, UnauthenticatedError) as fault:
            hint = "--credentials FILE, or AWS_* in the environment"
            raise NotAllowedError(f"{self.place}: {_first(fault)}", hint=hint) from None
        except BaseError as fault:
            raise NoAnswerError(f"{self.place}: {_first(fault)}", definite=False) from None
        except ValueError as fault:
            raise EntglError(f"{self.place}: {_first(fault)}") from None


def _first(fault: Exception) -> str:
    """The first line; the library adds its own data structures below."""
    return str(fault).split("\n", 1)[0][:_TEXT_CHARS_MAX]
