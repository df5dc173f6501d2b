"""What host and guest say: a guest with the code gets the key, everybody else nothing at all."""

from __future__ import annotations

import json

import pytest

from entgldb.launch.joining.exchange import (
    MAGIC,
    SEEDS_MAX,
    Admission,
    Guest,
    Host,
    JoinError,
    WrongCodeError,
)
from entgldb.messages.errors import InvalidError
from entgldb.messages.secret import Secret

SECRET = Secret(b"\1\2\3\4\5")
KEY = bytes(range(32))
ADMISSION = Admission(Secret(KEY), "till-3", ("10.0.5.1:9000", "[fd00::1]:9001"))


def met(
    guest_secret: Secret = SECRET, host_secret: Secret = SECRET, wanted: str = ""
) -> tuple[Guest, Host, bytes]:
    """Both after the halves went over, and the guest's proof."""
    guest, host = Guest(guest_secret), Host(host_secret)
    return guest, host, guest.prove(host.greet(guest.begin()), wanted)


def test_a_guest_that_knows_the_code_becomes_a_member() -> None:
    guest, host, proof = met(wanted="till-3")
    assert host.wanted(proof) == "till-3"
    assert guest.admitted(host.admit(ADMISSION)) == ADMISSION
    assert host.finished(guest.done("ab" * 32)) == "ab" * 32


def test_a_refusal_is_told_in_the_hosts_words() -> None:
    guest, host, proof = met()
    host.wanted(proof)
    with pytest.raises(JoinError, match="a node x is there already"):
        guest.admitted(host.refuse("a node x is there already"))


def test_neither_side_believes_another_code() -> None:
    guest, host, proof = met(guest_secret=Secret(b"other"))
    with pytest.raises(WrongCodeError):
        host.wanted(proof)
    with pytest.raises(WrongCodeError):
        guest.admitted(host.admit(ADMISSION))


def test_the_key_goes_over_the_line_in_no_form() -> None:
    guest, host, proof = met()
    host.wanted(proof)
    sent = host.admit(ADMISSION)
    for form in (KEY, KEY.hex().encode(), json.dumps(ADMISSION.seeds).encode(), SECRET.reveal()):
        assert form not in sent + proof + guest.begin()


@pytest.mark.parametrize("step", ["proof", "admission", "done"])
@pytest.mark.parametrize("place", [0, 7, -1])
def test_a_changed_byte_ends_the_exchange(step: str, place: int) -> None:
    guest, host, proof = met()

    def changed(frame: bytes) -> bytes:
        made = bytearray(frame)
        made[place] ^= 1
        return bytes(made)

    if step == "proof":
        with pytest.raises(WrongCodeError):
            host.wanted(changed(proof))
        return
    host.wanted(proof)
    admission = host.admit(ADMISSION)
    if step == "admission":
        with pytest.raises(WrongCodeError):
            guest.admitted(changed(admission))
        return
    guest.admitted(admission)
    with pytest.raises(WrongCodeError):
        host.finished(changed(guest.done()))


def test_a_man_in_the_middle_with_halves_of_his_own_learns_nothing() -> None:
    guest, host = Guest(SECRET), Host(SECRET)
    towards_host, towards_guest = Guest(Secret(b"guess")), Host(Secret(b"guess"))
    proof = guest.prove(towards_guest.greet(guest.begin()), "")
    with pytest.raises(WrongCodeError):
        towards_guest.wanted(proof)
    with pytest.raises(WrongCodeError):
        host.wanted(towards_host.prove(host.greet(towards_host.begin()), ""))


def test_frames_of_one_exchange_are_worth_nothing_in_another() -> None:
    _, _, old = met()
    _, host, proof = met()
    with pytest.raises(WrongCodeError):
        host.wanted(old)
    # a frame is read at its place only
    _, second, again = met()
    second.wanted(again)
    with pytest.raises(WrongCodeError):
        second.finished(again)
    assert host is not second
    assert proof != again


def test_frames_do_not_come_back_to_their_sender() -> None:
    guest, host, proof = met()
    with pytest.raises(WrongCodeError):
        guest.admitted(proof)
    host.wanted(proof)


@pytest.mark.parametrize(
    "frame", [b"", b"GET / HTTP/1.1\r\n", MAGIC, MAGIC + b"A" * 33, MAGIC + b"A" + bytes(31)]
)
def test_what_is_no_guest_is_no_wrong_code(frame: bytes) -> None:
    with pytest.raises(JoinError) as fault:
        Host(SECRET).greet(frame)
    assert not isinstance(fault.value, WrongCodeError)


@pytest.mark.parametrize(
    "change",
    [
        {"cluster_key": "AAAA"},
        {"cluster_key": 5},
        {"cluster_key": "!"},
        {"node_id": None},
        {"node_id": "../x"},
        {"seeds": ["nowhere"]},
        {"seeds": "10.0.5.1:9000"},
        {"seeds": ["10.0.5.1:9000"] * (SEEDS_MAX + 1)},
        {"seeds": [5]},
    ],
    ids=str,
)
def test_an_answer_that_makes_no_node_is_refused(change: dict[str, object]) -> None:
    import base64

    guest, host, proof = met()
    host.wanted(proof)
    good = {"cluster_key": base64.b64encode(KEY).decode(), "node_id": "n", "seeds": []}
    with pytest.raises(JoinError):
        guest.admitted(host._seal({**good, **change}))


@pytest.mark.parametrize("wanted", ["../x", "a b", "x" * 300, "\x1b[31m"])
def test_an_id_that_names_no_node_is_refused(wanted: str) -> None:
    _, host, proof = met(wanted=wanted)
    with pytest.raises(InvalidError):
        host.wanted(proof)


def test_an_admission_is_shown_without_its_key() -> None:
    assert str(KEY) not in repr(ADMISSION)
    assert KEY.hex() not in repr(ADMISSION)
