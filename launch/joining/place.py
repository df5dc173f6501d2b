"""Where an invitation waits: the address that its code names, and the socket there."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address
from typing import Final

from ifaddr import get_adapters

from entgldb.messages.errors import InvalidError
from entgldb.messages.remote_peers import join_address

OUTSIDE: Final = ("192.0.2.1", 9)
"""An address for documentation (RFC 5737). Asked for a way to it the kernel names our own address."""


def own_address() -> str:
    """The address of this machine on the network by which it reaches others; loopback where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.connect(OUTSIDE)
            return str(trial.getsockname()[0])
        except OSError:  # a network without a way out: its machines reach each other all the same
            found = [ip.ip for each in get_adapters() for ip in each.ips if isinstance(ip.ip, str)]
            return next((one for one in found if not ip_address(one).is_loopback), "127.0.0.1")


def listener(host: str, port: int) -> socket.socket:
    """Waits at an address of this machine; where it is another's, at the same port of all of this machine's:
    ``host`` is a router then, which passes the port on. Raises InvalidError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as fault:
        if fault.errno != errno.EADDRNOTAVAIL or not port:
            raise _refused(host, port, fault) from None
    try:
        return socket.create_server(("", port), family=family)
    except OSError as fault:
        raise _refused(host, port, fault) from None


def _refused(host: str, port: int, fault: OSError) -> InvalidError:
    return InvalidError(
        f"this machine cannot wait at {join_address(host, port)}: {fault.strerror or fault}",
        hint="--at takes an address of this machine, or with --port that of a router that passes it on",
    )
