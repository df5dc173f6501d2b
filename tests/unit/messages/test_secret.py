"""A secret comes out by its two doors alone."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import msgpack
import pytest

from entgldb.messages import secret as module
from entgldb.messages.secret import Secret

CANARY = "canary-7f3a"
SECRET = Secret(CANARY)


@dataclass(frozen=True)
class Holder:
    """Anything that has one among its fields."""

    name: str
    password: Secret


HOLDER = Holder("n", SECRET)
REFUSING: dict[str, Callable[[], Any]] = {
    "str": lambda: str(SECRET),
    "f-string": lambda: f"{SECRET}",
    "format": lambda: "{:>40}".format(SECRET),  # noqa: UP032 -- the method is meant
    "%s": lambda: "%s" % SECRET,  # noqa: UP031 -- the operator is meant
    "join": lambda: "".join([SECRET]),  # type: ignore[list-item]  # what is refused
    "bytes": lambda: bytes(SECRET),
    "pickle": lambda: pickle.dumps(SECRET),
    "copy": lambda: copy.copy(SECRET),
    "deepcopy": lambda: copy.deepcopy(HOLDER),
    "asdict": lambda: asdict(HOLDER),
    "json": lambda: json.dumps(SECRET),
    "json by text": lambda: json.dumps({"a": SECRET}, default=str),
    "msgpack": lambda: msgpack.packb(SECRET),
    "hash": lambda: hash(HOLDER),
    "index": lambda: SECRET[0],  # type: ignore[index]  # what is refused
    "list": lambda: list(SECRET),  # type: ignore[call-overload]  # what is refused
    "vars": lambda: vars(SECRET),
    "add": lambda: "Basic " + SECRET,  # type: ignore[operator]  # what is refused
    "order": lambda: Secret("z") > SECRET,  # type: ignore[operator]  # what is refused
}


@pytest.mark.parametrize("way", REFUSING)
def test_a_secret_is_refused_to_whatever_would_carry_it_away(way: str) -> None:
    with pytest.raises(TypeError) as refused:
        REFUSING[way]()
    assert CANARY not in str(refused.value)


def test_what_shows_a_secret_shows_that_there_is_one() -> None:
    assert repr(SECRET) == "<secret>"
    assert repr(HOLDER) == "Holder(name='n', password=<secret>)"
    assert f"{HOLDER} {SECRET!r}" == "Holder(name='n', password=<secret>) <secret>"


def test_no_log_line_and_no_traceback_has_it(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("t").error("it was %r, of %s", SECRET, HOLDER)
    try:
        raise ValueError(SECRET, HOLDER)  # noqa: TRY301 -- its traceback is looked at
    except ValueError as fault:
        shown = "".join(traceback.TracebackException.from_exception(fault, capture_locals=True).format())
    assert "it was <secret>" in caplog.text
    assert "ValueError: (<secret>" in shown
    assert CANARY not in shown + caplog.text


def test_it_comes_out_as_it_went_in() -> None:
    assert (SECRET.text(), SECRET.reveal(), len(SECRET)) == (CANARY, CANARY.encode(), len(CANARY))
    assert Secret(b"\xff\x00").reveal() == b"\xff\x00"
    with pytest.raises(UnicodeDecodeError):
        Secret(b"\xff").text()


def test_two_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Secret(CANARY.encode()) == SECRET
    assert Secret("canary-7f3b") != SECRET
    assert SECRET != CANARY
    assert CANARY.encode() != SECRET
    compared: list[tuple[bytes, bytes]] = []

    def compare_digest(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    monkeypatch.setattr(module.hmac, "compare_digest", compare_digest)
    assert Secret(CANARY) != SECRET
    assert compared == [(CANARY.encode(), CANARY.encode())]


def test_an_empty_one_is_none() -> None:
    assert not Secret("")
    assert SECRET
