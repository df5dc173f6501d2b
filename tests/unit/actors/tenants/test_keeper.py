"""The store's side of tenants: who is admitted, what administrators change, and a deletion that goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from entgldb.actors.store.behaviour import StoreKeeper
from entgldb.actors.tenants import keeper
from entgldb.actors.tenants.keeper import REMOVE_SECONDS, StoreTenants
from entgldb.actors.tenants.router import Opened
from entgldb.messages import codec
from entgldb.messages.client import Refused, Report, RequestId, Status, Write
from entgldb.messages.errors import EntglError, ErrorCode, Reason
from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.messages.local.snapshots import StoreBegan
from entgldb.messages.local.tenants import AdmitTenant, ForTenant, TenantJudged, TenantsWanted
from entgldb.messages.schema import Json
from entgldb.messages.tenants import ChangeTenant, ListTenants, Tenant
from entgldb.storage.store import Store
from entgldb.storage.tenants.catalogue import Catalogue
from entgldb.storage.tenants.files import TenantFiles, tenant_directory
from tests.support.fake_context import FakeContext
from tests.unit.actors.store.test_store_keeper import Bench, batch, foreign

ISSUER = "https://id.example"


class Cloud:
    """The store actor of a cloud node; its directory outlives it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bench = Bench("cloud-1", role="cloud")
        self.files = TenantFiles(directory)
        self.refuses = False
        self.start()

    def start(self) -> None:
        """Or start again after a crash."""
        main: StoreKeeper = self.bench.keeper
        catalogue = Catalogue(self.bench.store.connection)
        self.store = StoreTenants(main, self._open, catalogue, self.files)
        self.ctx = FakeContext()
        self.ctx.behaviour = self.store
        self.store.start(self.ctx)

    def _open(self, tenant: str) -> Opened:
        if self.refuses:
            raise EntglError("the disk has gone")
        made = Store.open(self.files.make(tenant), "cloud-1", 0)
        return Opened(StoreKeeper(self.bench.keeper.settings, made, self.bench.keeper.secrets), lambda: None)

    def admit(self, tenant: str, issuer: str = ISSUER) -> str:
        """The reason for which a client of it is refused; empty: none."""
        self.ctx.hand(AdmitTenant(tenant, issuer))
        judged = self.ctx.take(TenantJudged, "sync")[-1]
        assert (judged.tenant, judged.issuer) == (tenant, issuer)
        return judged.reason

    def change(self, tenant: str, change: str, issuer: str = "") -> dict[str, Json] | str:
        """The row afterwards, or the code of the refusal."""
        answer = self.ctx.ask(ChangeTenant(tenant, change, issuer))
        assert isinstance(answer, Report | Refused)
        return answer.code if isinstance(answer, Refused) else answer.body["tenant"]

    def rows(self) -> dict[str, Any]:
        answer = self.ctx.ask(ListTenants())
        assert isinstance(answer, Report)
        return {row["name"]: row for row in answer.body["tenants"]}


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path)


def test_the_first_client_makes_its_tenant_which_is_of_its_authority_alone(cloud: Cloud) -> None:
    assert cloud.admit("shop-1") == ""
    assert cloud.admit("shop-1") == ""
    assert cloud.admit("shop-1", "https://other.example") == Reason.OTHER_TENANT.value
    row = cloud.rows()["shop-1"]
    assert (row["state"], row["issuer"], row["open"], row["documents"]) == ("active", ISSUER, True, 0)
    assert row["bytes"] > 0


def test_one_that_was_added_is_of_the_first_authority_that_comes_or_of_the_named_one(cloud: Cloud) -> None:
    cloud.change("a", "add")
    cloud.change("b", "add", "https://other.example")
    assert cloud.admit("a") == ""
    assert cloud.admit("a", "https://other.example") == Reason.OTHER_TENANT.value
    assert cloud.admit("b") == Reason.OTHER_TENANT.value
    assert cloud.change("b", "add", "https://other.example") == cloud.rows()["b"]
    assert cloud.change("b", "add") == "already-exists"
    assert cloud.change("../up", "add") == "invalid"
    assert cloud.change("a", "explode") == "invalid"
    assert cloud.change("none", "suspend") == "not-found"


