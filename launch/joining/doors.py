"""The sockets and clocks of an invitation: one side waits, the other connects once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from entgldb.launch.joining.code import Code
from entgldb.launch.joining.exchange import (
    FRAME_BYTES_MAX,
    Admission,
    Guest,
    Host,
    JoinError,
    WrongCodeError,
)
from entgldb.messages.errors import InvalidError
from entgldb.messages.secret import Secret

WRONG_CODES_MAX: Final = 3
"""Guesses after which an invitation ends: one in 2**40 for each."""
CONNECTIONS_MAX: Final = 8
"""At one time; more are closed at once."""
EXCHANGE_SECONDS_MAX: Final = 15.0
"""From the first byte of a connection to its last."""
_LENGTH_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an invitation ended."""

    node_id: str = ""
    """The node that joined; empty: none."""
    address: str = ""
    why_not: str = ""
    key: str = ""
    """Of the certificates that it will show; empty: it has not said."""


class Invitation:
    """Waits on a listening socket until one guest has joined, time is over, or too many guessed."""

    def __init__(
        self, listener: socket.socket, secret: Secret, admit: Callable[[str], Admission | str]
    ) -> None:
        """``admit`` takes the id that a guest wants; its answer is the admission, or why not."""
        self._listener = listener
        self._secret = secret
        self._admit = admit
        self._wrong = 0
        self._serving: set[asyncio.Task[None]] = set()
        self._spent = False
        self._ended: asyncio.Future[Outcome]

    async def wait(self, seconds: float) -> Outcome:
        """Until it has ended, one way or the other."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        self._listener.setblocking(False)
        loop.add_reader(self._listener, self._accept)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(self._ended)
        except TimeoutError:
            # a guest that has the key is heard to its end, which comes soon
            return await self._ended if self._spent else Outcome(why_not="nobody came in time")
        finally:
            loop.remove_reader(self._listener)
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    def withdraw(self) -> None:
        """The code is worth nothing from now on; a guest that has the key already is heard to its end."""
        if not self._spent:
            self._end(Outcome(why_not="it was withdrawn"))

    def _accept(self) -> None:
        try:
            connection, address = self._listener.accept()
        except OSError:
            return  # it has gone again
        if len(self._serving) >= CONNECTIONS_MAX:
            connection.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(connection, str(address[0])))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        # one that was cancelled before its first step has not closed it
        task.add_done_callback(lambda _: connection.close())

    async def _serve(self, connection: socket.socket, address: str) -> None:
        try:
            async with asyncio.timeout(EXCHANGE_SECONDS_MAX), _streams(sock=connection) as (reader, writer):
                await self._exchange(reader, writer, address)
        except WrongCodeError:
            self._wrong += 1
            if self._wrong >= WRONG_CODES_MAX:
                self._end(Outcome(why_not=f"{WRONG_CODES_MAX} wrong codes, the last from {address}"))
        except (JoinError, InvalidError, OSError, EOFError, TimeoutError):
            pass  # a scanner, a cut line: it has learnt nothing, and the invitation stands

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str
    ) -> None:
        host = Host(self._secret)
        await _send(writer, host.greet(await _frame(reader)))
        node_id = host.wanted(await _frame(reader))
        decided = "the code was used by somebody else" if self._spent else self._admit(node_id)
        if isinstance(decided, str):
            await _send(writer, host.refuse(decided))
            return
        # whoever was sent the key has it, also when no word of it comes back
        self._spent = True
        decided = replace(decided, node_id=decided.node_id or node_id or host.otherwise)
        finished: str | None = None
        try:
            await _send(writer, host.admit(decided))
            finished = host.finished(await _frame(reader))
        finally:
            why_not = "it did not say that its files are written" if finished is None else ""
            self._end(Outcome(decided.node_id or "a node", address, why_not, finished or ""))

    def _end(self, outcome: Outcome) -> None:
        if not self._ended.done():
            self._ended.set_result(outcome)


async def join(
    code: Code, wanted_id: str, keep: Callable[[Admission], str], otherwise: str = ""
) -> Admission:
    """Use a code; ``keep`` writes the node's files before the host hears that all is done, and gives its key.

    ``otherwise``: the id of this node where neither side wants another.

    Raises JoinError, WrongCodeError.
    """
    place = f"{code.host}:{code.port}"
    try:
        async with (
            asyncio.timeout(EXCHANGE_SECONDS_MAX),
            _streams(host=code.host, port=code.port) as (
                reader,
                writer,
            ),
        ):
            guest = Guest(code.secret)
            await _send(writer, guest.begin())
            await _send(writer, guest.prove(await _frame(reader), wanted_id, otherwise))
            admission = guest.admitted(await _frame(reader))
            await _send(writer, guest.done(_kept(keep, admission)))
            return admission
    except (EOFError, ConnectionResetError, BrokenPipeError):
        raise WrongCodeError(
            f"{place} ended the connection: the code is wrong or was used", hint="ask for a new code"
        ) from None
    except TimeoutError:
        raise JoinError(
            f"{place} did not answer in time", hint="is the invitation still open there?"
        ) from None
    except OSError as fault:
        raise JoinError(
            f"{place} cannot be reached: {fault.strerror or fault}",
            hint="is the invitation still open there, and no firewall between?",
        ) from None


def _kept(keep: Callable[[Admission], str], admission: Admission) -> str:
    try:
        return keep(admission)
    except OSError as fault:
        raise JoinError(
            f"the node's files cannot be written: {fault.strerror or fault}", hint="ask for a new code"
        ) from None


@asynccontextmanager
async def _streams(**where: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection by ``asyncio.open_connection``, closed at the end."""
    reader, writer = await asyncio.open_connection(limit=2 * FRAME_BYTES_MAX, **where)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):  # the other side's reset is no news any more
            await writer.wait_closed()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    size = int.from_bytes(await reader.readexactly(_LENGTH_BYTES))
    if not 0 < size <= FRAME_BYTES_MAX:
        raise JoinError("the other side did not answer as a node of this release does")
    return await reader.readexactly(size)


async def _send(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(len(frame).to_bytes(_LENGTH_BYTES) + frame)
    await writer.drain()
