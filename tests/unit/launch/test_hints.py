"""The hints of the command line to a person who has mistyped something. No node runs: reads need none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb
from entgldb.messages.client import RequestId, Write
from entgldb.storage.store import Store

NOW = 1_790_000_000_000
Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture
def verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    store = Store.open(tmp_path, "lan-1", NOW)
    writes = [Write("users", key, b"{}") for key in ("u1", "u2")] + [Write("past", "k", b"{}")]
    with store.group():
        store.write(RequestId(b"c" * 16, 1), writes, NOW)
        store.write(RequestId(b"c" * 16, 2), [Write("past", "k", None)], NOW)
    store.close()

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(entgldb, [arguments[0], "-d", str(tmp_path), *arguments[1:]])
        return code, *capsys.readouterr()

    return call


def test_the_collections_that_there_are(verb: Verb) -> None:
    assert verb("collections")[1].splitlines() == [
        "collection    documents    conflict",
        "past          0            lww",
        "users         2            lww",
    ]
    shown = json.loads(verb("collections", "--json")[1])
    assert shown["collections"][1] == {"collection": "users", "documents": 2, "conflict": "lww"}
    assert shown["schema_version"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("find", "usres"),
        ("count", "usres"),
        ("export", "usres"),
        ("changes", "usres"),
        ("conflicts", "usres"),
    ],
)
def test_a_mistyped_collection_is_noticed_beside_the_output(verb: Verb, arguments: tuple[str, ...]) -> None:
    code, out, err = verb(*arguments)
    assert (code, out) == (0, "0\n" if arguments[0] == "count" else "")
    assert err.splitlines()[0] == (
        "note: there has never been a document in usres here; did you mean users? Try: entgldb collections"
    )
    known = verb(arguments[0], "past")
    assert "never been" not in known[2]


@pytest.mark.parametrize("name", ["get", "history"])
def test_a_key_of_a_mistyped_collection_is_not_there_and_the_error_says_why(verb: Verb, name: str) -> None:
    code, _, err = verb(name, "Users", "u1")
    assert code == 3
    assert "there has never been a document in Users here; did you mean users?" in err
    assert err.endswith("Try: entgldb collections\n")
    code, _, err = verb(name, "users", "u9")
    assert (code, err.partition(" Try: ")[2]) == (3, "entgldb find users\n")


@pytest.mark.parametrize("name", ["my users", "us\udcff", "", "_x"])
def test_what_is_no_collection_name_is_told_so_by_every_verb_that_reads(verb: Verb, name: str) -> None:
    for arguments in (
        ("find", name),
        ("count", name),
        ("export", name),
        ("changes", name),
        ("conflicts", name),
        ("collection", name),
        ("get", name, "u1"),
        ("history", name, "u1"),
        ("why", name, "u1"),
    ):
        code, out, err = verb(*arguments)
        assert (code, out) == (2, ""), arguments
        assert err.startswith(f"invalid: collection {name!r} is not a collection name. Try: use 1 to 64 ")


@pytest.mark.parametrize("key", ["", "\udcff", "x" * 513, "a\x00b"])
def test_what_is_no_key_is_told_so_by_every_verb_that_reads(verb: Verb, key: str) -> None:
    for name in ("get", "history", "why"):
        code, out, err = verb(name, "users", key)
        assert (code, out) == (2, "")
        assert err.startswith(("invalid: a key of ", "invalid: the key is not valid Unicode text"))


def test_an_expired_token_says_what_to_type(verb: Verb) -> None:
    code, out, err = verb("changes", "users", "--since", "0" * 32 + ".1")
    assert (code, out) == (1, "")
    assert err.startswith("token-expired: ")
    assert err.endswith("Try: entgldb changes users: every document comes once more\n")
    assert "since=None" not in err
    assert "not a change token" in verb("changes", "--since", "yesterday")[2]


@pytest.mark.parametrize("path", ["a'b", "$x", "a..b", "a\x1bb", ""])
def test_a_field_that_no_path_can_name_is_told_so(verb: Verb, path: str) -> None:
    for arguments in (("find", "users", json.dumps({path: 1})), ("find", "users", "--sort", path)):
        code, _, err = verb(*arguments)
        assert code == 2
        assert "\x1b" not in err
        assert "field path" in err or "filter with $x" in err
    assert verb("find", "users", '{"\N{GRINNING FACE}": 1}')[0] == 0