def test_one_that_is_suspended_is_closed_and_refused_until_it_is_resumed(cloud: Cloud) -> None:
    cloud.admit("shop-1")
    cloud.change("shop-1", "suspend")
    assert cloud.store.open == {}
    (told,) = cloud.ctx.take(TenantJudged, "sync")
    assert (told.issuer, told.reason) == ("", Reason.TENANT_SUSPENDED.value)
    assert cloud.admit("shop-1") == Reason.TENANT_SUSPENDED.value
    # sync has not heard of it
    cloud.ctx.hand(TenantsWanted(("shop-1",)))
    (told,) = cloud.ctx.take(TenantJudged, "sync")
    assert told.reason == Reason.TENANT_SUSPENDED.value
    cloud.change("shop-1", "resume")
    assert cloud.admit("shop-1") == ""


def test_one_that_is_opened_again_while_it_is_served_tells_its_oplog_that_no_merge_is_in_hand(
    cloud: Cloud,
) -> None:
    cloud.admit("shop-1")
    assert cloud.ctx.take(ForTenant, "oplog") == []
    cloud.start()
    cloud.ctx.hand(TenantsWanted(("shop-1",)))
    assert set(cloud.store.open) == {"shop-1"}
    assert cloud.ctx.take(ForTenant, "oplog") == [ForTenant("shop-1", codec.encode(StoreBegan()))]


def test_one_whose_file_cannot_be_had_is_refused_and_sync_hears_so_whoever_asked(cloud: Cloud) -> None:
    cloud.refuses = True
    assert cloud.admit("shop-1") == Reason.STORAGE_UNAVAILABLE.value
    cloud.ctx.hand(TenantsWanted(("shop-1",)))
    (told,) = cloud.ctx.take(TenantJudged, "sync")
    assert (told.issuer, told.reason) == ("", Reason.STORAGE_UNAVAILABLE.value)
    cloud.refuses = False
    assert cloud.admit("shop-1") == ""


