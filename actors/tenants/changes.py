"""Orders of an administrator about a tenant: its row as it is to be, or why not. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from entgldb.messages.errors import (
    EntglError,
    ErrorCode,
    ExistsError,
    InvalidError,
    NotAllowedError,
    NotFoundError,
)
from entgldb.messages.limits import TENANTS_MAX
from entgldb.messages.tenants import ChangeTenant, Quotas, Tenant, TenantState

RESTORED: Final = "restored"
_CHANGES: Final = {
    "suspend": TenantState.SUSPENDED,
    "resume": TenantState.ACTIVE,
    "delete": TenantState.DELETING,
}


def changed(
    row: Tenant | None, message: ChangeTenant, now_ms: int, has_room: Callable[[], bool], *, shared: bool
) -> Tenant:
    """The row of ``message.name`` as it is to be; ``row``: as it is, if there is one.

    ``has_room``: whether the catalogue takes one more. ``shared``: the data are in a database that other
    processes may serve. Raises EntglError.
    """
    name, given = message.name, message.quotas or {}
    if unknown_ones := given.keys() - set(Quotas._names):
        raise InvalidError(f"no quota {min(unknown_ones)!r:.40}; there are {', '.join(Quotas._names)}")
    if message.change == "add":
        return _added(row, message, now_ms, has_room)
    if row is None:
        raise unknown(name)
    if message.change == "limit":
        return replace(row, quotas=replace(row.quotas, **given))
    wanted = _CHANGES.get(message.change)
    if wanted is None and message.change != RESTORED:
        raise InvalidError(f"{message.change!r:.40} is none of add, limit, {', '.join(_CHANGES)}, {RESTORED}")
    if row.state in (TenantState.DELETING, TenantState.DELETED):
        if message.change == "delete":
            return row
        raise NotAllowedError(f"tenant {name} was deleted", hint=f"entgldb tenant add {name}")
    if wanted is not None:
        return replace(row, state=wanted.value, since_ms=now_ms)
    if not shared:
        raise NotAllowedError(
            "a tenant's file tells by itself that it was restored", hint="this is for cloud.storage"
        )
    return row


def _added(row: Tenant | None, message: ChangeTenant, now_ms: int, has_room: Callable[[], bool]) -> Tenant:
    name, issuer, wanted = message.name, message.issuer, Quotas(**message.quotas or {})
    if row is not None and row.state == TenantState.DELETING:
        raise EntglError(
            f"the files of tenant {name} are still being removed", code=ErrorCode.BUSY, hint="try again"
        )
    if row is not None and row.state == TenantState.ACTIVE and (row.issuer, row.quotas) == (issuer, wanted):
        return row
    if row is not None and row.state != TenantState.DELETED:
        raise ExistsError(f"tenant {name} is there already", hint=f"entgldb tenant show {name}")
    if row is None and not has_room():
        raise NotAllowedError(f"this cloud node has its {TENANTS_MAX} tenants", hint="entgldb tenant list")
    return Tenant(name, issuer, TenantState.ACTIVE, now_ms, wanted)


def unknown(name: str) -> NotFoundError:
    """There is no tenant of that name."""
    return NotFoundError(f"there is no tenant {name:.80}", hint="entgldb tenant list")
