"""``db.tenants``: the tenants of a cloud node, managed on that node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from entgldb.messages.client import Report, Status
from entgldb.messages.codec import encode
from entgldb.messages.errors import EntglError, ErrorCode, NotAllowedError
from entgldb.messages.tenants import AskTenant, ChangeTenant, ListTenants

if TYPE_CHECKING:
    from entgldb.client.door import Door


class TenantRow(NamedTuple):
    """One tenant; None is unknown: only of one that is open the figures are known."""

    name: str
    state: str
    """``active``, ``suspended``, ``deleting`` or ``deleted``."""
    issuer: str
    """The authority whose clients may come; empty: nobody has come yet."""
    since_ms: int
    """When it came into this state, in milliseconds since 1970."""
    open: bool
    bytes: int | None
    """All its files."""
    documents: int | None
    oplog_entries: int | None
    origins: int | None
    quotas: dict[str, int]
    """Of ``documents``, ``bytes``, ``writes`` a second, ``links`` and ``origins`` so many; 0: any number."""
    gateways: list[dict[str, Any]] | None = None
    """Those that are linked to any process of the database: ``process``, ``node_id``, ``epoch``, ``address``.
    Two node ids are two halves of a cluster. None: not asked for, or one process serves the tenants."""


class Tenants:
    """Requests to the store of a cloud node that has ``cloud.tenants``; any other refuses them."""

    def __init__(self, database: Door) -> None:
        self._database = database

    def all(self) -> list[TenantRow]:
        """Every tenant, deleted ones too, by name."""
        found: list[TenantRow] = []
        more = True
        while more:
            body = self._asked(ListTenants(after=found[-1].name if found else ""))
            found += [_row(row) for row in body["tenants"]]
            more = body["more"]
        return found

    def get(self, name: str) -> TenantRow:
        """One tenant. Raises NotFoundError."""
        return _row(self._asked(ListTenants(name=name))["tenants"][0])

    def add(self, name: str, *, issuer: str = "", quotas: Mapping[str, int] | None = None) -> TenantRow:
        """Make a tenant before its first client comes, or again after it was deleted.

        ``issuer``: the only authority whose clients may come; empty: that of the first one that comes.
        One that is there with this issuer and these quotas is left as it is. Raises ExistsError, or
        InvalidError for what is no name and no quota.
        """
        return self._changed(name, "add", issuer, quotas or {})

    def limit(self, name: str, quotas: Mapping[str, int]) -> TenantRow:
        """Change some of its quotas; 0: any number. Raises NotFoundError, InvalidError."""
        return self._changed(name, "limit", "", quotas)

    def suspend(self, name: str) -> TenantRow:
        """Serve it no more; its data stay. Raises NotFoundError."""
        return self._changed(name, "suspend")

    def resume(self, name: str) -> TenantRow:
        """Serve it again. Raises NotFoundError, or NotAllowedError where it was deleted."""
        return self._changed(name, "resume")

    def restored(self, name: str) -> TenantRow:
        """The PostgreSQL under it was put back to an earlier state: it goes on as a new writer.

        Its links end and come again; what was lost comes back from its cluster. Raises NotFoundError,
        or NotAllowedError where it was deleted or its data is a file.
        """
        return self._changed(name, "restored")

    def delete(self, name: str) -> TenantRow:
        """Remove all its data on this node, and refuse its clients. Raises NotFoundError."""
        return self._changed(name, "delete")

    def status(self, name: str, actor: str) -> dict[str, Any]:
        """Of a tenant that is open, the status of ``store``, ``oplog`` or ``sync``. Raises NotFoundError."""
        answer = self._database.ask(actor, AskTenant(name, encode(Status())))
        return answer.body if isinstance(answer, Report) else {}

    def _changed(
        self, name: str, change: str, issuer: str = "", quotas: Mapping[str, int] | None = None
    ) -> TenantRow:
        return _row(self._asked(ChangeTenant(name, change, issuer, dict(quotas or {})))["tenant"])

    def _asked(self, message: ListTenants | ChangeTenant) -> dict[str, Any]:
        try:
            answer = self._database.request(message)
        except EntglError as fault:
            if fault.code is not ErrorCode.UNSUPPORTED:
                raise
            hint = "set cloud.tenants in entgldb.toml of a cloud node, and start it again"
            raise NotAllowedError("this node serves no tenants", hint=hint) from None
        return answer.body if isinstance(answer, Report) else {}


def _row(found: dict[str, Any]) -> TenantRow:
    return TenantRow(**{name: found[name] for name in TenantRow._fields if name in found})
