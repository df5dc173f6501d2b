"""Messages between the actors of a cloud node that serves tenants. Tags 184 to 188, 190."""

from __future__ import annotations

from entgldb.messages.schema import Count, Message, Record, message, record


@message(184)
class ForTenant(Message):
    """An actor to another, or to itself for later: an encoded message for the part that serves ``tenant``."""

    tenant: str
    payload: bytes
    life: int = 0
    """To itself: the number of the part that asked for it. The timers of an earlier one are over."""


@message(185)
class AdmitTenant(Message):
    """Sync to store: a client of ``tenant`` has come, by the word of ``issuer``. Answered by TenantJudged."""

    tenant: str
    issuer: str


@message(186)
class TenantJudged(Message):
    """Store to sync: the tenant is open, or why it is not served (any more)."""

    tenant: str
    issuer: str
    reason: str = ""
    """A Reason; empty: it is open."""
    text: str = ""
    links: Count = 0
    """Links that it may have at one time; 0: any number."""
    elsewhere: tuple[str, ...] = ()
    """The node ids of those that it has at other processes, as they said last, and of no more than matter."""


@record
class TenantLink(Record):
    """A gateway that is linked to this process."""

    tenant: str
    node_id: str
    epoch: Count
    """That it said: of two gateways of one cluster the one with the higher epoch leads."""
    address: str


@message(187)
class TenantsWanted(Message):
    """Sync to store and oplog, after each change and now and then: the tenants to be open, and no others."""

    tenants: tuple[str, ...]
    links: tuple[TenantLink, ...] = ()
    """To store, where other processes serve the same tenants: they are told of them."""


@message(188)
class WhichTenants(Message):
    """Store or oplog to sync, at its start: answered by TenantsWanted."""


@message(190)
class WrittenElsewhere(Message):
    """From the database to store: other processes have written to these tenants. May be lost."""

    tenants: dict[str, Count]
    """Name -> the lsn of the last row; 0: the catalogue is another one."""
