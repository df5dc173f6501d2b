"""Tenants of a cloud node: their names, their rows in its catalogue, and what its administrator says of them.

Tags 71, 72 and 78.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from entgldb.messages.errors import InvalidError
from entgldb.messages.schema import Channel, Count, Message, Millis, Record, message, record

TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}|[A-Za-z0-9_.-]{0,31}~[0-9a-f]{32}")
"""A plain name, or one that was made of a text that is none: its letters, ``~`` and its digest."""


class TenantState(StrEnum):
    """The state of a tenant in the catalogue."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETING = "deleting"
    """Its files are being removed."""
    DELETED = "deleted"
    """Nothing is left but the row, by which its clients are refused."""


@record
class Quotas(Record):
    """How much a tenant may have on this node; 0: any number."""

    documents: Count = 0
    """Live ones, of all collections."""
    bytes: Count = 0
    """Of all its files."""
    writes: Count = 0
    """Entries a second, on average over ten."""
    links: Count = 0
    """At one time."""
    origins: Count = 0
    """Writers, each incarnation of a node counted."""


@record
class Tenant(Record):
    """One row of the catalogue."""

    name: str
    issuer: str
    """The only authority whose clients may come; empty: that of the first one that comes."""
    state: str
    since_ms: Millis
    """When it came into this state, by this node's clock."""
    quotas: Quotas = Quotas()


@message(71, Channel.CLIENT)
class ListTenants(Message):
    """To ``store`` of a cloud node with tenants: the rows behind the name ``after``, a page at most.

    Answered by Report (``tenants``: rows by name; ``more``) or Refused.
    """

    after: str = ""
    name: str = ""
    """This one alone."""


@message(72, Channel.CLIENT)
class ChangeTenant(Message):
    """To ``store`` of a cloud node with tenants: add, limit, suspend, resume or delete one, or tell that the
    database under it was restored.

    Answered by Report (``tenant``: its row afterwards) or Refused.
    """

    name: str
    change: str
    """``add``, ``limit``, ``suspend``, ``resume``, ``delete`` or ``restored``."""
    issuer: str = ""
    """To ``add``: the authority whose clients may come."""
    quotas: dict[str, Count] | None = None
    """To ``add`` and ``limit``: names of ``Quotas`` -> how much; the others stay as they are."""


@message(78, Channel.CLIENT, admin=True)
class AskTenant(Message):
    """To an actor of a cloud node: an encoded admin message for the part that serves ``tenant``.

    Answered as that message is, or by Refused where the tenant is not open.
    """

    tenant: str
    payload: bytes


def check_tenant(name: str) -> str:
    """Give ``name`` back, or raise InvalidError."""
    if not TENANT.fullmatch(name):
        raise InvalidError(
            f"{name!r:.80} is not the name of a tenant",
            hint="use 1 to 64 letters, digits, '_', '.', '-'; the first a letter or digit",
        )
    return name
