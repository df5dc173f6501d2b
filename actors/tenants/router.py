"""One actor of a cloud node that serves tenants: a behaviour for the node, and one for each open tenant.

The behaviours are those of a node without tenants, and do not know of each other. A message between two
actors names the tenant for which it is (``ForTenant``); one that does not is for the node itself. Sync says
which tenants are to be open; an actor that was started anew asks it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import chain, islice
from typing import ClassVar, Final, NamedTuple

from entgldb.actors.behaviour import ERROR, WARNING, Asker, Behaviour, Caller, Context, refuse, refused
from entgldb.actors.tenants.context import TenantContext
from entgldb.messages import codec
from entgldb.messages.client import Report, Status
from entgldb.messages.errors import (
    EntglError,
    NotAllowedError,
    NotFoundError,
    Reason,
    UnavailableError,
    as_own,
)
from entgldb.messages.limits import LOCAL_FRAME_BYTES_MAX
from entgldb.messages.local.actors import Configure, StopNow, Tick
from entgldb.messages.local.tenants import ForTenant, TenantsWanted, WhichTenants
from entgldb.messages.schema import Channel, Json, Message
from entgldb.messages.tenants import AskTenant

ALARMS: Final = "tenants' alarms"
ALARM_SECONDS: Final = 5.0
"""Between two looks, each at some of the tenants: all at once would hold up everybody."""
ROUND_SECONDS: Final = 60.0
"""In so many seconds each open tenant was looked at."""
ALARMS_MAX: Final = 64
"""Alarms that one status tells."""
UNAVAILABLE: Final = "its data cannot be had at the moment"
TENANTS_TOLD_MAX: Final = 64
"""Tenants of which one status has figures."""


class Opened(NamedTuple):
    """The behaviour that serves one tenant in this actor."""

    behaviour: Behaviour
    close: Callable[[], None]
    """Gives back the files that it holds, after its StopNow."""
    rest: Callable[[], None] = lambda: None
    """Gives back memory, once in a while, whether or not it has something to do."""
    follow: Callable[[int], object] = lambda version: None
    """Of store: takes up what other processes have written, where its data are not at this version."""


class Served(NamedTuple):
    """A tenant that is open."""

    opened: Opened
    life: int


class Tenants(Behaviour):
    """Stands in for ``main``, the behaviour of the node itself."""

    takes: ClassVar[frozenset[type[Message]]] = frozenset(
        {ForTenant, TenantsWanted, AskTenant, Configure, StopNow, Status, Tick}
    )
    """The messages that it does not just hand to ``main``."""

    def __init__(self, main: Behaviour, opener: Callable[[str], Opened]) -> None:
        """``opener`` makes the behaviour of a tenant. Raises EntglError where its file cannot be had."""
        super().__init__()
        self.name, self.main, self.counts = main.name, main, main.counts
        self.open: dict[str, Served] = {}
        self._opener = opener
        self.begins: Callable[[Context], None] = lambda _: None
        """Called first of all."""
        self._lives = 0
        self._touched: dict[str, None] = {}
        """Tenants that have had a message since the last flush."""
        self._alarms: dict[str, list[Json]] = {}
        """Open tenant -> its alarms at the last look, the longest ago first."""

    # --- Behaviour -----------------------------------------------------------------------------

    def start(self, ctx: Context) -> None:
        self.begins(ctx)
        self.main.start(ctx)
        ctx.after(ALARM_SECONDS, Tick(ALARMS))
        if self.name != "sync":
            ctx.tell("sync", WhichTenants())

    def facts(self) -> dict[str, Json]:
        return self.main.facts()

    def handle(self, message: Message, ctx: Context) -> None:
        if type(message) in self.takes:
            super().handle(message, ctx)
        else:
            self.main.handle(message, ctx)

    def flush(self, ctx: Context) -> None:
        self.main.flush(ctx)
        touched, self._touched = self._touched, {}
        for tenant in touched:
            if tenant in self.open:
                self._fenced(tenant, "flush", lambda behaviour, inner: behaviour.flush(inner), ctx)

    # --- messages ------------------------------------------------------------------------------

    def on_for_tenant(self, message: ForTenant, ctx: Context) -> None:
        served = self.open.get(message.tenant)
        if served is None or message.life not in (0, served.life):
            if not message.life:
                self.count(Reason.TENANT_CLOSED)
            return
        inner = codec.decode(message.payload, Channel.LOCAL, LOCAL_FRAME_BYTES_MAX).message
        self.deliver(message.tenant, inner, ctx)

    def on_tenants_wanted(self, message: TenantsWanted, ctx: Context) -> None:
        for tenant in self.open.keys() - set(message.tenants):
            self.drop(tenant, ctx)
        for tenant in message.tenants:
            if tenant not in self.open:
                self.reopen(tenant, ctx)

    def on_ask_tenant(self, message: AskTenant, ctx: Context) -> None:
        """From an administrator: as to the actor itself."""
        try:
            inner = codec.decode(message.payload, Channel.CLIENT).message
            if not inner.ADMIN or isinstance(inner, AskTenant):
                raise NotAllowedError(f"{inner} is no admin message")
            if message.tenant not in self.open:
                raise NotFoundError(f"tenant {message.tenant:.80} is not open", hint="entgldb tenant list")
        except EntglError as fault:
            refuse(ctx, fault)
        else:
            self.deliver(message.tenant, inner, ctx, asked=True)

    def on_configure(self, message: Configure, ctx: Context) -> None:
        self.to_all(message, ctx)
        self.main.handle(message, ctx)

    def on_stop_now(self, message: StopNow, ctx: Context) -> None:
        for tenant in list(self.open):
            self.drop(tenant, ctx)
        self.main.handle(message, ctx)

    def on_tick(self, message: Tick, ctx: Context) -> None:
        if message.what != ALARMS:
            self.main.handle(message, ctx)
            return
        ctx.after(ALARM_SECONDS, message)
        for tenant in list(self._alarms)[: math.ceil(len(self._alarms) * ALARM_SECONDS / ROUND_SECONDS)]:
            del self._alarms[tenant]
            self._alarms[tenant] = []
            before, ctx.asker = ctx.asker, Caller(partial(self._heard_status, tenant))
            self.deliver(tenant, Status(), ctx, asked=True)
            ctx.asker = before
            if tenant in self.open:
                self.open[tenant].opened.rest()

    def _heard_status(self, tenant: str, answer: Message) -> None:
        told = answer.body.get("alarms") if isinstance(answer, Report) else None
        if tenant in self._alarms and isinstance(told, list):
            self._alarms[tenant] = [
                {**one, "subject": f"{tenant}/{one['subject']}", "text": f"tenant {tenant}: {one['text']}"}
                for one in told
            ]

    def on_status(self, message: Status, ctx: Context) -> None:
        """That of the node, with how many tenants are open and what is wrong with some of them."""
        asker = ctx.asker

        def answer(told: Message) -> None:
            if isinstance(told, Report):
                alarms = chain(told.body.get("alarms", []), self.own_alarms(), *self._alarms.values())
                told = Report({**told.body, **self.told(), "alarms": list(islice(alarms, ALARMS_MAX))})
            ctx.answer(asker, told)

        ctx.asker = Caller(answer)
        self.main.handle(message, ctx)
        ctx.asker = asker

    def own_alarms(self) -> list[Json]:
        """Those about tenants that no part of one can tell."""
        return []

    def told(self) -> dict[str, Json]:
        """The fields that its status has beside those of the node."""
        return {"tenants_open": len(self.open)}

    # --- opening and closing --------------------------------------------------------------------

    def begin(self, tenant: str, ctx: Context) -> EntglError | None:
        """Open a tenant; or why it cannot be."""
        ctx.busy(f"opening {tenant}")
        try:
            opened = self._opener(tenant)
        except Exception as raised:  # noqa: BLE001 -- the file of one tenant must not cost the others theirs
            fault = as_own(raised)
            self.count(Reason.STORAGE_UNAVAILABLE)
            ctx.log(ERROR, f"tenant {tenant} cannot be opened: {fault.text}")
            return fault
        self._lives += 1
        self.open[tenant] = Served(opened, self._lives)
        if not self._fenced(tenant, "start", lambda behaviour, inner: behaviour.start(inner), ctx):
            if tenant in self.open:
                self.drop(tenant, ctx)
            return EntglError(f"tenant {tenant} failed at its start")
        self._touched[tenant] = None
        self._alarms[tenant] = []
        return None

    def reopen(self, tenant: str, ctx: Context) -> None:
        """Sync serves it, and it is not open here."""
        self.begin(tenant, ctx)

    def drop(self, tenant: str, ctx: Context) -> None:
        """Close a tenant; nothing of it stays in memory."""
        ctx.busy(f"closing {tenant}")
        served = self.open.pop(tenant)
        self._alarms.pop(tenant, None)
        inner = TenantContext(ctx, tenant, served.life, None)
        for step in (partial(served.opened.behaviour.handle, StopNow(), inner), served.opened.close):
            try:
                step()
            except Exception as fault:  # noqa: BLE001 -- as above; the next opening looks at the file
                self.count(Reason.HANDLER_FAILED)
                ctx.log(ERROR, f"tenant {tenant} was not closed well: {type(fault).__name__} {fault}")

    def failed(self, tenant: str, ctx: Context) -> None:
        """Its behaviour fails on everything: it begins anew, as a dead actor does."""
        self.drop(tenant, ctx)

    def unavailable(self, tenant: str, fault: EntglError, ctx: Context) -> None:
        """Its data cannot be had: it is closed until sync has a link for it again."""
        self.count(Reason.STORAGE_UNAVAILABLE)
        ctx.log(WARNING, f"tenant {tenant} is closed for now: {fault.text}")
        self.drop(tenant, ctx)

    # --- inside ----------------------------------------------------------------------------------

    def deliver(self, tenant: str, message: Message, ctx: Context, *, asked: bool = False) -> None:
        """Hand a message to the behaviour of a tenant; ``asked``: the present asker waits for its answer."""
        self._touched[tenant] = None
        self._fenced(
            tenant,
            type(message).__name__,
            lambda behaviour, inner: behaviour.handle(message, inner),
            ctx,
            ctx.asker if asked else None,
        )

    def to_all(self, message: Message, ctx: Context) -> None:
        """Hand a message to the behaviour of every tenant."""
        for tenant in list(self.open):
            self.deliver(tenant, message, ctx)

    def _fenced(
        self,
        tenant: str,
        about: str,
        work: Callable[[Behaviour, Context], None],
        ctx: Context,
        asker: Asker | None = None,
    ) -> bool:
        """Whether it went well: a fault that one tenant meets costs that tenant alone."""
        served = self.open.get(tenant)
        if served is None:
            return False
        behaviour, well = served.opened.behaviour, True
        try:
            work(behaviour, TenantContext(ctx, tenant, served.life, asker))
        except UnavailableError as fault:
            ctx.answer(asker, refused(as_own(fault)))
            self.unavailable(tenant, as_own(fault), ctx)
            return False
        except Exception as fault:  # noqa: BLE001 -- the fence
            well = False
            self.count(Reason.HANDLER_FAILED)
            behaviour.count(Reason.HANDLER_FAILED)
            ctx.log(ERROR, f"tenant {tenant} failed on {about}: {type(fault).__name__} {fault}")
            ctx.answer(asker, refused(EntglError(f"{self.name} failed on {about}", definite=False)))
        behaviour.went(about, well=well)
        if behaviour.hopeless:
            self.failed(tenant, ctx)
        return well
