"""The command line without a node: help, errors as one line, exit codes, and what it imports."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import entgldb as package
from entgldb.client.health.complaints import complaints
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb
from entgldb.launch.cli.node.actors import build_message
from entgldb.launch.cli.node.status import text
from entgldb.launch.node.init import PORT_MIN, pick_port
from entgldb.messages.client import Isolate, RequestId, Status, Write
from entgldb.messages.errors import InvalidError
from entgldb.storage.store import Store

NOT_FOR_READING = {
    "asyncio",
    "cryptography",
    "dataclasses",
    "entgldb.client.nodes",
    "entgldb.client.peers",
    "entgldb.client.wire",
    "entgldb.messages.codec",
    "entgldb.messages.local.actors",
    "entgldb.messages.local.members",
    "entgldb.messages.remote_peers",
    "entgldb.messages.wire",
    "entgldb.storage.rules.header",
    "entgldb.storage.rules.merging.row",
    "entgldb.storage.log.unfit",
    "entgldb.storage.store",
    "logging",
    "msgpack",
    "socket",
    "sqlite_utils",
    "ssl",
    "thespian",
}
"""A cold `get` is mostly imports: each of these would be felt at every call."""
CTX = click.Context(entgldb, info_name="entgldb")
VERBS = entgldb.list_commands(CTX)


def words_of(verb: str) -> list[list[str]]:
    """The words of a verb, or of each verb of a group."""
    command = entgldb.get_command(CTX, verb)
    return [[verb, one] for one in command.commands] if isinstance(command, click.Group) else [[verb]]


@pytest.mark.parametrize("words", [words for verb in VERBS for words in words_of(verb)], ids=" ".join)
def test_every_verb_has_help_with_an_example_directory_and_json(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(entgldb, [*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example:" in text
    assert "--json" in text


GROUPS = [verb for verb in VERBS if len(words_of(verb)) > 1]


@pytest.mark.parametrize("words", [[], *([verb] for verb in GROUPS)], ids=" ".join)
def test_the_overview_is_shown_whole_where_no_verb_is_named(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(entgldb, [*words]) == 2
    unasked = capsys.readouterr().err
    run(entgldb, [*words, "--help"])
    assert unasked == capsys.readouterr().out
    assert not re.search(r"[^]]\.\.\.$", unasked, re.M), unasked


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["nonsense"], 2, "usage:"),
        (["lst-peers"], 2, "usage: No such command 'lst-peers'. Did you mean list-peers?"),
        (["put", "users"], 2, "usage:"),
        (["get", "-d", "{dir}", "users", "u1"], 4, "no-node: no node is running in"),
        (["put", "-d", "{dir}", "users", "u1", "{}"], 4, "no-node: no node is running in"),
        (["put", "-d", "{dir}", "users", "u1", "{"], 2, "invalid: the document is no JSON"),
        (["put", "-d", "{dir}", "users", "u1", "[1]"], 2, "invalid: the document is not a JSON object"),
        (["status", "-d", "{dir}"], 4, "no-node:"),
        (["stop", "-d", "{dir}"], 4, "no-node:"),
        (["init", "-d", "{dir}/n", "--node-id", "a b"], 2, "invalid: --node-id"),
        (["init", "-d", "{dir}/n", "--authority", "https://a.example"], 2, "usage:"),
        (["update-peer", "-d", "{dir}", "cloud-1"], 2, "usage:"),
        (["ask", "-d", "{dir}", "sync", "Isolate"], 2, "invalid: Isolate needs seconds"),
        (
            ["ask", "-d", "{dir}", "sync", "Isolate", "seconds=Infinity"],
            2,
            "invalid: Isolate.seconds='Infinity' is no JSON: Infinity is no JSON number; float is expected",
        ),
        (["tell", "-d", "{dir}", "election", "StandDown", "seconds=1e999"], 2, "invalid: StandDown.seconds="),
        (["ask", "-d", "{dir}", "nobody", "Status"], 2, "usage:"),
    ],
)
def test_errors_are_one_line_with_a_code(
    arguments: list[str], code: int, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(entgldb, [part.replace("{dir}", str(tmp_path)) for part in arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(word)
    assert len(err.splitlines()) == 1


def test_init_prints_one_object_of_a_known_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(entgldb, ["init", "-d", str(tmp_path / "n"), "--node-id", "lan-1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["schema_version"] == 1
    assert shown["node_id"] == "lan-1"
    assert 0 < shown["port"] < 65536


def test_a_secret_is_never_taken_from_an_argument(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["add-cloud-peer", "-d", str(tmp_path), "--node-id", "c", "--address", "a.example:1"]
    arguments += ["--authority", "https://a.example", "--client-id", "x", "--client-secret", "hunter2"]
    assert run(entgldb, arguments) == 2
    assert "hunter2" not in capsys.readouterr().err


def test_messages_are_built_strictly() -> None:
    assert build_message("Isolate", ("seconds=3",)) == Isolate(3.0)
    assert build_message("Status", ()) == Status()
    for name, given in (("Commit", ()), ("Isolate", ("seconds=soon",)), ("Status", ("x=1",))):
        with pytest.raises(InvalidError):
            build_message(name, given)


def test_status_complains_about_what_needs_attention() -> None:
    well = {
        "role": "lan",
        "store": {"quarantined": 0, "held": 0},
        "oplog": {},
        "sync": {},
        "election": {"gateway": "lan-1"},
        "gateway": {"links": [{"node_id": "c", "state": "connected"}]},
    }
    assert complaints(well) == []
    ill = {**well, "oplog": None, "store": {"quarantined": 1}, "election": {"gateway": ""}}
    ill["gateway"] = {"links": [{"node_id": "c", "state": "backoff", "reason": "secret-missing"}]}
    assert len(complaints(ill)) == 4


@pytest.mark.parametrize(("peers", "said"), [([], 1), ([{"node_id": "lan-3"}], 0)])
def test_status_tells_a_node_that_all_refuse_for_its_cluster_key_how_it_comes_back(
    peers: list[dict[str, str]], said: int
) -> None:
    rows = [{"address": "h:1", "reason": "tls-refused"}, {"address": "h:2", "reason": "unreachable"}]
    well = {name: {} for name in ("store", "oplog", "election", "gateway")}
    found = complaints({**well, "node_id": "lan-1", "sync": {"peers": peers, "unanswered": rows}})
    told = [line for line in found if "invite --for lan-1" in line and "rejoin --join" in line]
    assert [line.split()[0] for line in told] == ["h:1"] * said


@pytest.mark.parametrize(
    ("secret", "ending"),
    [("", "out ?"), ("new", ", new secret"), ("previous", ", by the secret before")],
)
def test_status_says_by_which_secret_a_link_goes_on_while_it_changes_over(secret: str, ending: str) -> None:
    link = {"node_id": "c", "address": "h:1", "state": "connected", "secret": secret}
    (line,) = (
        one for one in text({"role": "lan", "gateway": {"links": [link]}}, []).splitlines() if "h:1" in one
    )
    assert line.endswith(ending)


def test_status_of_every_node_says_what_is_wrong_with_the_clusters_cloud_links() -> None:
    told = {
        "gateway": "lan-1",
        "connected": ["c"],
        "troubles": {"c": "authority-refused", "d": "unreachable", "e": "quota-documents"},
    }
    member = {"role": "lan", "store": {}, "oplog": {}, "sync": {}, "election": told, "gateway": {"links": []}}
    assert complaints(member) == [
        "the link to c ends with its token (authority-refused): entgldb test-peer c",
        "the link to d is down (unreachable): entgldb test-peer d",
        # test-peer finds nothing wrong: the cloud's operator has to act
        "the link to e is down (quota-documents), to be changed on e: entgldb tenant limit",
    ]


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (
            {"id": "ab12", "client_id": "shop", "shared": False},
            "cluster   ab12, client shop (serve another: entgldb unpin-cluster)",
        ),
        ({"id": "", "client_id": "", "shared": True}, "cluster   any, mixed (cloud.shared)"),
    ],
)
def test_status_of_a_cloud_node_says_which_cluster_it_serves(told: dict[str, Any], line: str) -> None:
    assert line in text({"node_id": "c", "role": "cloud", "sync": {"cluster": told}}, []).splitlines()


def test_status_of_a_cloud_node_tells_the_tenants_that_have_written_most() -> None:
    rows = [
        {"name": f"shop-{number}", "documents": 5, "oplog_entries": 7, "lsn": 9, "refused": number}
        for number in range(11)
    ]
    store = {"tenants_open": 12, "tenants": {"states": {"active": 12, "deleted": 1}, "rows": rows}}
    lines = text({"role": "cloud", "store": store, "sync": {"tenant_links": {"shop-0": 2}}}, []).splitlines()
    assert "tenants   12 active, 1 deleted; 12 open" in lines
    assert "tenant    shop-0 5 documents, 7 oplog entries, 2 links" in lines
    assert "tenant    shop-9 5 documents, 7 oplog entries, ? links, 9 batches refused" in lines
    assert not any("shop-10" in line for line in lines)
    assert "          others: entgldb tenant list" in lines


@pytest.mark.slow
def test_client_verbs_import_neither_actors_nor_tls_nor_asyncio(tmp_path: Path) -> None:
    program = (
        "import sys; from entgldb.launch.cli.main import entgldb; from entgldb.launch.cli.common import run\n"
        "for verb in (['find', 'users'], ['put', 'users', 'u1', '{}'], ['list-peers'], ['status']):\n"
        "    assert run(entgldb, [*verb, '-d', sys.argv[1]]) == 4\n"
        "heavy = {'thespian', 'sqlite_utils', 'asyncio', 'cryptography', 'ssl'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(package.__path__[0]).parent)}
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_read_imports_only_what_it_uses(tmp_path: Path) -> None:
    store = Store.open(tmp_path, "lan-1", 1_790_000_000_000)
    with store.group():
        store.write(RequestId(b"c" * 16, 1), [Write("users", "u1", b'{"n":1}')], 1_790_000_000_000)
    store.close()
    program = (
        "import sys; from entgldb.launch.cli.main import entgldb; from entgldb.launch.cli.common import run\n"
        "for verb in ('get users u1', 'find users {}', 'count users', 'export users'):\n"
        "    assert run(entgldb, [*verb.split(), '-d', sys.argv[1]]) == 0\n"
        "print(*sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(package.__path__[0]).parent)}
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], env=environment, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "entgldb.storage.documents.query" in loaded
    assert loaded & NOT_FOR_READING == set()


def test_no_verb_prints_a_text_of_somebody_else_as_it_stands() -> None:
    """``say`` and ``show`` escape what a terminal would take for an order."""
    verbs = [
        file
        for file in (Path(package.__path__[0]) / "launch" / "cli").glob("*/*.py")
        if file.parent.name != "trials" or file.name == "check_token.py"
    ]
    raw = re.compile(r"click\.echo\((?!.*err=True)|\bprint\(")
    assert len(verbs) > 10
    assert [file.name for file in verbs if raw.search(file.read_text())] == []


def test_a_port_that_is_picked_is_none_that_an_outgoing_connection_may_get() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    picked = {pick_port("127.0.0.1") for _ in range(50)}
    assert all(PORT_MIN <= port < first for port in picked)
    assert len(picked) > 40
    with pytest.raises(InvalidError, match=r"--host 192\.0\.2\.1"):
        pick_port("192.0.2.1")


def test_a_verb_that_crashes_leaves_no_memory() -> None:
    """Verbs hold the cluster key, codes and secrets for a while, too."""
    code = (
        "import resource, sys; from entgldb.launch.cli.main import main; sys.argv[1:] = ['--version']\n"
        "try: main()\nfinally: print(resource.getrlimit(resource.RLIMIT_CORE))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    least = min(1, resource.getrlimit(resource.RLIMIT_CORE)[1] % 2**64)
    assert said.stdout.splitlines()[-1] == f"({least}, {least})"
