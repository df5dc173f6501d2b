"""An operator's work by HTTP: conflicts and histories, indexes, remote peers, nodes, and the status."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from entgldb.client.conflicts import read_version, version_text
from entgldb.client.peers import OVERLAP_SECONDS
from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import COUNT_MAX, SECRET_OVERLAP_MS_MAX
from entgldb.messages.model import Version
from entgldb.messages.remote_peers import PeerType
from entgldb.web.bodies import SKIP_MAX, answer, number, object_of

if TYPE_CHECKING:
    from entgldb.client.aio.database import Database
    from entgldb.messages.remote_peers import RemotePeer

_TEXTS = (
    "address",
    "authority",
    "client_id",
    "client_secret",
    "audience",
    "ca_pem",
    "token_endpoint",
    "auth_method",
)
_CLOUD = ("address", "authority", "client_id")
"""The fields that a cloud peer must have."""

CONFLICTS_MAX = 1000
"""Conflicts of one answer."""


class Administration:
    """The handlers, over one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def routes(self) -> list[Route]:
        """The paths that they serve."""
        collection, key = "/v1/collections/{collection}", "{key:path}"
        return [
            Route("/v1/status", self.status, methods=["GET"]),
            Route("/v1/nodes", self.nodes, methods=["GET"]),
            Route("/v1/nodes/{node}/_retire", self.retire, methods=["POST"]),
            Route("/v1/peers", self.peers, methods=["GET"]),
            Route("/v1/peers/{node}", self.put_peer, methods=["PUT"]),
            Route("/v1/peers/{node}", self.remove_peer, methods=["DELETE"]),
            Route("/v1/peers/{node}/_rotate_secret", self.rotate_secret, methods=["POST"]),
            Route("/v1/peers/{node}/_test", self.test_peer, methods=["POST"]),
            Route("/v1/conflicts", self.conflicts, methods=["GET"]),
            Route(f"{collection}/resolve/{key}", self.resolve, methods=["POST"]),
            Route(f"{collection}/history/{key}", self.history, methods=["GET"]),
            Route(f"{collection}/undelete/{key}", self.undelete, methods=["POST"]),
            Route(f"{collection}/rule", self.rule, methods=["GET"]),
            Route(f"{collection}/rule", self.set_rule, methods=["PUT"]),
            Route(f"{collection}/indexes", self.indexes, methods=["GET"]),
            Route(f"{collection}/indexes", self.create_index, methods=["POST"]),
            Route(f"{collection}/indexes/{{name}}", self.drop_index, methods=["DELETE"]),
        ]

    async def status(self, request: Request) -> Response:
        """The reports of all actors, as ``entgldb status --json`` has them."""
        return answer(await self._db.status("node"))

    async def nodes(self, request: Request) -> Response:
        """Every node of the cluster: version, last seen, how far behind, what it holds back."""
        return answer({"nodes": [row._asdict() for row in await self._db.nodes.all()]})

    async def retire(self, request: Request) -> Response:
        """A node will not come back: nothing is kept for it any more, anywhere."""
        return answer({"changed": await self._db.nodes.retire(request.path_params["node"])})

    async def peers(self, request: Request) -> Response:
        """The remote peers; secrets are not told, only whether there is one."""
        return answer({"peers": [_shown(peer) for peer in await self._db.peers.get_all_remote_peers()]})

    async def put_peer(self, request: Request) -> Response:
        """Add a cloud peer (with an authority) or a LAN peer, or change the given fields of one there is."""
        node, fields = request.path_params["node"], _peer_fields(await object_of(request, "the peer"))
        peers = self._db.peers
        known = {peer.node_id for peer in await peers.get_all_remote_peers()}
        if node in known:
            return answer({"changed": await peers.update_remote_peer(node, **fields)})
        if "authority" in fields:
            missing = [name for name in _CLOUD if name not in fields]
            if missing:
                raise InvalidError(f"a cloud peer needs {', '.join(missing)}")
            return answer({"changed": await peers.add_cloud_peer(node, **fields)}, 201)
        others = fields.keys() - {"address", "enabled"}
        if others or "address" not in fields:
            raise InvalidError("a LAN peer has address and enabled", hint="a cloud peer has an authority")
        return answer({"changed": await peers.add_static_peer(node, **fields)}, 201)

    async def remove_peer(self, request: Request) -> Response:
        """Remove a remote peer for good, on all nodes."""
        await self._db.peers.remove_remote_peer(request.path_params["node"])
        return Response(status_code=204)

    async def rotate_secret(self, request: Request) -> Response:
        """Another client secret of a cloud peer: ``{"client_secret": TEXT, "overlap_seconds": 86400}``."""
        wanted = await object_of(request, "the secret")
        secret, overlap = wanted.get("client_secret"), wanted.get("overlap_seconds", OVERLAP_SECONDS)
        others = wanted.keys() - {"client_secret", "overlap_seconds"}
        if others or not isinstance(secret, str) or type(overlap) not in (int, float):
            raise InvalidError("another secret has client_secret, a text, and overlap_seconds, a number")
        if not 0 < overlap <= SECRET_OVERLAP_MS_MAX / 1000:
            raise InvalidError(f"overlap_seconds is above 0 and at most {SECRET_OVERLAP_MS_MAX // 1000}")
        done = await self._db.peers.rotate_secret(request.path_params["node"], secret, overlap=overlap)
        return answer({"changed": done})

    async def test_peer(self, request: Request) -> Response:
        """Try a cloud peer step by step, from this node."""
        return answer({"steps": await self._db.peers.test_peer(request.path_params["node"])})

    async def conflicts(self, request: Request) -> Response:
        """Versions that lost a concurrent write, beside what won, by pages; of a ``collection`` or of all."""
        limit = number(request, "limit", CONFLICTS_MAX, CONFLICTS_MAX) or 0
        skip = number(request, "skip", 0, SKIP_MAX) or 0
        collection = request.query_params.get("collection")
        found = await self._db.conflicts(collection, skip=skip, limit=limit + 1)
        rows = [_plain(one._asdict()) for one in found[:limit]]
        return answer({"conflicts": rows, "more": len(found) > limit})

    async def resolve(self, request: Request) -> Response:
        """Settle a conflict: ``{"version": LOSER, "take": "loser" | "winner" | DOCUMENT}``."""
        collection, key = request.path_params["collection"], request.path_params["key"]
        wanted = await object_of(request, "the decision")
        take = wanted.get("take")
        if not isinstance(wanted.get("version"), str) or not (
            take in ("loser", "winner") or isinstance(take, dict)
        ):
            raise InvalidError("a decision has version, and take: loser, winner or a document")
        made = await self._db.resolve(collection, key, read_version(wanted["version"], "version"), take)
        return answer({"version": None if made is None else version_text(made)})

    async def history(self, request: Request) -> Response:
        """The versions of a document, newest first, as far as the log has them."""
        collection, key = request.path_params["collection"], request.path_params["key"]
        found = await self._db[collection].history(key)
        return answer(
            {
                "versions": [_plain(past._asdict()) for past in found.versions],
                "endings": [_plain(end._asdict()) for end in found.endings],
            }
        )

    async def undelete(self, request: Request) -> Response:
        """Bring a deleted document back."""
        collection, key = request.path_params["collection"], request.path_params["key"]
        return answer({"version": version_text(await self._db[collection].undelete(key))})

    async def rule(self, request: Request) -> Response:
        """How concurrent writes to a collection are settled: ``lww`` or ``merge``."""
        return answer({"conflict": await self._db.conflict_rule(request.path_params["collection"])})

    async def set_rule(self, request: Request) -> Response:
        """Set it, on all nodes: ``{"conflict": "merge"}``."""
        rule = (await object_of(request, "the rule")).get("conflict")
        if not isinstance(rule, str):
            raise InvalidError("a rule has conflict: lww or merge")
        return answer({"changed": await self._db.set_conflict_rule(request.path_params["collection"], rule)})

    async def indexes(self, request: Request) -> Response:
        """The indexes of a collection on this node, and how far each is built."""
        found = await self._db[request.path_params["collection"]].indexes()
        return answer({"indexes": [one._asdict() for one in found]})

    async def create_index(self, request: Request) -> Response:
        """Make an index: ``{"paths": ["city"], "unique": false, "where": {}, "text": false}``."""
        wanted = await object_of(request, "the index")
        others = wanted.keys() - {"paths", "unique", "where", "text", "everywhere", "name"}
        paths = wanted.pop("paths", None)
        if others or not isinstance(paths, (str, list)):
            raise InvalidError("an index has paths, and unique, where, text, everywhere, name")
        name = await self._db[request.path_params["collection"]].create_index(paths, **wanted)
        return answer({"name": name}, 201)

    async def drop_index(self, request: Request) -> Response:
        """Drop an index."""
        await self._db[request.path_params["collection"]].drop_index(request.path_params["name"])
        return Response(status_code=204)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its versions as text."""
    return {name: _version(value) for name, value in row.items()}


def _version(value: Any) -> Any:
    return version_text(value) if isinstance(value, Version) else value


def _peer_fields(wanted: dict[str, Any]) -> dict[str, Any]:
    """The fields of a peer, each of its type. Raises InvalidError."""
    for name, value in wanted.items():
        if name in _TEXTS:
            good = isinstance(value, str)
        elif name == "scopes":
            good = isinstance(value, list) and all(isinstance(one, str) for one in value)
        elif name == "enabled":
            good = isinstance(value, bool)
        elif name == "max_rate":
            good = type(value) is int and 0 <= value <= COUNT_MAX
        else:
            known = ", ".join((*_TEXTS, "scopes", "enabled", "max_rate"))
            raise InvalidError(f"the peer has {name!r:.80}", hint=f"known: {known}")
        if not good:
            raise InvalidError(f"the peer's {name} is not of its type")
    return wanted


def _shown(peer: RemotePeer) -> dict[str, Any]:
    oauth2 = peer.oauth2
    shown: dict[str, Any] = {
        "node_id": peer.node_id,
        "address": peer.address,
        "type": {PeerType.CLOUD_REMOTE: "cloud", PeerType.STATIC_REMOTE: "static"}.get(peer.type, "lan"),
        "enabled": peer.enabled,
        "max_rate": peer.max_rate,
    }
    if oauth2 is not None:
        told = {
            name: value
            for name, value in asdict(oauth2).items()
            if name not in ("client_secret", "previous_secret", "ca_pem")
        }
        shown |= {**told, "has_secret": bool(oauth2.client_secret)}
    return shown
