"""CSV both ways: what comes back, which faults are named with line and column."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import entgldb
from entgldb.client.streams.lines import LINE_BYTES_MAX
from entgldb.client.streams.tabular import COLUMNS_MAX, Rows, Writer, columns
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb as command
from entgldb.launch.node.child import environment
from entgldb.messages.errors import EntglError, InvalidError

TEXTS = st.text(st.characters(exclude_characters="\x00\r", exclude_categories=["Cs"]), min_size=1, max_size=8)
NAMES = TEXTS.filter(lambda name: name != "_key")
OTHERS = st.booleans() | st.integers() | st.none() | st.lists(st.integers(), max_size=3)


def read(text: bytes | str, field: str = "_key", **options: Any) -> list[tuple[str, dict[str, Any]]]:
    data = text.encode() if isinstance(text, str) else text
    return list(Rows(io.BytesIO(data), "rows.csv", field, "c", **options))


def written(rows: list[tuple[str, dict[str, Any]]], delimiter: str = ",") -> str:
    file = io.StringIO()
    writer = Writer(file, columns(document for _, document in rows), delimiter)
    for key, document in rows:
        writer.write(key, document)
    return file.getvalue()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(TEXTS, st.dictionaries(NAMES, TEXTS, max_size=4)), max_size=4),
    st.sampled_from(",;\t|"),
)
def test_documents_of_texts_come_back_as_they_were(rows: list[tuple[str, dict[str, Any]]], mark: str) -> None:
    assert read(written(rows, mark), delimiter=mark) == rows


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.dictionaries(NAMES, OTHERS, max_size=4)), max_size=4))
def test_what_is_no_text_comes_back_typed(rows: list[tuple[str, dict[str, Any]]]) -> None:
    assert read(written(rows), typed=True) == rows


def test_cells_are_text_unless_they_are_to_be_typed() -> None:
    table = "_key,n,zip,t,none,date,o\n1,12,0123,true,,2026-01-02,{}\n"
    (row,) = read(table)
    assert row == ("1", {"n": "12", "zip": "0123", "t": "true", "date": "2026-01-02", "o": "{}"})
    (row,) = read(table, typed=True)
    assert row == ("1", {"n": 12, "zip": "0123", "t": True, "date": "2026-01-02", "o": {}})
    assert read("id;n\nx;1\n\ny;2", "id", delimiter=";") == [
        ("x", {"id": "x", "n": "1"}),
        ("y", {"id": "y", "n": "2"}),
    ]
    assert read(b'\xef\xbb\xbf_key,n\r\na,"1\r\n2"\r\n') == [("a", {"n": "1\r\n2"})]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "line 0: the file is empty"),
        (b"name\nx\n", "line 1: no column _key that could be the key"),
        (b"_key;name\nx;y\n", "line 1: one column alone"),
        (b"_key,a,a\n", "line 1: two columns named 'a'"),
        (b"_key,,b\n", "line 1: a column without a name"),
        (b"_key,a\nx,1\ny,1,2\n", "line 3: 3 cells, where the first row names 2 columns"),
        (b"_key,a\nx,1\ny\n", "line 3: 1 cells"),
        (b"_key,a\n,1\n", "line 2: column _key: an empty cell is no key"),
        (b'_key,a\nx,"1\n2\n', "line 3: unexpected end of data"),
        (b'_key,a\nx,"1"2\n', "line 2: ',' expected after '\"'"),
        (b"_key,a\nx,\xe4\n", "line 2: byte 3, 0xe4, is no UTF-8"),
        (b'_key,a\nx,"[1,"\n', "line 2: column a"),
        (b"\x1f\x8b_key\n", "line 1: the file is compressed"),
        ("_key,a\n".encode("utf-16"), "line 1: the file is UTF-16"),
        (
            b"_key," + b",".join(b"%d" % n for n in range(COLUMNS_MAX)) + b"\n",
            "2001 columns, 2000 are possible",
        ),
        (
            b"_key,a\n" + b'"' + b'1\n","'.join([b"1" * 10**6] * (LINE_BYTES_MAX // 10**6 + 1)),
            "a row longer than",
        ),
        (b'_key,a\nx,"' + b"1" * 2**20 + b'0"\n', "field larger than field limit"),
        (b"_key,a\n" + b"k" * 513 + b",1\n", "line 2: "),
    ],
)
def test_a_fault_names_line_and_column(text: bytes, said: str) -> None:
    with pytest.raises(EntglError) as caught:
        read(text, typed=True)
    assert said in caught.value.text
    assert caught.value.text.startswith("rows.csv, line ")


def test_columns_are_bounded_and_named_before_the_rows() -> None:
    with pytest.raises(InvalidError, match="more than 2000"):
        columns({str(n): 1} for n in range(COLUMNS_MAX + 1))
    with pytest.raises(InvalidError, match="a field _key"):
        columns([{"_key": 1}])
    with pytest.raises(InvalidError, match="'k' has got a field 'b' meanwhile"):
        Writer(io.StringIO(), ["a"], ",").write("k", {"b": 1})


@pytest.mark.slow
def test_a_table_goes_in_and_out(directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, name = tmp_path / "prices.tsv", ["-d", str(directory), "prices"]
    file.write_text("article\tprice\nnail\t3\nsaw\t12.5\n")
    assert (
        run(command, ["import", *name, str(file), "--key", "article", "--delimiter", "tab", "--typed"]) == 0
    )
    with entgldb.connect(directory) as db:
        assert db["prices"].get("saw") == {"article": "saw", "price": 12.5}
    capsys.readouterr()
    assert run(command, ["export", *name, "--format", "csv"]) == 0
    assert capsys.readouterr().out == "_key,article,price\nnail,nail,3\nsaw,saw,12.5\n"
    assert run(command, ["export", *name, "--format", "csv", "--delimiter", "xx"]) == 2
    assert "is not one character" in capsys.readouterr().err


@pytest.mark.slow
def test_a_fault_says_how_many_rows_stand(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.csv"
    lines = ["_key,a", *(f"k{n},1" for n in range(1000))]
    lines[700] = "k,1,2"
    file.write_text("\n".join(lines))
    assert run(command, ["import", "-d", str(directory), "faulty", str(file)]) == 2
    assert f"{file}, line 701: 3 cells, where the first row names 2 columns; 500 stored (lines 1 to 501)" in (
        capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_bar_shows_on_a_terminal_how_far_the_file_is_read(directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "many.csv"
    file.write_text("_key,a\n" + "".join(f"k{n},1\n" for n in range(5000)))
    arguments = [sys.executable, "-m", "entgldb", "import", "-d", str(directory), "many", str(file)]
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=theirs, env=environment(), timeout=60)
        os.close(theirs)
        shown = b""
        # the other end of a terminal that nobody holds any more
        while piece := _rest(ours):
            shown += piece
    finally:
        os.close(ours)
    assert done.returncode == 0, shown
    assert b"many.csv" in shown
    assert b"100%" in shown


def _rest(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
