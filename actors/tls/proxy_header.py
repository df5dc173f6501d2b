"""The PROXY protocol, version 2: a balancer says before TLS whose connection it passes on.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, section 2.2. Version 1, a line of text, is not
taken.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from entgldb.messages.errors import InvalidError, ProtocolError

ANYBODY: Final = "*"
"""As a balancer that is trusted: everybody who connects."""
FIXED_BYTES: Final = 16
"""Signature, version and command, family, length of the rest."""
REST_BYTES_MAX: Final = 2_048
"""Addresses take 36; balancers add some facts, which are passed over."""
_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_LOCAL, _PROXY = 0x20, 0x21
_IPV4, _IPV6 = 0x11, 0x21
"""Families, over TCP."""
_UNSPEC: Final = 0x00


def rest_bytes(fixed: bytes) -> int:
    """How many bytes follow the fixed ones. Raises ProtocolError."""
    if fixed[:12] != _SIGNATURE:
        raise ProtocolError("no header of the PROXY protocol, version 2, came first")
    if fixed[12] not in (_LOCAL, _PROXY):
        raise ProtocolError(f"version and command {fixed[12]:#04x} of a PROXY header are unknown")
    length = int.from_bytes(fixed[14:16], "big")
    if length > REST_BYTES_MAX:
        raise ProtocolError(f"a PROXY header of {length} bytes is longer than {REST_BYTES_MAX}")
    return length


def is_local(fixed: bytes) -> bool:
    """Whether the balancer only looks if somebody is there."""
    return fixed[12] == _LOCAL


def source(fixed: bytes, rest: bytes) -> tuple[str, int] | None:
    """Host and port of the client; None where the balancer does not know. Raises ProtocolError."""
    family = fixed[13]
    if family == _UNSPEC:
        return None
    if family not in (_IPV4, _IPV6):
        raise ProtocolError(f"family {family:#04x} of a PROXY header is not TCP over IPv4 or IPv6")
    size = 4 if family == _IPV4 else 16
    if len(rest) < 2 * size + 4:
        raise ProtocolError(f"a PROXY header has {len(rest)} bytes of addresses, {2 * size + 4} are needed")
    address = ip_address(rest[:size])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    port = int.from_bytes(rest[2 * size : 2 * size + 2], "big")
    if not port:
        raise ProtocolError("a PROXY header names port 0")
    return str(mapped or address), port


def is_trusted(host: str, balancers: tuple[str, ...]) -> bool:
    """Whether the headers of a connection from ``host`` are believed."""
    address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
    return any(one == ANYBODY or address in ip_network(one) for one in balancers)


def check_balancer(text: str) -> str:
    """Give an address or a network back, or raise InvalidError."""
    try:
        return str(ip_network(text))
    except ValueError as fault:
        raise InvalidError(f"an address, or a network as 10.1.0.0/16, is expected: {fault}") from None
