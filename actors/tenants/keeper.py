"""Store of a cloud node that serves tenants: the catalogue, and a writer for the file of each open tenant."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import ClassVar, Final, cast

from entgldb.actors.behaviour import INFO, WARNING, Behaviour, Context, refuse
from entgldb.actors.ports import Catalogue, Store, TenantFiles
from entgldb.actors.store.auditing.acts import who_is
from entgldb.actors.store.auditing.behalf import meant
from entgldb.actors.store.behaviour import StoreKeeper
from entgldb.actors.tenants import quotas
from entgldb.actors.tenants.changes import RESTORED, changed, unknown
from entgldb.actors.tenants.fellows import Fellows, Gateways
from entgldb.actors.tenants.quotas import Figures, Gate
from entgldb.actors.tenants.router import ALARMS, TENANTS_TOLD_MAX, UNAVAILABLE, Opened, Tenants
from entgldb.messages import codec
from entgldb.messages.administration import Behalf, Event
from entgldb.messages.client import Relay, Report
from entgldb.messages.errors import (
    EntglError,
    Reason,
)
from entgldb.messages.limits import PAGE_ROWS_MAX, TENANTS_MAX
from entgldb.messages.local.actors import Apply, Committed, Tick
from entgldb.messages.local.snapshots import StoreBegan
from entgldb.messages.local.tenants import (
    AdmitTenant,
    ForTenant,
    TenantJudged,
    TenantsWanted,
    WrittenElsewhere,
)
from entgldb.messages.schema import Channel, Json, Message
from entgldb.messages.tenants import ChangeTenant, ListTenants, Quotas, Tenant, TenantState, check_tenant
from entgldb.storage.audit.rows import Act

FELLOWS: Final = "other processes"
REMOVE: Final = "remove-tenant"
REMOVE_SECONDS: Final = 2.0
"""From the order to delete a tenant to the first step: by then sync and oplog have closed its files."""
STEP_SECONDS: Final = 0.05
"""Between two steps of removing files: writes of others come in between."""
_SHUT: Final = {
    TenantState.SUSPENDED: (Reason.TENANT_SUSPENDED, "your tenant is suspended"),
    TenantState.DELETING: (Reason.TENANT_DELETED, "your tenant was deleted"),
    TenantState.DELETED: (Reason.TENANT_DELETED, "your tenant was deleted"),
}


class StoreTenants(Tenants):
    """Owns the catalogue."""

    takes: ClassVar[frozenset[type[Message]]] = Tenants.takes | {
        AdmitTenant,
        ListTenants,
        ChangeTenant,
        Relay,
        Behalf,
        WrittenElsewhere,
    }
    main: StoreKeeper

    def __init__(
        self,
        main: StoreKeeper,
        opener: Callable[[str], Opened],
        catalogue: Catalogue,
        files: TenantFiles,
        fellows: Fellows | None = None,
    ) -> None:
        """``fellows``: there may be other processes that serve the same tenants."""
        super().__init__(main, opener)
        self._catalogue, self._files, self._fellows = catalogue, files, fellows
        self._removing = False
        self._lsns: dict[str, int] = {}
        """Open tenant -> the last lsn of which the other processes know, if there may be any."""
        self._gateways = Gateways(fellows)
        self._gates: dict[str, Gate] = {}
        """Open tenant -> its quotas."""

    def start(self, ctx: Context) -> None:
        super().start(ctx)
        if self._fellows is not None:
            ctx.after(self.main.settings.sync_interval, Tick(FELLOWS))
        self._remove_later(ctx)

    # --- what sync says ----------------------------------------------------------------------------

    def on_admit_tenant(self, message: AdmitTenant, ctx: Context) -> None:
        try:
            refused = self._admitted(message.tenant, message.issuer, ctx)
        except EntglError as fault:
            self.count(Reason.STORAGE_UNAVAILABLE)
            ctx.log(WARNING, f"tenant {message.tenant} is not served: {fault.text}")
            refused = Reason.STORAGE_UNAVAILABLE, UNAVAILABLE
        reason, text = refused or ("", "")
        if reason:
            ctx.tell("sync", TenantJudged(message.tenant, message.issuer, str(reason), text))
        else:
            self._tell_links(message.tenant, message.issuer, ctx)

    def _tell_links(self, tenant: str, issuer: str, ctx: Context) -> None:
        """How many links a tenant that is open may have; ``issuer``: its clients who wait are let in."""
        most = self._gates[tenant].quotas.links
        # one of them may be that of the node that comes
        elsewhere = tuple(self._gateways.elsewhere[tenant][: most + 1]) if most else ()
        ctx.tell("sync", TenantJudged(tenant, issuer, links=most, elsewhere=elsewhere))

    def _admitted(self, tenant: str, issuer: str, ctx: Context) -> tuple[Reason, str] | None:
        """Open a tenant for a client; or why that is refused. Raises EntglError."""
        row = self._catalogue.get(tenant)
        if row is None:
            if not self._has_room():
                return Reason.TOO_MANY_TENANTS, f"this cloud node has its {TENANTS_MAX} tenants"
            row = Tenant(tenant, issuer, TenantState.ACTIVE, ctx.now_ms())
            self._put(row, None)
            ctx.log(INFO, f"tenant {tenant} was made for the first client that came")
        elif not row.issuer and row.state == TenantState.ACTIVE:
            row, before = replace(row, issuer=issuer), row
            self._put(row, before)
        if row.issuer != issuer:
            return Reason.OTHER_TENANT, "the tenant of that name is of another authority"
        if row.state != TenantState.ACTIVE:
            return _SHUT[TenantState(row.state)]
        fault = None if tenant in self.open else self.begin(tenant, ctx)
        if fault is not None:
            raise fault
        if self._gates[tenant].writes_spent(ctx.monotonic()):
            return Reason.QUOTA_WRITES, quotas.told(Reason.QUOTA_WRITES, row.quotas)
        return None

    def begin(self, tenant: str, ctx: Context) -> EntglError | None:
        try:
            row = self._catalogue.get(tenant)
        except EntglError as unread:
            return unread
        self._gates[tenant] = Gate(Quotas() if row is None else row.quotas, ctx.monotonic())
        fault = super().begin(tenant, ctx)
        if fault is None:
            self._lsns[tenant] = self._store(tenant).last_lsn()
        return fault

    def drop(self, tenant: str, ctx: Context) -> None:
        super().drop(tenant, ctx)
        self._gates.pop(tenant, None)
        self._lsns.pop(tenant, None)

    def deliver(self, tenant: str, message: Message, ctx: Context, *, asked: bool = False) -> None:
        """A batch that crosses a quota is not taken: its link ends, and tries again."""
        if isinstance(message, Apply) and not message.supplied:
            gate = self._gates[tenant]
            try:
                reason = gate.refusal(message.entries, self._figures(tenant), ctx.monotonic())
            except EntglError as fault:
                self.unavailable(tenant, fault, ctx)
                return
            if reason is not None:
                self.count(reason)
                ctx.tell("sync", TenantJudged(tenant, "", reason.value, quotas.told(reason, gate.quotas)))
                return
        super().deliver(tenant, message, ctx, asked=asked)

    def unavailable(self, tenant: str, fault: EntglError, ctx: Context) -> None:
        """Sync ends its links, and has it closed here."""
        self.count(Reason.STORAGE_UNAVAILABLE)
        ctx.log(WARNING, f"tenant {tenant} is served no more for now: {fault.text}")
        ctx.tell("sync", TenantJudged(tenant, "", Reason.STORAGE_UNAVAILABLE.value, UNAVAILABLE))

    def _figures(self, tenant: str) -> Figures:
        store = self._store(tenant)
        return Figures(
            documents=lambda: store.size()[0],
            bytes=lambda: self._files.size(tenant),
            origins=store.vector,
            count_origins=lambda: len(store.vector()),
        )

    def reopen(self, tenant: str, ctx: Context) -> None:
        """This actor was started anew, or the tenant may have been shut and sync has not heard of it."""
        try:
            row = self._catalogue.get(tenant)
        except EntglError:
            shut: tuple[Reason, str] | None = (Reason.STORAGE_UNAVAILABLE, UNAVAILABLE)
        else:
            shut = _shut(row)
        if shut is None and self.begin(tenant, ctx) is None:
            # a merge that was in hand died with the part before
            ctx.tell("oplog", ForTenant(tenant, codec.encode(StoreBegan())))
            return
        reason, text = shut or (Reason.STORAGE_UNAVAILABLE, UNAVAILABLE)
        ctx.tell("sync", TenantJudged(tenant, "", reason.value, text))

    # --- other processes ---------------------------------------------------------------------------------

    def flush(self, ctx: Context) -> None:
        touched = list(self._touched)
        super().flush(ctx)
        for tenant in self.open.keys() & set(touched):
            if (fault := self._keeper(tenant).lost) is not None:
                self.unavailable(tenant, fault, ctx)
            elif self._fellows is not None and self._store(tenant).last_lsn() > self._lsns[tenant]:
                self._lsns[tenant] = self._store(tenant).last_lsn()
                self._fellows.tell(tenant, self._lsns[tenant])

    def on_tenants_wanted(self, message: TenantsWanted, ctx: Context) -> None:
        self._gateways.links, before = message.links, self._gateways.elsewhere
        self._gateways.say(self.count, ctx)
        super().on_tenants_wanted(message, ctx)
        for tenant, gate in self._gates.items():
            if gate.quotas.links and before[tenant] != self._gateways.elsewhere[tenant]:
                self._tell_links(tenant, "", ctx)

    def on_written_elsewhere(self, message: WrittenElsewhere, ctx: Context) -> None:
        """Sync reads the rows by itself; the memory here follows with the next group, or the next look."""
        for tenant, lsn in message.tenants.items():
            if tenant in self.open and lsn > self._lsns[tenant]:
                self._pass_on(tenant, self._lsns[tenant] + 1, lsn, ctx)
                self._heard(tenant, lsn)
        self._look_at([one for one, lsn in message.tenants.items() if not lsn and one in self.open], ctx)

    def _pass_on(self, tenant: str, first: int, last: int, ctx: Context) -> None:
        def tell(behaviour: Behaviour, inner: Context) -> None:
            cast("StoreKeeper", behaviour).hearers.links.committed(Committed(first, last, 0), inner)

        self._fenced(tenant, "what another process told", tell, ctx)

    def _heard(self, tenant: str, lsn: int) -> None:
        """Other processes have written up to ``lsn``."""
        self._gates[tenant].spend(max(0, lsn - self._lsns[tenant]))
        self._lsns[tenant] = lsn

    def _look_at(self, tenants: Collection[str], ctx: Context) -> None:
        """Have what other processes have written to open tenants, and to their rows of the catalogue."""
        if self._fellows is None or not tenants:
            return
        try:
            found = self._fellows.look(tenants)
        except EntglError as fault:
            self.count(Reason.STORAGE_UNAVAILABLE)
            ctx.log(WARNING, f"what other processes have written cannot be read: {fault.text}")
            return
        for tenant in tenants:
            row, version = found.get(tenant, (None, 0))
            if (shut := _shut(row)) is not None:
                self._shut(tenant, shut, ctx)
            elif row is not None:
                self._limit(row, ctx)
                self._follow(tenant, version, ctx)

    def _follow(self, tenant: str, version: int, ctx: Context) -> None:
        served = self.open[tenant]

        def follow(behaviour: Behaviour, inner: Context) -> None:
            assert isinstance(behaviour, StoreKeeper), "the opener makes stores"
            before = behaviour.store.last_lsn()
            served.opened.follow(version)
            last = behaviour.store.last_lsn()
            self._heard(tenant, last)
            if last > before:
                behaviour.grew(Committed(before + 1, last, 0), inner)

        self._fenced(tenant, "what other processes wrote", follow, ctx)

    # --- what administrators say ---------------------------------------------------------------------

    def on_relay(self, message: Relay, ctx: Context) -> None:
        """A client asks the store by its name, as it asks the others."""
        try:
            inner = codec.decode(message.payload, Channel.CLIENT).message
        except EntglError as fault:
            refuse(ctx, fault)
            return
        if message.actor == self.name and inner.ADMIN and type(inner) in self.takes:
            self.handle(inner, ctx)
        else:
            self.main.handle(message, ctx)

    def on_behalf(self, message: Behalf, ctx: Context) -> None:
        """A client asks for somebody whom it has let in."""
        inner = meant(message, ctx)
        if inner is not None:
            (self if type(inner) in self.takes else self.main).handle(inner, ctx)

    def on_list_tenants(self, message: ListTenants, ctx: Context) -> None:
        try:
            rows = self._listed(message)
            found: list[Json] = [{**self._shown(row), **self._gateways.of(message.name)} for row in rows]
        except EntglError as fault:
            refuse(ctx, fault)
        else:
            ctx.answer(ctx.asker, Report({"tenants": found, "more": len(rows) >= PAGE_ROWS_MAX}))

    def _listed(self, message: ListTenants) -> list[Tenant]:
        if not message.name:
            return self._catalogue.page(message.after)
        named = self._catalogue.get(message.name)
        if named is None:
            raise unknown(message.name)
        return [named]

    def on_change_tenant(self, message: ChangeTenant, ctx: Context) -> None:
        try:
            before = self._catalogue.get(check_tenant(message.name))
            row = changed(before, message, ctx.now_ms(), self._has_room, shared=self._fellows is not None)
            if message.change == RESTORED and self._fellows is not None:
                self._fellows.restored(row.name)
            act = Act(Event.TENANT, row.name, message.change, who_is(ctx.asker))
            with self.main.store.group():
                self._catalogue.put(row, before)
                self.main.store.trail.note(act, ctx.now_ms())
        except EntglError as fault:
            refuse(ctx, fault)
            return
        ctx.log(INFO, f"tenant {row.name}: {message.change}, now {row.state}")
        shut = _shut(row)
        if shut is None and message.change == RESTORED:
            # it is opened anew with its next link
            shut = Reason.STORAGE_UNAVAILABLE, UNAVAILABLE
        if shut is not None:
            self._shut(row.name, shut, ctx)
        elif row.name in self.open:
            self._limit(row, ctx)
        if self._fellows is not None:
            self._fellows.tell(row.name, 0)
        self._remove_later(ctx)
        ctx.answer(ctx.asker, Report({"tenant": self._shown(row)}))

    def _shut(self, tenant: str, shut: tuple[Reason, str], ctx: Context) -> None:
        if tenant in self.open:
            self.drop(tenant, ctx)
        ctx.tell("sync", TenantJudged(tenant, "", shut[0].value, shut[1]))

    def _limit(self, row: Tenant, ctx: Context) -> None:
        """Have the quotas of an open tenant count."""
        if row.quotas != self._gates[row.name].quotas:
            self._gates[row.name] = Gate(row.quotas, ctx.monotonic())
            self._tell_links(row.name, row.issuer, ctx)

    def told(self) -> dict[str, Json]:
        """How many tenants there are, and figures of the open ones that have written most."""
        entries = {name: self._store(name).last_lsn() for name in self.open}
        most = heapq.nsmallest(TENANTS_TOLD_MAX, entries, key=lambda name: (-entries[name], name))
        rows: list[Json] = []
        for name in most:
            documents, kept = self._store(name).size()
            refused = self._gates[name].refused
            figures = {
                "documents": documents,
                "oplog_entries": kept,
                "lsn": entries[name],
                "refused": refused,
            }
            rows.append({"name": name, **figures})
        try:
            states: dict[str, Json] = dict(self._catalogue.states())
        except EntglError:
            states = {}
        return {**super().told(), "tenants": {"states": states, "rows": rows}}

    def own_alarms(self) -> list[Json]:
        return self._gateways.alarms.report()

    def _store(self, tenant: str) -> Store:
        """The writer of a tenant that is open."""
        return self._keeper(tenant).store

    def _keeper(self, tenant: str) -> StoreKeeper:
        keeper = self.open[tenant].opened.behaviour
        assert isinstance(keeper, StoreKeeper), "the opener makes stores"
        return keeper

    def _shown(self, row: Tenant) -> dict[str, Json]:
        figures: dict[str, Json] = {"documents": None, "oplog_entries": None, "origins": None}
        if row.name in self.open:
            status = self._store(row.name).status()
            figures = {name: status[name] for name in figures}
        return {
            "name": row.name,
            "state": row.state,
            "issuer": row.issuer,
            "since_ms": row.since_ms,
            "open": row.name in self.open,
            "bytes": self._size(row.name),
            "quotas": {name: getattr(row.quotas, name) for name in Quotas._names},
            **figures,
        }

    def _size(self, tenant: str) -> int | None:
        """None where it cannot be asked for at the moment."""
        try:
            return self._files.size(tenant)
        except EntglError:
            return None

    # --- deletion --------------------------------------------------------------------------------------

    def on_tick(self, message: Tick, ctx: Context) -> None:
        if message.what == REMOVE:
            self._removing = False
            self._remove(ctx)
        elif message.what == FELLOWS:
            # first, so that a look that fails is not the last
            ctx.after(self.main.settings.sync_interval, message)
            self._look_at(list(self.open), ctx)
        else:
            super().on_tick(message, ctx)
            if message.what == ALARMS:
                # another process may have deleted a tenant of which there are files here
                self._remove_later(ctx)

    def _remove_later(self, ctx: Context, wait: float = REMOVE_SECONDS) -> None:
        """After a crash the rows of the catalogue say what is still to be removed."""
        if not self._removing and self._deleting():
            self._removing = True
            ctx.after(wait, Tick(REMOVE))

    def _deleting(self) -> list[str]:
        try:
            return self._catalogue.deleting()
        except EntglError:
            return []  # the catalogue cannot be had now: the next look asks again

    def _remove(self, ctx: Context) -> None:
        """One step of deleting a tenant, the next one later."""
        wait = STEP_SECONDS
        for tenant in self._deleting()[:1]:
            ctx.busy(f"removing {tenant}")
            try:
                if self._files.remove(tenant):
                    self._removed(tenant, ctx)
            except (OSError, EntglError) as fault:
                self.count(Reason.DISK_ERROR)
                ctx.log(WARNING, f"tenant {tenant} cannot be removed yet: {fault}")
                wait = REMOVE_SECONDS
        self._remove_later(ctx, wait)

    def _removed(self, tenant: str, ctx: Context) -> None:
        row = self._catalogue.get(tenant)
        if row is not None and row.state == TenantState.DELETING:
            self._put(replace(row, state=TenantState.DELETED.value, since_ms=ctx.now_ms()), row)
        ctx.log(INFO, f"tenant {tenant}: its files are removed")

    # --- inside ------------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """Whether one more row may be made; that of the tenant deleted first makes room."""
        if sum(self._catalogue.states().values()) < TENANTS_MAX:
            return True
        with self.main.store.group():
            return self._catalogue.forget_oldest()

    def _put(self, row: Tenant, before: Tenant | None) -> None:
        with self.main.store.group():
            self._catalogue.put(row, before)


def _shut(row: Tenant | None) -> tuple[Reason, str] | None:
    """Why a tenant is not served; None: it is."""
    return _SHUT.get(TenantState.DELETED if row is None else TenantState(row.state))
