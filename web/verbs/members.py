"""Membership by HTTP: the members by key, expelling one, and an invitation by which one machine joins."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from entgldb.client.upkeep.behalf import FOR
from entgldb.messages.errors import BusyError, InvalidError
from entgldb.messages.limits import INVITATION_MINUTES_MAX, INVITATION_MINUTES_MIN
from entgldb.messages.model import check_node_id
from entgldb.web.bodies import answer, object_of

if TYPE_CHECKING:
    from pathlib import Path

    from entgldb.client.aio.database import Database

MINUTES: Final = 15
"""That an invitation stands where nothing is said."""
LINE_BYTES_MAX: Final = 64 * 1024
"""Of what the command says in one line."""
END_SECONDS: Final = 5.0
"""A command that was told to end and has not is killed then."""


class Members:
    """The handlers, over one database."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.invitation = Invitation(db.directory)

    def routes(self) -> list[Route]:
        """The paths that they serve."""
        return [
            Route("/v1/members", self.members, methods=["GET"]),
            Route("/v1/members/_rotate_key", self.rotate_key, methods=["POST"]),
            Route("/v1/members/{node}/_expel", self.expel, methods=["POST"]),
            Route("/v1/invitation", self.invited, methods=["GET"]),
            Route("/v1/invitation", self.invite, methods=["POST"]),
            Route("/v1/invitation", self.withdraw, methods=["DELETE"]),
        ]

    async def members(self, request: Request) -> Response:
        """Every member of the cluster, by the key that counts for it; and how client secrets stand."""
        rows, secrets = await self._db.nodes.members(), await self._db.peers.secrets()
        told = {"members": [row._asdict() for row in rows], "secrets": [row._asdict() for row in secrets]}
        return answer(told)

    async def rotate_key(self, request: Request) -> Response:
        """A new cluster key for all members, each of which moves to it by itself."""
        await self._db.nodes.rotate_key()
        return answer({"changed": True})

    async def expel(self, request: Request) -> Response:
        """A node is no member any more, for good: each node cuts its links with it."""
        return answer({"changed": await self._db.nodes.expel(request.path_params["node"])})

    async def invited(self, request: Request) -> Response:
        """The invitation that stands, or how the last one ended; its code is told to its maker alone."""
        return answer(self.invitation.told())

    async def invite(self, request: Request) -> Response:
        """A code by which one machine joins: ``{"for": NODE, "minutes": 15, "at": HOST}``.

        ``qr`` of the answer is the code as a picture, in SVG.
        """
        wanted = await object_of(request, "the invitation")
        code = await self.invitation.begin(_options(wanted), FOR.get())
        made = {**self.invitation.told(), "code": code, "qr": _picture(code)}
        return answer(made, 201, {"Cache-Control": "no-store"})

    async def withdraw(self, request: Request) -> Response:
        """Withdraw it: its code is worth nothing then."""
        await self.invitation.end()
        return Response(status_code=204)


class Invitation:
    """One at a time, kept by ``entgldb invite``: this process never has the cluster key."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._is_open = False
        self._process: Process | None = None
        self._following: asyncio.Task[None] | None = None
        self._told: dict[str, Any] = {"state": "none"}

    def told(self) -> dict[str, Any]:
        """``state``: ``none``, ``open``, ``joined`` or ``ended``; with ``node_id`` or ``reason``."""
        return self._told

    async def begin(self, options: list[str], whom: str) -> str:
        """Its code. Raises BusyError while one is open, and InvalidError for what the command refuses."""
        if self._is_open:
            raise BusyError("an invitation is open", hint="withdraw it, or wait for its end")
        self._is_open = True
        try:
            self._process = await self._run([*options, "--behalf", whom or "http"])
            code = await _code(self._process)
        except BaseException:
            self._is_open = False
            raise
        self._told = {"state": "open"}
        self._following = asyncio.create_task(self._follow(self._process))
        return code

    async def end(self) -> None:
        """Withdraw it, and wait until it has ended."""
        if self._process is None or self._following is None:
            return
        assert self._process.stdin is not None, "it was started with a pipe"
        self._process.stdin.close()
        try:
            await asyncio.wait_for(asyncio.shield(self._following), END_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._following

    async def _run(self, options: list[str]) -> Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "entgldb", "invite", "--json", "-d", str(self._directory)),
            *options,
            # the command ends with this pipe, and so with this process
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            limit=LINE_BYTES_MAX,
        )

    async def _follow(self, process: Process) -> None:
        told, words = await _said(process)
        await process.wait()
        if told is not None and told["joined"]:
            self._told = {"state": "joined", "node_id": told["joined"], "reason": told["reason"]}
        else:
            self._told = {"state": "ended", "reason": words if told is None else told["reason"]}
        self._is_open = False


async def _code(process: Process) -> str:
    """The code that the command has made. Raises InvalidError with its words when it refuses."""
    made, words = await _said(process)
    if made is None:
        await process.wait()
        text, _, hint = words.partition(": ")[2].partition(" Try: ")
        raise InvalidError(text or "the invitation did not begin", hint=hint)
    return str(made["code"])


async def _said(process: Process) -> tuple[dict[str, Any] | None, str]:
    """The next JSON object that the command prints, or None when it has ended; and its last line."""
    assert process.stdout is not None, "it was started with a pipe"
    line = ""
    while piece := await process.stdout.readline():
        line = piece.decode().strip()
        if line.startswith("{"):
            return json.loads(line), line
    return None, line


def _options(wanted: dict[str, Any]) -> list[str]:
    """The command's options for the body of a request. Raises InvalidError."""
    if others := wanted.keys() - {"for", "minutes", "at"}:
        raise InvalidError(f"the invitation has {min(others)!r:.80}", hint="known: for, minutes, at")
    node_id, minutes, host = wanted.get("for", ""), wanted.get("minutes", MINUTES), wanted.get("at", "")
    if not isinstance(node_id, str) or not isinstance(host, str):
        raise InvalidError("for and at of an invitation are texts")
    least, most = INVITATION_MINUTES_MIN, INVITATION_MINUTES_MAX
    if type(minutes) not in (int, float) or not least <= minutes <= most:
        raise InvalidError(f"minutes of an invitation are from {least} to {most}")
    if node_id:
        check_node_id(node_id, "for")
    # with = a text that begins with - is no option
    return [f"--minutes={minutes}", f"--for={node_id}", f"--at={host}"]


def _picture(code: str) -> str:
    import segno

    drawn = io.BytesIO()
    segno.make(code.replace("-", ""), error="m").save(drawn, "svg", xmldecl=False, scale=5, light="#fff")
    return drawn.getvalue().decode()
