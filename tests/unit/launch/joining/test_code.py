"""The code of an invitation: short, forgiving to whoever types it, and never half right."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entgldb.launch.cli.cluster.invite import _announce
from entgldb.launch.joining.code import CODE_CHARS_MAX, Code, new_code, read_code
from entgldb.messages.errors import InvalidError
from entgldb.messages.secret import Secret

NAMES = st.from_regex(r"[a-z][a-z0-9.-]{0,61}[a-z0-9]", fullmatch=True)
HOSTS = st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str), NAMES)
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@settings(deadline=None)
@given(HOSTS, st.integers(1, 65535), st.binary(min_size=5, max_size=5))
def test_a_code_is_read_back_however_it_is_typed(host: str, port: int, secret: bytes) -> None:
    code = Code(host, port, Secret(secret))
    text = code.text()
    assert len(text) <= CODE_CHARS_MAX
    spoken = text.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert read_code(text) == read_code(spoken) == read_code(f" {text}\n") == code


@pytest.mark.parametrize("host", ["10.0.5.1", "fd00::5:1", "till.example"])
def test_every_single_wrong_letter_is_noticed(host: str) -> None:
    text = Code(host, 9437, Secret(b"\1\2\3\4\5")).text().replace("-", "")
    for place, right in enumerate(text):
        for letter in set(LETTERS) - {right}:
            with pytest.raises(InvalidError, match="mistyped"):
                read_code(text[:place] + letter + text[place + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "hello",
        "U" * 20,
        "0" * 21,
        "0G50-0181-4KEG-0000-0006",
        "0G50-0181-4KEG-0000-0006-J0",
        "0G50-0181-4KEG-0000-0006-9",
        "é" * 21,
        "0" * 10_000,
        "\x1b[31m0G50",
    ],
)
def test_no_code_is_taken_for_one(text: str) -> None:
    with pytest.raises(InvalidError):
        read_code(text)


@pytest.mark.parametrize("host", ["", "x" * 64, "fe80::1%eth0", "müller.example", "a\nb"])
def test_a_host_that_fits_into_no_code_is_refused(host: str) -> None:
    with pytest.raises(InvalidError):
        new_code(host, 9000)


def test_a_code_is_shown_as_letters_and_as_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    code = new_code("10.0.5.1", 9437).text()
    _announce(code, 15.0, as_json=False, qr=True)
    told = capsys.readouterr()
    drawn = [line for line in told.out.splitlines() if len(set(line) & set("▀▄█")) > 1]
    assert f"  entgldb init --join {code}\n" in told.out
    assert len(drawn) > 8, "two rows of the picture in one line"


def test_the_secret_is_in_no_text_but_the_code() -> None:
    code = new_code("10.0.5.1", 9437)
    assert repr(code) == "Code(host='10.0.5.1', port=9437, secret=<secret>)"
    assert new_code("10.0.5.1", 9437).secret != code.secret
