"""Sync of a cloud node that serves tenants: leads links to their tenants, and says which are open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Final, cast

from entgldb.actors.behaviour import WARNING, Context
from entgldb.actors.sync.behaviour import Sync
from entgldb.actors.tenants.door import Door, Vouched
from entgldb.actors.tenants.router import TENANTS_TOLD_MAX, UNAVAILABLE, Opened, Tenants
from entgldb.messages.client import Isolate, SyncNow
from entgldb.messages.errors import EntglError, Reason, known_reason
from entgldb.messages.local.actors import (
    Applied,
    Committed,
    Configure,
    FrameIn,
    LinkDown,
    Tick,
    TokenChecked,
)
from entgldb.messages.local.pauses import PausesChanged
from entgldb.messages.local.tenants import (
    AdmitTenant,
    TenantJudged,
    TenantLink,
    TenantsWanted,
    WhichTenants,
)
from entgldb.messages.schema import Json, Message

LOOK: Final = "tenants"
LOOK_SECONDS: Final = 10.0
"""Between two looks at which tenants are idle; then store and oplog are told again which are open."""
TURN_SECONDS: Final = 30.0
"""A tenant that has just come makes no room for another so long: if more come than may be open they take
turns."""
_CLOSED: Final = "this cloud node has closed the data of your tenant, to serve others"
QUOTAS: Final = (
    Reason.QUOTA_DOCUMENTS,
    Reason.QUOTA_BYTES,
    Reason.QUOTA_WRITES,
    Reason.QUOTA_ORIGINS,
)
"""For these a link ends, and its tenant stays open."""
_USES: Final = (Committed, Applied)
"""Said by a store of which something was written."""


@dataclass(slots=True)
class Guest:
    """A tenant that is open; times are of the monotonic clock."""

    issuer: str
    """The authority by which it was admitted."""
    came_at: float
    used_at: float
    """When something of it was last written."""
    linked_at: float
    """When it last had a link."""
    links_max: int
    """Links that it may have; 0: any number."""
    elsewhere: tuple[str, ...]
    """The nodes that have links to other processes."""


class SyncTenants(Tenants):
    """Owns which tenants are open."""

    takes: ClassVar[frozenset[type[Message]]] = Tenants.takes - {TenantsWanted} | {
        FrameIn,
        LinkDown,
        TokenChecked,
        TenantJudged,
        WhichTenants,
        Isolate,
        PausesChanged,
        SyncNow,
    }

    def __init__(self, main: Door, opener: Callable[[str], Opened], vouched: Vouched) -> None:
        super().__init__(main, opener)
        self.door, self._vouched = main, vouched
        main.let_in = self._came
        self._tenant_of: dict[int, str] = {}
        """Link -> its tenant, from when it was led there until it is down."""
        self._waiting: dict[int, TokenChecked] = {}
        """Links whose tenant the store has not judged yet."""
        self._guests: dict[str, Guest] = {}
        """The tenants that are open."""

    def start(self, ctx: Context) -> None:
        super().start(ctx)
        self._tell_wanted(ctx)
        ctx.after(LOOK_SECONDS, Tick(LOOK))

    # --- links -----------------------------------------------------------------------------------

    def on_frame_in(self, message: FrameIn, ctx: Context) -> None:
        self._to_link(message.link, message, ctx)

    def on_link_down(self, message: LinkDown, ctx: Context) -> None:
        self._waiting.pop(message.link, None)
        self._to_link(message.link, message, ctx)
        guest = self._guests.get(self._tenant_of.pop(message.link, ""))
        if guest is not None:
            guest.linked_at = ctx.monotonic()

    def on_token_checked(self, message: TokenChecked, ctx: Context) -> None:
        tenant = self._tenant_of.get(message.link)
        if tenant is not None and not message.reason and not self._is_of(message, tenant):
            text = "the new token is of another tenant"
            message = replace(message, reason=Reason.OTHER_TENANT.value, text=text)
        self._to_link(message.link, message, ctx)

    def _to_link(self, link: int, message: Message, ctx: Context) -> None:
        tenant = self._tenant_of.get(link, "")
        if tenant in self.open:
            self.deliver(tenant, message, ctx)
        else:
            self.main.handle(message, ctx)

    def _is_of(self, verdict: TokenChecked, tenant: str) -> bool:
        guest = self._guests.get(tenant)
        return guest is not None and (verdict.tenant, verdict.issuer) == (tenant, guest.issuer)

    def _came(self, verdict: TokenChecked, ctx: Context) -> None:
        """The token of a link was accepted."""
        if self._is_of(verdict, verdict.tenant):
            self._lead(verdict, ctx)
        elif self._has_room(verdict.tenant, ctx):
            self._waiting[verdict.link] = verdict
            ctx.tell("store", AdmitTenant(verdict.tenant, verdict.issuer))
        else:
            text = "as many tenants are open as this cloud node may have"
            self.door.turn_away(verdict.link, Reason.TOO_MANY_TENANTS, text, ctx)

    def on_tenant_judged(self, message: TenantJudged, ctx: Context) -> None:
        waiting = [one for one in self._waiting.values() if one.tenant == message.tenant]
        if message.reason:
            reason = known_reason(message.reason, Reason.STORAGE_UNAVAILABLE)
            refused = [one for one in waiting if message.issuer in ("", one.issuer)]
            self._turn_away(refused, reason, message.text, ctx)
            if not message.issuer:
                self._end(message.tenant, reason, message.text, ctx)
            return
        if message.tenant in self._guests:
            guest = self._guests[message.tenant]
            guest.links_max, guest.elsewhere = message.links, message.elsewhere
        admitted = [one for one in waiting if one.issuer == message.issuer]
        if not admitted:
            return  # it has gone meanwhile: the next TenantsWanted has the store close it again
        if message.tenant not in self.open:
            fault = self._open_for(message, ctx)
            if fault is not None:
                self._turn_away(admitted, Reason.STORAGE_UNAVAILABLE, fault.text, ctx)
                return
        for verdict in admitted:
            del self._waiting[verdict.link]
            self._lead(verdict, ctx)

    def _open_for(self, message: TenantJudged, ctx: Context) -> EntglError | None:
        fault = self.begin(message.tenant, ctx)
        if fault is None:
            now = ctx.monotonic()
            self._guests[message.tenant] = Guest(
                message.issuer, now, now, now, message.links, message.elsewhere
            )
            self._tell_wanted(ctx)
        return fault

    def _turn_away(self, refused: list[TokenChecked], reason: Reason, text: str, ctx: Context) -> None:
        for verdict in refused:
            del self._waiting[verdict.link]
            self.door.turn_away(verdict.link, reason, text, ctx)

    def _end(self, tenant: str, reason: Reason, text: str, ctx: Context) -> None:
        """The store serves a tenant no more, or takes no more of it now: then it stays open."""
        if reason not in QUOTAS:
            self.shut(tenant, reason, text, ctx)
        elif tenant in self.open:
            self._end_links(tenant, reason, text, ctx)

    def _lead(self, verdict: TokenChecked, ctx: Context) -> None:
        """From the door to the tenant: its behaviour hears what the link has said, as if that came now."""
        guest, node = self._guests[verdict.tenant], self.door.node_of(verdict.link)
        most, here = guest.links_max, list(self._tenant_of.values()).count(verdict.tenant)
        # a gateway that comes from another process, which may have died, is no second one
        if most and here + sum(one != node for one in guest.elsewhere) >= most:
            text = f"your tenant may have {most} links to this cloud node"
            self.door.turn_away(verdict.link, Reason.QUOTA_LINKS, text, ctx)
            return
        told = self.door.give_away(verdict.link)
        if not told:
            return
        self._tenant_of[verdict.link] = verdict.tenant
        self._vouched.expect(verdict)
        for message in told:
            self.deliver(verdict.tenant, message, ctx)
        for known in self._vouched.take():
            self.deliver(verdict.tenant, known, ctx)

    # --- which tenants are open ------------------------------------------------------------------

    def deliver(self, tenant: str, message: Message, ctx: Context, *, asked: bool = False) -> None:
        if isinstance(message, _USES) and tenant in self._guests:
            self._guests[tenant].used_at = ctx.monotonic()
        super().deliver(tenant, message, ctx, asked=asked)

    def on_which_tenants(self, message: WhichTenants, ctx: Context) -> None:
        self._tell_wanted(ctx)

    def on_tick(self, message: Tick, ctx: Context) -> None:
        if message.what != LOOK:
            super().on_tick(message, ctx)
            return
        # first, so that a look that fails is not the last
        ctx.after(LOOK_SECONDS, message)
        links, now = self._links(), ctx.monotonic()
        for tenant, guest in list(self._guests.items()):
            if links[tenant]:
                guest.linked_at = now
            elif now - guest.linked_at >= self.door.settings.tenant_idle:
                self.count(Reason.IDLE)
                self.drop(tenant, ctx)
        self._tell_wanted(ctx)

    def on_isolate(self, message: Isolate, ctx: Context) -> None:
        """Of the node as a whole: the door takes no link, and those of the tenants end."""
        if message.seconds > 0:
            self._end_all(Reason.ISOLATED, ctx)
        self.main.handle(message, ctx)

    def on_pauses_changed(self, message: PausesChanged, ctx: Context) -> None:
        """As a trial."""
        if message.holds("cloud") is not None:
            self._end_all(Reason.PAUSED, ctx)
        self.main.handle(message, ctx)

    def _end_all(self, reason: Reason, ctx: Context) -> None:
        for tenant in list(self.open):
            self._end_links(tenant, reason, "", ctx)

    def on_sync_now(self, message: SyncNow, ctx: Context) -> None:
        self.to_all(message, ctx)
        self.main.handle(message, ctx)

    def on_configure(self, message: Configure, ctx: Context) -> None:
        super().on_configure(message, ctx)
        for tenant in self._longest_unused()[: -self.door.settings.tenants_open]:
            self.shut(tenant, Reason.TENANT_CLOSED, _CLOSED, ctx)

    def shut(self, tenant: str, reason: Reason, text: str, ctx: Context) -> None:
        """Serve a tenant no more; its links are told why. Harmless where it is not open."""
        if self._guests.pop(tenant, None) is None:
            return
        self.count(reason)
        self._end_links(tenant, reason, text, ctx)
        self.drop(tenant, ctx)
        self._tell_wanted(ctx)

    def failed(self, tenant: str, ctx: Context) -> None:
        self.shut(tenant, Reason.HANDLER_FAILED, "this node failed on what it heard", ctx)

    def unavailable(self, tenant: str, fault: EntglError, ctx: Context) -> None:
        ctx.log(WARNING, f"tenant {tenant} is served no more for now: {fault.text}")
        self.shut(tenant, Reason.STORAGE_UNAVAILABLE, UNAVAILABLE, ctx)

    def drop(self, tenant: str, ctx: Context) -> None:
        self._guests.pop(tenant, None)
        super().drop(tenant, ctx)

    def _end_links(self, tenant: str, reason: Reason, text: str, ctx: Context) -> None:
        def end(behaviour: object, inner: Context) -> None:
            cast("Sync", behaviour).drop_links(reason, inner, text)

        self._fenced(tenant, "its links' end", end, ctx)

    def _has_room(self, tenant: str, ctx: Context) -> bool:
        """Whether one more may be open; one that others have waited for longest makes room."""
        coming = {one.tenant for one in self._waiting.values()} - self.open.keys()
        if tenant in coming | self.open.keys():
            return True
        if len(self.open) + len(coming) < self.door.settings.tenants_open:
            return True
        linked, since = set(self._tenant_of.values()), ctx.monotonic() - TURN_SECONDS
        unused = self._longest_unused()
        idle = [one for one in unused if one not in linked]
        had_turn = [one for one in unused if self._guests[one].came_at <= since]
        for longest in (idle + had_turn)[:1]:
            self.shut(longest, Reason.TENANT_CLOSED, _CLOSED, ctx)
            return True
        return False

    def told(self) -> dict[str, Json]:
        """The links of the tenants that have most."""
        return {**super().told(), "tenant_links": dict(self._links().most_common(TENANTS_TOLD_MAX))}

    def _links(self) -> Counter[str]:
        return Counter(self._tenant_of.values())

    def _longest_unused(self) -> list[str]:
        """Open tenants, that first which has been written to the longest ago."""
        return sorted(self._guests, key=lambda tenant: self._guests[tenant].used_at)

    def _tell_wanted(self, ctx: Context) -> None:
        wanted = TenantsWanted(tuple(self.open))
        ctx.tell("oplog", wanted)
        ctx.tell("store", replace(wanted, links=self._gateways()) if self.door.settings.storage else wanted)

    def _gateways(self) -> tuple[TenantLink, ...]:
        return tuple(
            TenantLink(tenant, peer.node_id, peer.epoch, peer.address)
            for tenant, served in self.open.items()
            for peer in cast("Sync", served.opened.behaviour).linked()
        )
