"""The fragments about the cluster: overview, conflicts, remote peers, nodes, upkeep. Each is bounded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from entgldb.client.conflicts import version_text
from entgldb.messages.remote_peers import PeerType
from entgldb.web.bodies import SKIP_MAX, number
from entgldb.web.dashboard.attention import MATTERS_MAX, matters
from entgldb.web.dashboard.mesh import LINKS_MAX, links, picture
from entgldb.web.dashboard.rendering import preview, render

if TYPE_CHECKING:
    from collections.abc import Callable

    from entgldb.client.aio.database import Database
    from entgldb.client.database import Conflict
    from entgldb.messages.remote_peers import RemotePeer
    from entgldb.web.dashboard.pulse import Pulse

PAGE_ROWS: Final = 50
PAGE_CONFLICTS: Final = 10
FIELDS_MAX: Final = 100
"""Fields of two documents that are set side by side."""
VALUE_CHARS: Final = 400
"""Of each value of them."""
UPKEEP_ROWS: Final = 100
ABSENT: Final = object()
"""The value of a field that is not there; null is one."""


class ClusterViews:
    """The handlers, over one database and the newest look at it."""

    def __init__(self, db: Database, pulse: Pulse, invitation: Callable[[], dict[str, Any]]) -> None:
        self._db, self._pulse, self._invitation = db, pulse, invitation

    def routes(self) -> list[Route]:
        """The paths that they serve."""
        return [
            Route("/ui/overview", self.overview, methods=["GET"]),
            Route("/ui/overview/live", self.live, methods=["GET"]),
            Route("/ui/conflicts", self.conflicts, methods=["GET"]),
            Route("/ui/peers", self.peers, methods=["GET"]),
            Route("/ui/nodes", self.nodes, methods=["GET"]),
            Route("/ui/upkeep", self.upkeep, methods=["GET"]),
        ]

    async def overview(self, request: Request) -> Response:
        """Mesh, matters and the place of the charts."""
        return render("overview", **await self._mesh())

    async def live(self, request: Request) -> Response:
        """The part of it that changes."""
        return render("overview_live", **await self._mesh())

    async def _mesh(self) -> dict[str, Any]:
        status = await self._pulse.newest()
        clouds = [
            {"node_id": peer.node_id, "address": peer.address, "enabled": peer.enabled}
            for peer in await self._db.peers.get_all_remote_peers()
            if peer.type == PeerType.CLOUD_REMOTE
        ]
        known = links(status, clouds, int(time.time() * 1000))
        found = matters(status)
        return {
            "status": status,
            "picture": picture(status, known),
            "more_links": max(0, len(known) - LINKS_MAX),
            "matters": found[:MATTERS_MAX],
            "more_matters": max(0, len(found) - MATTERS_MAX),
        }

    async def conflicts(self, request: Request) -> Response:
        """Versions that lost, each beside the one that stands."""
        skip = number(request, "skip", 0, SKIP_MAX) or 0
        found = await self._db.conflicts(skip=skip, limit=PAGE_CONFLICTS)
        total = max((self._pulse.status.get("store") or {}).get("conflicts") or 0, skip + len(found))
        shown = [_compared(one) for one in found]
        return render("conflicts", conflicts=shown, **_pages(skip, PAGE_CONFLICTS, total))

    async def peers(self, request: Request) -> Response:
        """Remote peers and their links."""
        status = await self._pulse.newest()
        known = {one.name: one for one in links(status, [], int(time.time() * 1000))}
        rows = [self._peer(peer, known, status) for peer in await self._db.peers.get_all_remote_peers()]
        gateway = (status.get("election") or {}).get("gateway")
        return render("peers", peers=rows[:UPKEEP_ROWS], more=len(rows) - UPKEEP_ROWS, gateway=gateway)

    def _peer(self, peer: RemotePeer, known: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        cloud = {"node_id": peer.node_id, "address": peer.address, "enabled": peer.enabled}
        link = known.get(peer.node_id)
        if link is None or link.kind != "cloud":
            told = {one.name: one for one in links(status, [cloud], int(time.time() * 1000))}
            link = told[peer.node_id] if peer.type == PeerType.CLOUD_REMOTE else link
        return {"peer": peer, "link": link, "is_cloud": peer.type == PeerType.CLOUD_REMOTE}

    async def nodes(self, request: Request) -> Response:
        """The nodes of the cluster, those in trouble first."""
        skip, like = number(request, "skip", 0, SKIP_MAX) or 0, request.query_params.get("like", "")
        order = {"absent": 0, "live": 1, "retired": 2, "expelled": 3}
        rows = [row for row in await self._db.nodes.all() if like.lower() in row.node_id.lower()]
        rows.sort(key=lambda row: (order.get(row.state, 1), row.node_id))
        status = await self._pulse.newest()
        return render(
            "nodes",
            nodes=rows[skip : skip + PAGE_ROWS],
            secrets=(await self._db.peers.secrets())[:UPKEEP_ROWS],
            invitation=self._invitation(),
            is_lan=status.get("role") == "lan",
            me=status.get("node_id"),
            gateway=(status.get("election") or {}).get("gateway"),
            like=like,
            **_pages(skip, PAGE_ROWS, len(rows)),
        )

    async def upkeep(self, request: Request) -> Response:
        """All that waits for a decision, the comparison with other nodes, and the backup."""
        status = await self._pulse.newest()
        unfit, held, forks = await self._db.quarantine(), await self._db.held(), await self._db.forks()
        return render(
            "upkeep",
            unfit=unfit[:UPKEEP_ROWS],
            held=held[:UPKEEP_ROWS],
            forks=[one for one in forks if one["quarantined"]][:UPKEEP_ROWS],
            more=max(0, len(unfit) - UPKEEP_ROWS, len(held) - UPKEEP_ROWS, len(forks) - UPKEEP_ROWS),
            audit=await self._db.audit(UPKEEP_ROWS),
            verify=((status.get("oplog") or {}).get("verify") or {}).get("peers", [])[:UPKEEP_ROWS],
            store=status.get("store") or {},
            log=status.get("oplog") or {},
        )


def _pages(skip: int, size: int, total: int) -> dict[str, Any]:
    """The place of a page among all."""
    return {
        "skip": skip,
        "total": total,
        "first": min(skip + 1, total),
        "last": min(skip + size, total),
        "before": max(0, skip - size) if skip else None,
        "after": skip + size if skip + size < total else None,
    }


def _compared(lost: Conflict) -> dict[str, Any]:
    """A conflict and its fields side by side, those that differ first."""
    loser, winner = lost.document or {}, lost.winner_document or {}
    rows = [
        (name, loser.get(name, ABSENT) != winner.get(name, ABSENT), _value(loser, name), _value(winner, name))
        for name in sorted(loser.keys() | winner.keys())
    ]
    rows.sort(key=lambda row: not row[1])
    return {
        "lost": lost,
        "version": version_text(lost.version),
        "winner": None if lost.winner is None else version_text(lost.winner),
        "rows": rows[:FIELDS_MAX],
        "more": max(0, len(rows) - FIELDS_MAX),
    }


def _value(document: dict[str, Any], name: str) -> str | None:
    return preview(document[name], VALUE_CHARS) if name in document else None
