"""A secret, from where it is read until where it is used: nothing prints, logs or pickles it in passing.

Python cannot erase it: bytes and texts are copied as they are used and freed without being overwritten.
"""

from __future__ import annotations

import hmac
from typing import Any, Final, NoReturn, final

HIDDEN: Final = "<secret>"


@final
class Secret:
    """A key, a password or a code. Only ``reveal`` and ``text`` give it away.

    Its repr hides it, as a repr that failed would take the log line or the traceback with it that somebody
    needs. Other conversions raise TypeError: a placeholder must not be sent in the place of a password.
    """

    __slots__ = ("_clear",)

    def __init__(self, clear: bytes | str) -> None:
        """``clear``: a text stands for its UTF-8."""
        self._clear = clear if isinstance(clear, bytes) else clear.encode("utf-8", "surrogatepass")

    def reveal(self) -> bytes:
        """In clear, for the call that uses it: hold no name for what it gives."""
        return self._clear

    def text(self) -> str:
        """The same as a text. Raises UnicodeDecodeError for a secret that is none."""
        return self._clear.decode("utf-8", "surrogatepass")

    def __len__(self) -> int:
        """Its bytes."""
        return len(self._clear)

    def __eq__(self, other: object) -> bool:
        """In a time that does not depend on where they differ. A text or bytes are never equal to it."""
        return isinstance(other, Secret) and hmac.compare_digest(self._clear, other._clear)

    def __repr__(self) -> str:
        return HIDDEN

    def __str__(self) -> NoReturn:  # noqa: PLE0307 -- it refuses
        self._refuse("text")

    def __format__(self, spec: str) -> NoReturn:
        self._refuse("text")

    def __bytes__(self) -> NoReturn:  # noqa: PLE0308 -- it refuses
        self._refuse("bytes")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self._refuse("pickle")

    def __hash__(self) -> NoReturn:  # noqa: PLE0309 -- it refuses
        # a hash can be tried against guesses
        self._refuse("hash")

    def _refuse(self, what: str) -> NoReturn:
        raise TypeError(f"a secret has no {what}")