def test_one_that_cannot_be_written_any_more_is_served_no_more(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.admit("shop-1")
    cloud.admit("shop-2")
    refused = [EntglError("no room on the server", code=ErrorCode.DISK_FULL)]

    @contextmanager
    def group(*_: object) -> Iterator[None]:
        raise refused[0]
        yield

    monkeypatch.setattr(cloud.store._store("shop-1"), "group", group)
    for tenant in ("shop-1", "shop-2"):
        cloud.ctx.hand(ForTenant(tenant, codec.encode(batch(foreign(1), 0))))
    (told,) = cloud.ctx.take(TenantJudged, "sync")
    assert (told.tenant, told.issuer, told.reason) == ("shop-1", "", Reason.STORAGE_UNAVAILABLE.value)
    # one that waits for another process is asked again by itself
    refused[0] = EntglError("another process is writing", code=ErrorCode.IN_USE)
    cloud.ctx.hand(ForTenant("shop-1", codec.encode(batch(foreign(1), 0))))
    assert cloud.ctx.take(TenantJudged, "sync") == []


def test_one_whose_size_cannot_be_asked_takes_nothing_and_costs_the_others_nothing(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.admit("shop-1")
    cloud.ctx.ask(ChangeTenant("shop-1", "limit", "", {"bytes": 1_000_000}))
    cloud.ctx.take(TenantJudged, "sync")

    def size(_: str) -> int:
        raise EntglError("the server has gone", code=ErrorCode.DISK_ERROR)

    monkeypatch.setattr(cloud.files, "size", size)
    cloud.ctx.hand(ForTenant("shop-1", codec.encode(batch(foreign(1), 0))))
    (told,) = cloud.ctx.take(TenantJudged, "sync")
    assert told.reason == Reason.STORAGE_UNAVAILABLE.value
    assert cloud.store.counts[Reason.HANDLER_FAILED.value] == 0
    assert cloud.rows()["shop-1"]["bytes"] is None


def test_a_status_has_figures_of_a_bounded_number_of_tenants_those_that_have_written_most(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "TENANTS_TOLD_MAX", 2)
    for name in ("a", "b", "c"):
        cloud.admit(name)
    for name, number in (("b", 1), ("c", 2)):
        served = cloud.store.open[name].opened.behaviour
        assert isinstance(served, StoreKeeper)
        with served.store.group():
            writes = [Write("users", f"k{one}", b"{}") for one in range(number)]
            served.store.write(RequestId(bytes(16), 1), writes, 1)
    cloud.change("a", "suspend")
    cloud.admit("a2")
    status = cloud.ctx.ask(Status())
    assert isinstance(status, Report)
    assert status.body["tenants_open"] == 3
    assert status.body["tenants"] == {
        "states": {"active": 3, "suspended": 1},
        "rows": [
            {"name": "c", "documents": 2, "oplog_entries": 2, "lsn": 2, "refused": 0},
            {"name": "b", "documents": 1, "oplog_entries": 1, "lsn": 1, "refused": 0},
        ],
    }


def test_a_full_catalogue_takes_nobody_but_in_the_place_of_one_deleted(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "TENANTS_MAX", 2)
    cloud.admit("a")
    cloud.admit("b")
    assert cloud.admit("c") == Reason.TOO_MANY_TENANTS.value
    assert cloud.change("c", "add") == "not-allowed"
    cloud.change("a", "delete")
    cloud.ctx.run(REMOVE_SECONDS + 1)
    assert cloud.admit("c") == ""
    assert set(cloud.rows()) == {"b", "c"}


def test_a_deleted_one_leaves_nothing_but_its_row_and_is_refused_until_it_is_added(cloud: Cloud) -> None:
    cloud.admit("a")
    cloud.admit("b")
    assert cloud.change("a", "delete")["state"] == "deleting"  # type: ignore[index]  # a row
    assert cloud.admit("a") == Reason.TENANT_DELETED.value
    assert cloud.change("a", "add") == "busy"
    cloud.ctx.run(REMOVE_SECONDS + 1)
    assert cloud.rows()["a"]["state"] == "deleted"
    assert not tenant_directory(cloud.directory, "a").exists()
    assert tenant_directory(cloud.directory, "b").exists()
    assert cloud.change("a", "resume") == "not-allowed"
    # its file tells by itself
    assert cloud.change("b", "restored") == "not-allowed"
    assert cloud.admit("a") == Reason.TENANT_DELETED.value
    cloud.change("a", "add")
    assert cloud.admit("a") == ""


def test_a_deletion_that_was_cut_short_goes_on_after_the_next_start(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.admit("a")
    cloud.change("a", "delete")
    left = sorted(tenant_directory(cloud.directory, "a").rglob("*"))
    unlink, removed = Path.unlink, 0

    class Power(BaseException):
        """Goes."""

    def torn(path: Path, missing_ok: bool = False) -> None:
        nonlocal removed
        unlink(path, missing_ok=missing_ok)
        removed += 1
        raise Power

    while removed < len(left):
        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", torn)
            with pytest.raises(Power):
                cloud.ctx.run(REMOVE_SECONDS + 1)
        cloud.start()
        assert cloud.rows()["a"]["state"] == "deleting"
    cloud.ctx.run(REMOVE_SECONDS + 1)
    assert cloud.rows()["a"]["state"] == "deleted"
    assert not tenant_directory(cloud.directory, "a").exists()


def test_what_cannot_be_removed_is_tried_again(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.admit("a")
    cloud.change("a", "delete")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rmdir", lambda path: (_ for _ in ()).throw(OSError("busy")))
        cloud.ctx.run(REMOVE_SECONDS + 1)
    assert cloud.store.counts[Reason.DISK_ERROR.value] == 1
    cloud.ctx.run(REMOVE_SECONDS + 1)
    assert cloud.rows()["a"]["state"] == "deleted"


def test_large_files_go_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = TenantFiles(tmp_path)
    large = files.make("a") / "entgldb.db"
    large.write_bytes(b"x" * 10)
    monkeypatch.setattr("entgldb.storage.tenants.files.STEP_BYTES", 4)
    assert [files.remove("a"), files.remove("a"), files.size("a")] == [False, False, 2]
    assert [files.remove("a"), files.remove("a"), files.size("a")] == [True, True, 0]


def test_the_list_comes_in_pages(cloud: Cloud) -> None:
    catalogue = Catalogue(cloud.bench.store.connection)
    for number in range(PAGE_ROWS_MAX + 1):
        catalogue.put(Tenant(f"t{number:04}", "", "active", 0), None)
    first = cloud.ctx.ask(ListTenants())
    assert isinstance(first, Report)
    assert first.body["more"]
    last = cloud.ctx.ask(ListTenants(after=first.body["tenants"][-1]["name"]))
    assert isinstance(last, Report)
    assert [row["name"] for row in last.body["tenants"]] == [f"t{PAGE_ROWS_MAX:04}"]
    assert not last.body["more"]
