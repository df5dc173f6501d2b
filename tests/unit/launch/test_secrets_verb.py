"""Where a new client secret is read from, and the lines that tell how secrets stand."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from entgldb.client.peers import SecretRow
from entgldb.launch.cli.cluster.secrets import given_secret, standing
from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import SECRET_BYTES_MAX

LONGEST = "x" * SECRET_BYTES_MAX


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
@pytest.mark.parametrize("secret", ["n3w", LONGEST])
def test_a_secret_is_a_line_of_a_file_or_of_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str, ending: str
) -> None:
    file = tmp_path / "secret"
    file.write_text(secret + ending, newline="")
    assert given_secret(file, from_stdin=False) == secret
    monkeypatch.setattr("sys.stdin", io.StringIO(secret + ending, newline=""))
    assert given_secret(None, from_stdin=True) == secret


def test_without_a_terminal_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n3w"))
    assert given_secret(None, from_stdin=False) is None


@pytest.mark.parametrize(
    "content", [b"", b"\n", LONGEST.encode() + b"y", "ü".encode() * SECRET_BYTES_MAX, b"s3cret\xff"]
)
def test_what_is_no_secret_is_refused_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(InvalidError) as fault:
        given_secret(file, from_stdin=False)
    assert "s3cret" not in str(fault.value)
    assert "xxxx" not in str(fault.value)
    assert "Error" not in str(fault.value), "words for a person"


def test_bytes_at_stdin_that_are_no_text_are_refused_and_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"s3cret\xff"), encoding="utf-8"))
    with pytest.raises(InvalidError, match=r"^the client secret is no text in UTF-8$"):
        given_secret(None, from_stdin=True)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="nowhere cannot be read"):
        given_secret(tmp_path / "nowhere", from_stdin=False)


def test_a_secret_that_is_known_outside_is_named_with_the_verb_that_helps() -> None:
    rows = [
        SecretRow("c1", True, True, None),
        SecretRow("c2", True, False, 1_800_000_000_000),
        SecretRow("c3", False, False, None),
    ]
    known, verb, changes = standing(rows)
    assert "the secret of c1 is known to a node that was expelled" in known
    assert verb.strip().endswith("entgldb rotate-secret c1")
    assert changes.startswith("the secret of c2 changes over; the one before counts beside it until 20")
