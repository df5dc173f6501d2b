"""The dashboard in a real browser, over a cluster that has troubles: each view, each action, each loss."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from entgldb.launch.playground.cluster import Member, Playground, wait_for
from entgldb.web.door.tokens import Tokens
from tests.support.browser import PHONE, Watched, browser
from tests.support.troubled_cluster import troubled
from tests.unit.actors.gateway.server_certificate import issue_server_certificate
from tests.unit.web.serving import served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
VIEWS = ("overview", "documents", "documents?collection=users", "document?collection=users&key=ada")
VIEWS += ("conflicts", "peers", "nodes", "upkeep")
HOSTILE = "<script>document.title='bad'</script>"
ALL_SEEN = "[...document.querySelectorAll('.scroll, nav')].every(one => one.scrollWidth <= one.clientWidth)"
"""No column of a table, and no view, is reached by scrolling to the side alone."""
ONE_VALUE = """[...document.querySelectorAll('.cards td[data-label]')].filter(cell =>
  [...cell.childNodes].filter(part => part.textContent.trim() || part.nodeName == 'BR').length > 1
).map(cell => cell.outerHTML)"""
"""On a phone the parts of a cell stand side by side: its label, and one value."""
SECONDS = 20.0


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture(scope="module")
def cluster(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    with troubled(tmp_path_factory.mktemp("troubled")) as made:
        made.lan[0].db["hostile"].put(HOSTILE, {"text": f"{HOSTILE}\u2028'\""})
        yield made


@pytest.fixture(scope="module")
def http(cluster: Playground) -> Iterator[httpx.Client]:
    with served(cluster.lan[0].directory) as client:
        yield client


@pytest.fixture(scope="module")
def opened(chromium: Browser, http: httpx.Client) -> Iterator[Watched]:
    context = chromium.new_context()
    yield Watched(context, str(http.base_url).rstrip("/"))
    context.close()


@pytest.fixture
def watched(opened: Watched) -> Iterator[Watched]:
    """The page of the module; nothing may go wrong in it during a test."""
    yield opened
    faults, opened.faults = opened.faults, []
    assert faults == []


@pytest.fixture
def first(cluster: Playground) -> Member:
    return cluster.lan[0]


def confirm(page: Page, name: str, label: str) -> None:
    """Type the name that a dangerous action asks for; a wrong one does not do."""
    expect(page.locator("#ask-name")).to_have_text(name)
    button = page.locator("#ask-yes")
    expect(button).to_be_disabled()
    page.fill("#ask-typed", f"{name}x")
    expect(button).to_be_disabled()
    page.fill("#ask-typed", name)
    expect(button).to_have_text(label)
    button.click()


def soon(what: str, look: Callable[[], object]) -> None:
    wait_for(what, look, SECONDS)


def run_of(member: Member, peer: str) -> int:
    """The number of its newest comparison with a peer."""
    rows: Any = member.db.status("oplog")["verify"]
    return next(int(row["run"]) for row in rows["peers"] if row["node_id"] == peer)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, (1280, 860)], ids=["phone", "desk"])
def test_each_view_fits_and_goes_wrong_nowhere(
    chromium: Browser, http: httpx.Client, scheme: str, size: tuple[int, int]
) -> None:
    width, height = size
    context = chromium.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    own = Watched(context, str(http.base_url).rstrip("/"))
    for view in VIEWS:
        page = own.show(view)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
        assert page.evaluate(ALL_SEEN), view
        assert page.evaluate(ONE_VALUE) == [], view
    context.close()
    assert own.faults == []
    assert own.refused == []


def test_the_overview_tells_the_mesh_and_every_trouble_with_its_remedy(watched: Watched) -> None:
    page = watched.show("overview")
    mesh = page.locator("svg.mesh")
    for name in ("lan-1", "lan-2", "cloud-off", "cloud-away"):
        expect(mesh.locator("g.dot title", has_text=name)).to_have_count(1)
    expect(mesh.locator("g.dot.leads title")).to_have_text("lan-1: connected, this node, gateway")
    expect(mesh.locator("g.link.disabled")).to_have_count(1)
    expect(mesh.locator("g.link.backoff")).to_have_count(1)
    matters = page.locator(".matters li")
    for code in ("fork", "held", "unfit", "conflicts", "cloud-link"):
        expect(matters.filter(has_text=code)).to_have_count(1)
    expect(page.locator(".chart canvas")).to_have_count(2)
    expect(page.locator("nav a[data-view=conflicts] b")).to_have_text("1")
    matters.filter(has_text="cloud-link").get_by_role("button", name="Test it").click()
    expect(page.locator("#told-title")).to_have_text("It does not work")
    page.keyboard.press("Escape")
    token = matters.filter(has_text="token-not-renewed")
    expect(token.get_by_role("button", name="Test it")).to_have_count(1)
    matters.filter(has_text="fork").get_by_role("link").click()
    expect(page.locator("main h1")).to_have_text("Upkeep")


def test_the_page_is_drawn_anew_when_something_happens(watched: Watched, first: Member) -> None:
    page = watched.show("overview")
    before = page.locator(".tiles b").first.inner_text()
    first.db["users"].put("grace", {"name": "Grace"})
    expect(page.locator(".tiles b").first).not_to_have_text(before)
    expect(page.locator(".chart canvas")).to_have_count(2)


def test_documents_are_searched_read_written_and_deleted(watched: Watched, first: Member) -> None:
    first.db["shop"].put_many({f"k{number}": {"n": number} for number in range(40)})
    page = watched.show("documents")
    page.fill("[name=like]", "sho")
    page.keyboard.press("Enter")
    expect(page.locator(".names li")).to_have_count(1)
    page.get_by_role("link", name="shop").click()
    expect(page.locator("tbody th")).to_have_count(25)
    page.get_by_role("button", name="Further documents").click()
    expect(page.locator("tbody th")).to_have_count(40)
    page.fill("[name=filter]", '{"n": {"$gte": 38}}')
    page.fill("[name=sort]", "-n")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody th")).to_have_text(["k39", "k38"])
    expect(page.locator("h1 small")).to_have_text("2 documents")
    page.get_by_role("link", name="k39").click()
    page.fill("[name=document]", "{no json")
    page.get_by_role("button", name="Store").click()
    watched.toast("This is no JSON")
    page.fill("[name=document]", '{"n": 12345678901234567890}')
    page.get_by_role("button", name="Store").click()
    watched.toast("stored")
    assert first.db["shop"].get("k39") == {"n": 12345678901234567890}
    page.get_by_text("History", exact=True).click()
    expect(page.locator(".history li")).to_have_count(2)
    page.get_by_text("Why is it where it is?").click()
    expect(page.locator("main")).to_contain_text("Has it")
    page.get_by_role("button", name="Delete").click()
    confirm(page, "k39", "Delete")
    watched.toast("deleted")
    assert first.db["shop"].get("k39") is None
    page.get_by_role("button", name="Bring it back").click()
    watched.toast("brought back")
    assert first.db["shop"].get("k39") is not None


def test_a_document_that_another_has_changed_is_not_written_over(watched: Watched, first: Member) -> None:
    first.db["shop"].put("apart", {"n": 1})
    page = watched.show("document?collection=shop&key=apart")
    first.db["shop"].put("apart", {"n": 2})
    page.fill("[name=document]", '{"n": 3}')
    page.get_by_role("button", name="Store").click()
    page.locator(".toast.bad").first.wait_for()
    assert first.db["shop"].get("apart") == {"n": 2}
    expect(page.locator("[name=document]")).to_have_value('{"n": 3}')


def test_a_hostile_document_is_a_text_and_any_key_can_be_written(watched: Watched, first: Member) -> None:
    page = watched.show("documents?collection=hostile")
    expect(page.locator("tbody th")).to_have_text(HOSTILE)
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.locator("[name=document]")).to_have_value(
        json.dumps({"text": f"{HOSTILE}\u2028'\""}, ensure_ascii=False, indent=2)
    )
    assert page.title() == f"{HOSTILE} · EntglDB"
    page = watched.show("documents?collection=hostile")
    page.get_by_text("New document").click()
    page.fill("form.edit [name=key]", "..")
    page.fill("form.edit [name=document]", '{"n": 1}')
    page.get_by_role("button", name="Store").click()
    watched.toast("stored")
    assert first.db["hostile"].get("..") == {"n": 1}


def test_a_conflict_is_shown_side_by_side_and_settled(watched: Watched, first: Member) -> None:
    (lost,) = first.db.conflicts()
    page = watched.show("conflicts")
    expect(page.locator(".differs th")).to_have_text("≠ city")
    page.get_by_role("button", name="Take what lost").click()
    watched.toast("settled")
    expect(page.locator("main")).to_contain_text("No version waits for a decision.")
    assert first.db.conflicts() == []
    assert first.db["users"].get("ada") == lost.document


def test_peers_are_enabled_tested_removed_and_added(watched: Watched, first: Member) -> None:
    page = watched.show("peers")
    row = page.locator("tbody tr", has_text="cloud-off")
    row.get_by_role("button", name="Enable").click()
    watched.toast("enabled")
    assert first.db.peers.get_remote_peer("cloud-off").enabled
    row.get_by_role("button", name="Disable").click()
    watched.toast("disabled")
    assert not first.db.peers.get_remote_peer("cloud-off").enabled
    row.get_by_role("button", name="Test").click()
    expect(page.locator("#told-steps li").first).to_be_visible()
    page.get_by_role("button", name="Close").click()
    row.get_by_role("button", name="Remove").click()
    confirm(page, "cloud-off", "Remove")
    watched.toast("removed")
    expect(row).to_have_count(0)
    page.get_by_text("Add a cloud").click()
    form = page.locator("form.grid").first
    for name, value in (
        ("node_id", "cloud-new"),
        ("address", "127.0.0.1:1"),
        ("authority", "http://127.0.0.1:1"),
        ("client_id", "shop"),
        ("client_secret", "env:NO_SUCH_SECRET"),
        ("scopes", "entgldb:sync  other"),
    ):
        form.locator(f"[name={name}]").fill(value)
    form.get_by_role("button", name="Add").click()
    watched.toast("added")
    added = first.db.peers.get_remote_peer("cloud-new")
    assert added.oauth2 is not None
    assert (added.address, tuple(added.oauth2.scopes)) == ("127.0.0.1:1", ("entgldb:sync", "other"))


def test_keys_and_secrets_are_changed_by_name(watched: Watched, first: Member) -> None:
    first.db.peers.add_cloud_peer(
        "cloud-7", "h:9", authority="https://id.example", client_id="me", client_secret="old", enabled=False
    )
    page = watched.show("nodes")
    page.get_by_text("Keys and secrets").click()
    page.get_by_role("button", name="New cluster key").click()
    confirm(page, "lan-1", "New cluster key")
    watched.toast("a new key is made")
    soon("a key is made", lambda: first.db.nodes.cluster_key())
    page.reload()
    page.get_by_text("Keys and secrets").click()
    page.get_by_label("New secret of cloud-7").fill("another")
    form = page.locator("form", has_text="New secret of cloud-7")
    form.get_by_role("button", name="Change the secret").click()
    confirm(page, "cloud-7", "Change the secret")
    watched.toast("the secret changes over")
    rows = {row.node_id: row.changes_over_until for row in first.db.peers.secrets()}
    assert rows["cloud-7"] is not None
    first.db.peers.remove_remote_peer("cloud-7")


def test_a_machine_is_invited_and_the_code_is_forgotten(watched: Watched, http: httpx.Client) -> None:
    page = watched.show("nodes")
    page.get_by_text("Invite a machine").click()
    page.get_by_label("Address of this machine").fill("127.0.0.1")
    page.get_by_role("button", name="Make a code").click()
    code = page.locator("#code-text")
    expect(code).to_contain_text("entgldb init --join ")
    expect(page.locator("#code-picture svg")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    expect(code).to_be_empty()
    expect(page.locator("#code-picture svg")).to_have_count(0)
    assert http.get("/v1/invitation").json() == {"state": "open"}
    page.get_by_role("button", name="Withdraw").click()
    watched.toast("withdrawn")
    expect(page.locator("main")).to_contain_text("it was withdrawn")


def test_what_waits_is_decided(watched: Watched, first: Member) -> None:
    page = watched.show("upkeep")
    page.get_by_role("button", name="Try again").click()
    watched.toast("cannot be applied still")
    page.get_by_role("button", name="Drop").click()
    confirm(page, "bad", "Drop")
    watched.toast("dropped")
    assert first.db.quarantine() == []
    page.get_by_role("button", name="Keep ours").click()
    confirm(page, "twice", "Keep ours")
    watched.toast("decided")
    soon("the fork is healed", lambda: not any(fork["quarantined"] for fork in first.db.forks()))
    page.get_by_role("button", name="Release now").click()
    confirm(page, "early", "Release now")
    watched.toast("released")
    assert first.db.held() == []
    before = run_of(first, "lan-2")
    page.get_by_role("button", name="Compare with all").click()
    watched.toast("begun")
    soon("the comparison has begun", lambda: run_of(first, "lan-2") > before)
    expect(page.locator("tbody tr", has_text="lan-2").last).not_to_contain_text("never")


def test_a_backup_is_downloaded(watched: Watched) -> None:
    page = watched.show("upkeep")
    with page.expect_download() as started:
        page.get_by_role("link", name="Download a backup").click()
    assert started.value.path().read_bytes().startswith(b"SQLite format 3")


def test_the_keyboard_is_enough(watched: Watched) -> None:
    page = watched.show("overview")
    page.keyboard.press("5")
    expect(page.locator("main h1")).to_contain_text("Nodes")
    assert page.evaluate("document.activeElement.id") == "view"
    page.keyboard.press("/")
    page.keyboard.type("lan-2")
    page.keyboard.press("Enter")
    expect(page.locator("tbody th")).to_have_count(1)
    page.get_by_role("button", name="Retire").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#ask-typed")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#ask")).not_to_be_visible()


def test_a_question_belongs_to_its_view(watched: Watched) -> None:
    page = watched.show("nodes")
    page.get_by_role("button", name="Retire").focus()
    page.keyboard.press("Enter")
    page.locator("#ask").get_by_role("button", name="Cancel").focus()
    page.keyboard.press("6")
    expect(page.locator("#ask")).to_be_visible()
    page.evaluate("location.hash = 'peers'")
    expect(page.locator("main h1")).to_contain_text("Remote peers")
    expect(page.locator("#ask")).not_to_be_visible()


def test_a_page_that_loses_its_node_says_so_and_comes_back(watched: Watched, cluster: Playground) -> None:
    page = watched.show("overview")
    cluster.stop([cluster.lan[0]])
    expect(page.locator("#banner")).to_contain_text("The node does not answer")
    expect(page.locator("#banner")).to_contain_text(
        re.compile(r"What stands below was true at .*\d:\d\d:\d\d")
    )
    expect(page.locator("main")).to_have_css("filter", "grayscale(1)")
    expect(page.locator("#state")).to_have_text("no answer")
    page.keyboard.press("5")
    expect(page.locator("main h1")).to_have_text("Nodes")
    expect(page.locator("main")).to_contain_text("It cannot be shown now")
    cluster.start([cluster.lan[0]], 60.0)
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("main")).to_have_css("filter", "none")
    expect(page.locator("#state")).to_contain_text("lan-1")
    expect(page.locator("main tbody tr", has_text="lan-1")).to_have_count(1)
    # the console of a browser tells of the request that the server could not answer
    watched.faults = [one for one in watched.faults if "status of 50" not in one]


def test_a_page_that_loses_its_server_says_so_and_comes_back(chromium: Browser, first: Member) -> None:
    context = chromium.new_context()
    with served(first.directory) as client:
        place = client.base_url
        own = Watched(context, str(place).rstrip("/"))
        page = own.show("nodes")
    expect(page.locator("#banner")).to_contain_text("The server of this page does not answer")
    expect(page.locator("#banner")).to_contain_text("What stands below was true at")
    expect(page.locator("main h1")).to_contain_text("Nodes")
    with served(first.directory, "--listen", f"{place.host}:{place.port}"):
        expect(page.locator("#banner")).to_be_hidden()
        expect(page.locator("#state.up")).to_be_visible()
    context.close()
    assert [fault for fault in own.faults if "ERR_" not in fault] == []


def test_beyond_loopback_the_page_asks_for_a_token_and_keeps_it_in_its_tab(
    chromium: Browser, first: Member, tmp_path: Path
) -> None:
    made = issue_server_certificate(tmp_path)
    tls = ("--tls-cert", str(made.certificate), "--tls-key", str(made.key))
    token = Tokens(first.directory).add("reader", "read", [], 0).text()
    context = chromium.new_context(ignore_https_errors=True)
    options = ("--listen", "0.0.0.0:0", "--name", "localhost", *tls)
    with served(first.directory, *options, verify=False) as client:
        own = Watched(context, f"https://localhost:{client.base_url.port}")
        page = own.page
        page.goto(own.base)
        expect(page.locator("#token")).to_be_visible()
        for typed in ("no token", token):
            page.fill("#token-typed", typed)
            page.keyboard.press("Enter")
            expect(page.locator("#token-typed")).to_have_value("")
        expect(page.locator("svg.mesh")).to_be_visible()
        expect(page.locator("#state.up")).to_be_visible()
        page.reload()
        expect(page.locator("svg.mesh")).to_be_visible()
        own.show("document?collection=users&key=ada")
        page.get_by_role("button", name="Store").click()
        own.toast("token reader is for read, this needs write")
        assert context.cookies() == []
        assert page.evaluate("[localStorage.length, location.href.includes('token')]") == [0, False]
    context.close()
    Tokens(first.directory).revoke("reader")


def test_a_node_is_retired_by_its_name(watched: Watched, first: Member) -> None:
    page = watched.show("nodes")
    row = page.locator("tbody tr", has_text="lan-2")
    row.get_by_role("button", name="Retire").click()
    confirm(page, "lan-2", "Retire")
    watched.toast("retired")
    expect(row).to_contain_text("retired")
    assert {node.node_id: node.state for node in first.db.nodes.all()}["lan-2"] == "retired"


def test_a_node_is_expelled_by_its_name(watched: Watched, first: Member) -> None:
    page = watched.show("nodes")
    row = page.locator("tbody tr", has_text="lan-2")
    row.get_by_role("button", name="Expel").click()
    confirm(page, "lan-2", "Expel")
    watched.toast("expelled")
    expect(row).to_contain_text("expelled")
    assert {row.node_id: row.state for row in first.db.nodes.members()}["lan-2"] == "expelled"
