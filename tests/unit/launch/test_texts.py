"""Texts that go in and out of the command line: JSON that is ambiguous, texts that are no plain text,
files."""

from __future__ import annotations

import gzip
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import entgldb
from entgldb.client.database import Database
from entgldb.client.streams.lines import LINE_BYTES_MAX, Lines, exported
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb as command
from entgldb.launch.node.child import environment
from entgldb.messages.client import Commit, Write
from entgldb.messages.errors import EntglError, InvalidError
from entgldb.messages.limits import BODY_BYTES_MAX

EVIL = "a\x1b[31m\x07\x7f\x9b\u2028\n\t\u202eb\\c"
SHOWN = "a\\u001b[31m\\u0007\\u007f\\u009b\\u2028\\n\\t\\u202eb\\\\c"
EXAMPLES = int(os.environ.get("ENTGLDB_TEXTS", "100"))
"""A soak has more."""
UNSAFE = set("\x1b\x07\x7f\x9b\u2028\u202e\r")


Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture
def verb(directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Verb:
    def call(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = run(command, [arguments[0], "-d", str(directory), *arguments[1:]])
        return code, *capsys.readouterr()

    return call


DOUBLED = [
    ('{"a": 1, "a": 2}', "the name a twice"),
    ('{"b": {"a": 1, "a": 2}}', "the name b.a twice"),
    ('{"b": [{"a": 1, "\\u0061": 2}]}', "the name b[0].a twice"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("text", "place"), DOUBLED)
def test_a_doubled_name_is_refused_wherever_it_stands(
    verb: Verb, db: Database, tmp_path: Path, text: str, place: str
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"_key": "fine"}\n' + '{"_key": "k", "d": ' + text + "}\n")
    two_keys = tmp_path / "keys.jsonl"
    two_keys.write_text('{"_key": "k", "_key": "l"}\n')
    for code, out, err in (
        verb("put", "twice", "k", text),
        verb("put", "twice", "k", "-", stdin=text.encode()),
        verb("find", "twice", text),
        verb("count", "twice", text),
    ):
        assert (code, out) == (2, "")
        assert err.startswith("invalid: the ")
        assert place in err
    code, _, err = verb("import", "twice", str(file))
    assert code == 2
    assert f"{file}, line 2: the document has the name d.{place.split()[2]} twice" in err
    assert "nothing stored" in err
    code, _, err = verb("import", "twice", str(two_keys))
    assert code == 2
    assert f"{two_keys}, line 1: the document has the name _key twice" in err
    assert db["twice"].count() == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "body", [b'{"a":1,"a":2}', b'{"\\u0061":1}', b'{"n":"a\\u0000c"}', b'{"n":"\\ud800"}']
)
def test_a_text_that_could_not_be_found_again_is_refused_when_written_by_the_socket(
    db: Database, body: bytes
) -> None:
    with pytest.raises(InvalidError, match="a document has"):
        db.request(Commit(db.next_request(), (Write("sockets", "k", body),)))
    assert db["sockets"].get("k") is None


@pytest.mark.slow
@pytest.mark.parametrize("document", [{"n": "a\x00c"}, {"n": ["\ud800"]}, {"\udfff": 1}, {"a": [[[]]] * 9}])
def test_the_python_api_refuses_it_too_and_names_the_key(db: Database, document: dict[str, Any]) -> None:
    deep: Any = []
    for _ in range(40):
        deep = (deep,)
    for refused in ({**document, "n": document.get("n", deep)}, {"deep": deep}):
        with pytest.raises(InvalidError, match="document 'k' "):
            db["python"].put("k", refused)
    with pytest.raises(InvalidError, match="key"):
        db["python"].put("\ud800", {})
    with pytest.raises(InvalidError, match="key"):
        db["python"].delete("\ud800")
    assert db["python"].count() == 0


@pytest.mark.slow
def test_a_key_and_a_value_with_control_characters_are_one_harmless_line_in_every_verb(
    verb: Verb, directory: Path
) -> None:
    name = "evil"
    document = {EVIL: [EVIL]}
    printed = [verb("put", name, EVIL, json.dumps(document))[1]]
    for arguments in (("find", name), ("get", name, EVIL), ("changes", name), ("export", name)):
        code, out, _ = verb(*arguments)
        assert code == 0
        assert len(out.splitlines()) == 1, arguments
        printed.append(out)
        code, out, _ = verb(*arguments, "--json")
        first, *rest = out.splitlines()
        shown = json.loads(first)
        assert len(rest) == (arguments[0] == "changes"), "the token of now comes last"
        assert shown["document"] == document
        assert shown["key"] == EVIL
        printed.append(out)
    printed += [
        verb("history", name, EVIL)[1],
        verb("why", name, EVIL)[1],
        verb("delete", name, EVIL)[1],
        verb("undelete", name, EVIL)[1],
        verb("get", name, EVIL + "x")[2],
        verb("delete", name, EVIL + "x")[2],
        verb("why", name, EVIL + "x")[1],
        verb("find", EVIL)[2],
        verb("find", name, json.dumps({EVIL: 1}))[2],
        verb("put", name, "k", EVIL)[2],
        verb("get", name, "k", "--on\x1b")[2],
        verb("history", name, EVIL + "x")[2],
        verb("ask", "sync", "Isolate", f"seconds={EVIL}")[2],
    ]
    for text in printed:
        assert text
        assert not UNSAFE & set(text), repr(text)
    assert any(SHOWN in text for text in printed)
    seen = _in_terminal(directory, "find", name)
    assert seen == verb("find", name)[1].replace("\n", "\r\n"), "a pipe and a terminal get the same"


def _in_terminal(directory: Path, *arguments: str) -> str:
    main, side = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "entgldb", arguments[0], "-d", str(directory), *arguments[1:]],
            stdout=side,
            stderr=side,
            env={**environment(), "LC_ALL": "C", "PYTHONIOENCODING": "latin-1"},
            timeout=60,
            check=True,
        )
        return os.read(main, 65536).decode("utf-8")
    finally:
        os.close(main)
        os.close(side)


def test_two_keys_are_never_shown_alike() -> None:
    from entgldb.launch.cli.common import plain

    texts = ["a\nb", "a\\nb", "a\\\nb", "a\\u000ab", "a\u202eb", "a\\u202eb"]
    assert len({plain(text) for text in texts}) == len(texts)


FAULTS: list[tuple[bytes, str]] = [
    (b'{"_key": "x", "v": NaN}', "NaN is no JSON number"),
    (b'{"_key": "x", "v": Infinity}', "Infinity is no JSON number"),
    (b'{"_key": "x", "v": 1e999}', "1e999 is beyond a double"),
    (b'{"_key": "x", "v": ' + b"[" * 32 + b"]" * 32 + b"}", "nested deeper than 32"),
    (b'{"_key": "x", "v": "' + b"x" * BODY_BYTES_MAX + b'"}', "1048576 allowed"),
    (b'{"_key": "' + b"x" * 513 + b'"}', "a key of 513 bytes"),
    (b'{"_key": "a\\u0000"}', "NUL"),
    (b'{"_key": "\\ud800"}', "half a surrogate pair in _key"),
    (b'{"_key": ""}', "no field _key that could be a key"),
    (b'{"_key": true}', "no field _key that could be a key"),
    (b'{"_key": 5}', "the key 5 is a whole number, those before are texts"),
    (b'{"_key": "\xe4"}', "byte 11, 0xe4, is no UTF-8"),
    (b"[1]", "not a JSON object but an array"),
    (b"{", "no JSON"),
    (b" " * LINE_BYTES_MAX + b"{}", "longer than"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("line", "why"), FAULTS)
def test_a_fault_in_an_import_names_file_line_reason_and_what_was_stored(
    verb: Verb, db: Database, tmp_path: Path, line: bytes, why: str
) -> None:
    name = f"faults-{FAULTS.index((line, why))}"
    lines = [json.dumps({"_key": f"k{i}"}).encode() for i in range(1000)]
    lines[699] = line
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"\n".join(lines))
    code, out, err = verb("import", name, str(file))
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert f"{file}, line 700: " in err
    assert why in err
    assert "500 stored (lines 1 to 500)" in err
    assert db[name].count() == 500


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b'[{"_key": "a"},\n{"_key": "b"}]', "jq -c '.[]'"),
        (b'{\n  "_key": "a"\n}\n', "jq -c ."),
        (b"_key,name\na,Ada\n", "for CSV: entgldb import"),
        (b"_key;name\na;Ada\n", "for CSV: entgldb import"),
        (gzip.compress(b'{"_key": "a"}\n', mtime=0), "gunzip"),
        ('{"_key": "a"}\n'.encode("utf-16"), "iconv -f UTF-16"),
        ('{"_key": "a"}\n'.encode("utf-16-le"), "iconv -f UTF-16"),
        ('{"_key": "ä"}\n'.encode("latin-1"), "iconv -f ISO-8859-1"),
    ],
)
def test_a_file_that_is_no_json_lines_is_recognised(
    verb: Verb, db: Database, tmp_path: Path, content: bytes, hint: str
) -> None:
    file = tmp_path / "rows"
    file.write_bytes(content)
    for path, stdin in ((str(file), b""), ("-", content)):
        code, out, err = verb("import", "strange", path, stdin=stdin)
        assert (code, out) == (2, "")
        assert f"{path}, line 1: " in err
        assert "nothing stored" in err
        assert f"Try: {hint}" in err or hint in err.partition(" Try: ")[2]
    assert db["strange"].count() == 0


