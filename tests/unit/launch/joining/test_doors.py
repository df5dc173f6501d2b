"""Invitations on real sockets: one guest, a few guesses, and nobody who holds the door open."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

import entgldb
from entgldb.actors.cluster_key import ClusterKeys
from entgldb.launch.cli.cluster.invite import admission
from entgldb.launch.joining import doors
from entgldb.launch.joining.code import Code
from entgldb.launch.joining.doors import CONNECTIONS_MAX, WRONG_CODES_MAX, Invitation, Outcome, join
from entgldb.launch.joining.exchange import Admission, Host, JoinError, WrongCodeError
from entgldb.launch.joining.newcomer import become_member
from entgldb.launch.node.init import Plan
from entgldb.messages.errors import of_expelled
from entgldb.messages.model import node_of
from entgldb.messages.secret import Secret

SECRET = Secret(b"\1\2\3\4\5")
ADMISSION = Admission(Secret(bytes(32)), "till-3", ())


def invited(
    trial: Callable[[Code], Awaitable[None]],
    admit: Callable[[str], Admission | str] = lambda wanted: ADMISSION,
    seconds: float = 10.0,
) -> Outcome:
    """An invitation while ``trial`` runs; how it ended."""

    async def run() -> Outcome:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            waiting = asyncio.ensure_future(Invitation(listener, SECRET, admit).wait(seconds))
            await trial(Code("127.0.0.1", listener.getsockname()[1], SECRET))
            return await waiting

    return asyncio.run(run())


def wrong(code: Code) -> Code:
    return code._replace(secret=Secret(b"wrong"))


async def guess(code: Code) -> None:
    with pytest.raises(WrongCodeError):
        await join(wrong(code), "", lambda admission: "")


def test_a_guest_joins_and_the_host_hears_of_it_after_the_files_are_written() -> None:
    kept: list[Admission] = []

    def keep(admission: Admission) -> str:
        kept.append(admission)
        return "ab" * 32

    async def trial(code: Code) -> None:
        assert await join(code, "", keep) == ADMISSION

    assert invited(trial) == Outcome("till-3", "127.0.0.1", key="ab" * 32)
    assert kept == [ADMISSION]


def test_a_guest_for_whom_nobody_wants_a_name_is_known_by_its_own() -> None:
    kept: list[Admission] = []

    async def trial(code: Code) -> None:
        kept.append(await join(code, "", lambda admission: "", "till-9"))

    unnamed = Admission(ADMISSION.cluster_key, "", ())
    assert invited(trial, lambda wanted: unnamed) == Outcome("till-9", "127.0.0.1")
    assert [admission.node_id for admission in kept] == ["till-9"]


def test_a_directory_with_documents_joins_under_the_name_that_it_has(tmp_path: Path) -> None:
    """And under no other: whoever was expelled and asks for no name would else have the one that it had."""
    asked: list[str] = []
    with entgldb.open(tmp_path / "n1") as db:
        name = node_of(db.documents.origin())

    def admit(wanted: str) -> str:
        asked.append(wanted)
        return of_expelled(wanted)

    async def trial(code: Code) -> None:
        with pytest.raises(JoinError, match=re.escape(of_expelled(name))):
            await asyncio.to_thread(become_member, Plan(tmp_path / "n1"), code.text())
        await join(code, "", lambda admission: "")

    invited(trial, lambda wanted: admit(wanted) if wanted else ADMISSION)
    assert asked == [name]


def test_a_code_is_good_once() -> None:
    async def trial(code: Code) -> None:
        await join(code, "", lambda admission: "")
        with pytest.raises(JoinError):
            await join(code, "", lambda admission: "")

    assert invited(trial).node_id == "till-3"


def test_a_guest_that_vanishes_with_the_key_has_spent_the_code() -> None:
    async def trial(code: Code) -> None:
        def fails(admission: Admission) -> None:
            raise OSError("disk full")

        with pytest.raises(JoinError, match="cannot be written: disk full"):
            await join(code, "", fails)

    outcome = invited(trial)
    assert outcome.node_id == "till-3"
    assert "did not say" in outcome.why_not


def test_a_few_wrong_codes_end_the_invitation() -> None:
    async def trial(code: Code) -> None:
        for _ in range(WRONG_CODES_MAX):
            await guess(code)

    outcome = invited(trial)
    assert (outcome.node_id, outcome.why_not[:13]) == ("", "3 wrong codes")


def test_a_wrong_code_less_leaves_it_open() -> None:
    async def trial(code: Code) -> None:
        for _ in range(WRONG_CODES_MAX - 1):
            await guess(code)
        await join(code, "", lambda admission: "")

    assert invited(trial).node_id == "till-3"


def test_a_refused_id_spends_nothing() -> None:
    async def trial(code: Code) -> None:
        with pytest.raises(JoinError, match="not you"):
            await join(code, "x", lambda admission: "")
        await join(code, "y", lambda admission: "")

    assert invited(trial, lambda wanted: "not you" if wanted == "x" else ADMISSION).node_id == "till-3"


@pytest.mark.parametrize(
    "noise", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\0\0", b"\xff\xff" + b"x" * 70_000, b"\0\x30" + b"x" * 48]
)
def test_noise_is_neither_a_guess_nor_an_end(noise: bytes) -> None:
    async def trial(code: Code) -> None:
        for _ in range(WRONG_CODES_MAX + 1):
            async with doors._streams(host=code.host, port=code.port) as (reader, writer):
                writer.write(noise)
                writer.write_eof()
                with suppress(ConnectionError):  # closed with our bytes unread
                    await reader.read()
        await join(code, "", lambda admission: "")

    assert invited(trial).node_id == "till-3"


def test_silent_connections_are_bounded_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "EXCHANGE_SECONDS_MAX", 0.5)

    async def trial(code: Code) -> None:
        async with AsyncExitStack() as stack:
            silent = [
                await stack.enter_async_context(doors._streams(host=code.host, port=code.port))
                for _ in range(CONNECTIONS_MAX + 1)
            ]
            # the last is closed at once, the others when their time is over
            for reader, _ in (silent[-1], *silent):
                assert await reader.read() == b""
        # half a second is for those that are silent: a guest has all the time that it needs
        monkeypatch.undo()
        await join(code, "", lambda admission: "")

    assert invited(trial).node_id == "till-3"


def test_an_invitation_ends_by_itself() -> None:
    async def nothing(code: Code) -> None:
        pass

    assert invited(nothing, seconds=0.05) == Outcome(why_not="nobody came in time")


def test_nobody_there_is_told_as_that() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(JoinError, match="cannot be reached"):
        asyncio.run(join(Code("127.0.0.1", port, SECRET), "", lambda admission: ""))


def test_a_host_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "EXCHANGE_SECONDS_MAX", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code = Code("127.0.0.1", listener.getsockname()[1], SECRET)
        with pytest.raises(JoinError, match="in time"):
            asyncio.run(join(code, "", lambda admission: ""))


def test_a_host_that_does_not_know_the_code_gets_nothing() -> None:
    """An impostor at the address of the code: the guest ends before it has said who it is."""

    async def run() -> None:
        seen: list[bytes] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            code = Code("127.0.0.1", listener.getsockname()[1], SECRET)

            async def impostor() -> None:
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                async with doors._streams(sock=connection) as (reader, writer):
                    seen.append(await reader.read(4096))
                    half = Host(Secret(b"guess"))._own
                    writer.write(len(half).to_bytes(2) + half)
                    seen.append(await reader.read(4096))

            serving = asyncio.ensure_future(impostor())
            with pytest.raises(JoinError):
                await join(code, "till-3", lambda admission: "")
            await serving
        assert len(seen) == 2
        assert b"till-3" not in b"".join(seen)

    asyncio.run(run())


def test_a_guest_gets_the_key_that_counts_when_it_comes(tmp_path: Path) -> None:
    file = tmp_path / "cluster.key"
    for key in (bytes(32), bytes([1]) * 32):
        file.write_bytes(key)
        assert admission(file, "till-3", ()).cluster_key == ClusterKeys((Secret(key),)).content
