"""The code of an invitation: where to connect and one secret, short enough to be read aloud.

``KIND ADDRESS PORT SECRET CHECK`` in Crockford's base 32 (https://www.crockford.com/base32.html): no letter
is taken for another, case does not matter, and a mistyped code is told apart from a refused one by its check.
"""

from __future__ import annotations

import secrets
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

from entgldb.messages.errors import InvalidError
from entgldb.messages.secret import Secret

SECRET_BYTES: Final = 5
"""40 bits: an invitation ends after a few wrong guesses, and what is sent is of no help in guessing."""
HOST_BYTES_MAX: Final = 63
CODE_CHARS_MAX: Final = 160
"""Of a code as it is typed, with its dashes and spaces."""
CHECK_BYTES: Final = 1
GROUP: Final = 4
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ALIKE: Final = str.maketrans("OIL", "011", "- \t\r\n")
_IPV4, _IPV6, _NAME = 4, 6, 1


class Code(NamedTuple):
    """An invitation as both sides know it."""

    host: str
    port: int
    secret: Secret

    def text(self) -> str:
        """As it is shown, in groups of four.

        >>> Code("10.0.5.1", 9437, Secret(bytes(5))).text()
        '0G50-0181-4KEG-0000-0006-J'
        """
        raw = _place(self.host) + self.port.to_bytes(2) + self.secret.reveal()
        letters = _letters(raw + _check(raw))
        return "-".join(letters[start : start + GROUP] for start in range(0, len(letters), GROUP))


def new_code(host: str, port: int) -> Code:
    """A code with a new secret. Raises InvalidError for a host that no code can hold."""
    _place(host)
    return Code(host, port, Secret(secrets.token_bytes(SECRET_BYTES)))


def read_code(text: str) -> Code:
    """A code as somebody typed it. Raises InvalidError."""
    letters = text[:CODE_CHARS_MAX].upper().translate(_ALIKE)
    if not letters or not set(letters) <= set(_ALPHABET):
        raise InvalidError(
            "this is no code of an invitation", hint="it looks like 0G50-0181-4KEG-0000-0006-J"
        )
    raw = _bytes(letters)
    body, check = raw[:-CHECK_BYTES], raw[-CHECK_BYTES:]
    if len(body) < 4 + SECRET_BYTES or _check(body) != check:
        raise InvalidError(
            "the code is mistyped: a letter is wrong, missing or too much", hint="read it again"
        )
    place, port, secret = (
        body[: -SECRET_BYTES - 2],
        body[-SECRET_BYTES - 2 : -SECRET_BYTES],
        body[-SECRET_BYTES:],
    )
    return Code(_host(place), int.from_bytes(port), Secret(secret))


def _place(host: str) -> bytes:
    try:
        address = ip_address(host)
    except ValueError:
        name = host.encode("ascii", "replace")
        if not 0 < len(name) <= HOST_BYTES_MAX or b"?" in name or not host.isprintable():
            raise InvalidError(
                f"{host!r:.80} fits into no code", hint=f"an address, or a name of at most {HOST_BYTES_MAX}"
            ) from None
        return bytes([_NAME]) + name
    if isinstance(address, IPv6Address) and address.scope_id:
        raise InvalidError(f"{host} is good on this machine only", hint="give another address with --at")
    return bytes([address.version]) + address.packed


def _host(place: bytes) -> str:
    kind, rest = place[0], place[1:]
    if kind == _IPV4 and len(rest) == 4:
        return str(IPv4Address(rest))
    if kind == _IPV6 and len(rest) == 16:
        return str(IPv6Address(rest))
    if kind == _NAME and 0 < len(rest) <= HOST_BYTES_MAX and rest.isascii():
        return rest.decode("ascii")
    raise InvalidError("the code is of a kind that this release does not know", hint="use the same release")


def _check(raw: bytes) -> bytes:
    """CRC-8 with x^8 + x^2 + x + 1: it notices any change within 8 bits, and a letter has five."""
    value = 0xFF
    for byte in raw:
        value ^= byte
        for _ in range(8):
            value = value << 1 ^ (0x107 if value & 0x80 else 0)
    return bytes([value])


def _letters(raw: bytes) -> str:
    bits = len(raw) * 8
    count = -(-bits // 5)
    value = int.from_bytes(raw) << (count * 5 - bits)
    return "".join(_ALPHABET[value >> shift & 31] for shift in range((count - 1) * 5, -1, -5))


def _bytes(letters: str) -> bytes:
    value = 0
    for letter in letters:
        value = value << 5 | _ALPHABET.index(letter)
    size, spare = divmod(len(letters) * 5, 8)
    if spare > 4 or value & (1 << spare) - 1:
        raise InvalidError(
            "the code is mistyped: a letter is wrong, missing or too much", hint="read it again"
        )
    return (value >> spare).to_bytes(size)