@pytest.mark.slow
def test_a_mark_of_byte_order_is_no_fault(verb: Verb, db: Database, tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"_key": "a"}\r\n\r\n{"_key": "b"}'
    (tmp_path / "rows").write_bytes(content)
    assert verb("import", "marked", str(tmp_path / "rows"))[0] == 0
    assert verb("import", "marked-too", "-", stdin=content)[0] == 0
    assert verb("put", "marked-three", "k", stdin=b'\xef\xbb\xbf{"n": 1}')[0] == 0
    assert [db[name].count() for name in ("marked", "marked-too", "marked-three")] == [2, 2, 1]


@pytest.mark.slow
def test_what_was_stored_before_a_fault_is_counted_by_both_apis(db: Database, directory: Path) -> None:
    import asyncio

    rows = [(f"k{i}", {"n": float("nan") if i == 1300 else i}) for i in range(2000)]

    async def aside() -> None:
        async with entgldb.aio.connect(directory) as other:
            await other["counted-aio"].put_many(rows)

    for put in (lambda: db["counted"].put_many(rows), lambda: asyncio.run(aside())):
        with pytest.raises(EntglError, match="k1300") as caught:
            put()
        assert caught.value.stored == 1000
    assert db["counted"].count() == db["counted-aio"].count() == 1000


TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
NAMES = TEXTS | st.sampled_from(["_key", "_document", "key", "document", "schema_version"])


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(TEXTS.filter(bool), st.dictionaries(NAMES, VALUES, max_size=4)), max_size=4))
def test_every_document_there_can_be_comes_back_as_it_was(rows: list[tuple[str, dict[str, Any]]]) -> None:
    from entgldb.launch.cli.common import as_json_text

    text = "".join(as_json_text(exported(key, document)) + "\n" for key, document in rows)
    assert list(Lines(io.BytesIO(text.encode()), "rows", "_key", "rows")) == rows
