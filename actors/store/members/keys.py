"""A new key of the cluster: made by one node, sealed to each member, taken by each that hears of it.

The key whose entry has the greatest stamp counts. So nodes that made one each without knowing of the other
come to the same one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from entgldb.actors.behaviour import ERROR, WARNING, Context
from entgldb.actors.nodes import is_retired, read_documents
from entgldb.actors.ports import KeyRing, Store
from entgldb.actors.store.members.nodes import Writer
from entgldb.actors.store.remote_peers import document
from entgldb.messages import client
from entgldb.messages.administration import Event, Happened, RotateKey
from entgldb.messages.errors import EntglError, ErrorCode, InvalidError, NotAllowedError
from entgldb.messages.limits import DRIFT_MS_MAX, MEMBERS_MAX
from entgldb.messages.local.members import NoteSelf, TendKey
from entgldb.messages.model import KEYS, NODES, REMOTE_PEERS, node_of
from entgldb.messages.remote_peers import RemotePeer, read_peer
from entgldb.messages.schema import Json, Message
from entgldb.messages.secret import Secret
from entgldb.storage.authorship.cluster_keys import CHAIN_MAX, Rotation, read_rotation
from entgldb.storage.rules.authorship import cluster_of
from entgldb.storage.rules.members import pinned_key

SUBJECT: Final = "cluster key"
"""In the audit log."""
TEND_SECONDS: Final = 10.0
"""A node waits so much longer than the one before it, in the order of names, to do what one has to do."""
OLDER_MAX: Final = 100
"""Documents of older keys that are deleted with the making of one."""
BOX: Final = re.compile(r"[0-9a-f]{64}")


def rotate_key(keeper: Writer, message: RotateKey, ctx: Context) -> Message:
    """Make a new key for everybody who is a member now. Raises NotAllowedError, EntglError ``clock``."""
    ring = keeper.secrets.ring
    if ring is None:
        raise NotAllowedError("no cluster key is used here", hint="ask a node of the LAN that runs")
    if runs_ahead(keeper.store, ctx):
        raise EntglError(
            "the stamps of this node run ahead: the others would hold a new key until time has caught up",
            code=ErrorCode.CLOCK,
            hint="ask another node; or once this clock is right, entgldb clock --reset",
        )
    if not chain_here(keeper.store, ring):
        raise NotAllowedError(
            "this node does not know the members yet", hint="wait until it is linked, or ask another node"
        )
    return keeper.write(message.request, new_key(keeper, ctx), ctx, system=True)


def runs_ahead(store: Store, ctx: Context) -> bool:
    """Whether the others hold what this node writes."""
    return store.high_mark_ms() - store.known_ms(ctx.now_ms()) > DRIFT_MS_MAX


def chain_here(store: Store, ring: KeyRing) -> tuple[tuple[str, str], ...]:
    """The CAs up to the one that counts here; empty where this node has not heard yet how it was made."""
    held = ring.held()[0]
    found = read_rotation(held, store.get(KEYS, held) or b"{}", 0)
    if found is not None:
        return found.chain
    # where a member has spoilt the document, those can follow that know the key
    return ((held, ""),) if ring.is_first() or store.known(KEYS, held) else ()


def new_key(keeper: Writer, ctx: Context, without: str = "") -> tuple[client.Write, ...]:
    """The writes that give each member a new key; ``without``: a node that gets none.

    No writes where this node does not know yet how the key that it holds was made, or where others would hold
    them: whoever joined by another key meanwhile would have none that counts when that time has come.
    """
    ring, store = keeper.secrets.ring, keeper.store
    before = () if ring is None else chain_here(store, ring)
    if ring is None or not before or runs_ahead(store, ctx):
        return ()
    own = node_of(store.origin)
    key_id, key = ring.new()
    sealed = {}
    for name, node in members(store, {without, *store.expelled()}).items():
        box, pinned = ring.box if name == own else box_of(ring, node), pinned_key(node)
        try:
            sealed[name] = {"Key": pinned, "Sealed": ring.seal(key, box, name) if box else ""}
        except ValueError:
            ctx.log(WARNING, f"{name} is given no new cluster key: none can be sealed to what it has told")
            continue
        if not box:  # it runs an earlier release, or has not been linked since: the old key is kept for it
            ctx.log(WARNING, f"{name} gets a new cluster key later: it has not told how to seal one to it")
    ctx.log(WARNING, f"a new cluster key, {key_id[:16]}, is made for {sorted(sealed)}")
    # a member may have made any number: another is possible all the same, and clouds that know us follow
    chain = [*before, (key_id, ring.vouch(key_id))][-CHAIN_MAX:]
    body = json.dumps({"By": own, "For": sealed, "Chain": chain}, separators=(",", ":")).encode()
    older = [one for one, _ in store.documents(KEYS) if one not in ring.held()][:OLDER_MAX]
    return (client.Write(KEYS, key_id, body), *(client.Write(KEYS, one, None) for one in older))


def members(store: Store, out: Collection[str]) -> dict[str, Mapping[str, Json]]:
    """The documents of this node and of others that are members; of more than ``MEMBERS_MAX`` those that have
    a key and were heard of."""
    own, heard = node_of(store.origin), store.members()
    nodes = [node for node in read_documents(store, NODES) if not is_retired(node)]
    rows: dict[str, Mapping[str, Json]] = {own: {}}
    rows |= {str(node["NodeId"]): node for node in nodes if pinned_key(node) or _box(node)}
    rows = {name: node for name, node in rows.items() if name not in out}
    first = sorted(rows, key=lambda name: (name != own, not pinned_key(rows[name]), name not in heard, name))
    return {name: rows[name] for name in first[:MEMBERS_MAX]}


def box_of(ring: KeyRing, node: Mapping[str, Json]) -> str:
    """To which a key is sealed for a node; empty: it has told none, or the key that is pinned for it has not
    given its word: another member may have written there."""
    box, proof, name = _box(node), str(node.get("BoxProof", "")), str(node.get("NodeId"))
    return box if box and ring.proves(proof, box, name, pinned_key(node)) else ""


def _box(node: Mapping[str, Json]) -> str:
    box = str(node.get("Box", ""))
    return box if BOX.fullmatch(box) else ""


def tend_key(keeper: Writer, message: TendKey, ctx: Context) -> Message:
    """Make another key where one that is out has the present one; else seal the secrets of peers under it."""
    ring = keeper.secrets.ring
    writes = new_key(keeper, ctx) if ring is not None and wanting(keeper.store, ring) else ()
    writes = writes or tuple(
        client.Write(REMOTE_PEERS, peer.node_id, document(peer)) for peer in stale(keeper)
    )
    if not writes:
        return client.Done()
    return keeper.write(client.RequestId(ctx.random.randbytes(16), 0), writes, ctx, system=True)


class Keys:
    """Looks after the cluster key that counts."""

    def __init__(self) -> None:
        self._seen: object = None
        """The state of keys and secrets in which this node last saw that something is to be done."""

    def look(self, keeper: Writer, ctx: Context) -> None:
        """Outside of any transaction: take the key that counts, or hold no other once nobody needs one."""
        ring = keeper.secrets.ring
        if ring is None:
            return
        try:
            _take(keeper, ring, ctx)
        except (OSError, EntglError) as fault:
            ctx.log(ERROR, f"the cluster key cannot be written, at the next look again: {fault}")
        self._tend(keeper, ring, ctx)

    def _tend(self, keeper: Writer, ring: KeyRing, ctx: Context) -> None:
        """One node does it, the next in the order of names where it does not: two that expelled or rotated at
        once did not know of each other, or secrets are sealed under an older key."""
        store = keeper.store
        rotation, out = store.rotation(), store.expelled()
        key_id = "" if rotation is None else rotation.key_id
        sealed_before = [peer.node_id for peer in stale(keeper)]
        another = wanting(store, ring) and bool(chain_here(store, ring)) and not runs_ahead(store, ctx)
        seen = key_id, out, sealed_before, another
        if seen == self._seen or not (sealed_before or another):
            return
        self._seen = seen
        rank = sum(name < node_of(store.origin) for name in members(store, out))
        ctx.after(rank * TEND_SECONDS, TendKey())


def stale(keeper: Writer) -> list[RemotePeer]:
    """Remote peers whose secret is sealed under an older key, with it sealed under the one that counts."""
    found, ring, rotation = [], keeper.secrets.ring, keeper.store.rotation()
    if ring is None or rotation is None or ring.held()[0] != rotation.key_id:
        return []
    for body in (body for _, body in keeper.store.documents(REMOTE_PEERS)):
        try:
            peer = read_peer(json.loads(body))
        except InvalidError:
            continue
        oauth2 = None if peer.oauth2 is None else keeper.secrets.resealed(peer.node_id, peer.oauth2)
        if oauth2 is not None:
            found.append(replace(peer, oauth2=oauth2))
    return found


def wanting(store: Store, ring: KeyRing) -> bool:
    """Whether another key is to be made unasked, by this node."""
    return known_outside(store, ring) or unsealed(store, ring) or unbelieved(store)


def known_outside(store: Store, ring: KeyRing) -> bool:
    """Whether the key that counts is known to one that was expelled.

    The first key is left once all can be given another: members that run an earlier release cannot.
    """
    out, rotation = store.expelled(), store.rotation()
    if rotation is None:
        own = node_of(store.origin)
        others = [node for name, node in members(store, out).items() if name != own]
        return bool(out) and all(box_of(ring, node) for node in others)
    return not out.isdisjoint({rotation.by, *rotation.sealed})


def unsealed(store: Store, ring: KeyRing) -> bool:
    """Whether members had no box when the key was made, and each of them has one now."""
    rotation, here = store.rotation(), members(store, store.expelled())
    lacking = [] if rotation is None else rotation.lacking
    boxes = [box_of(ring, here[name]) for name in lacking if name in here]
    return bool(boxes) and all(boxes)


def unbelieved(store: Store) -> bool:
    """Whether those who hold another key, made elsewhere at the same time, may not have heard of the maker of
    the one that counts, nor it of them: its key is not made for all. They have heard of this node."""
    rotation = store.rotation()
    if rotation is None:
        return False
    chain = {key_id for key_id, _ in rotation.chain}
    others = ((key_id, body) for key_id, body in store.documents(KEYS) if key_id not in chain)
    rivals = [found for key_id, body in others if (found := read_rotation(key_id, body, 0)) is not None]
    names = [rival.sealed.keys() for rival in rivals if rotation.by not in rival.sealed]
    return bool(names) and all(node_of(store.origin) in known for known in names)


def _take(keeper: Writer, ring: KeyRing, ctx: Context) -> None:
    store = keeper.store
    rotation, own, held = store.rotation(), node_of(store.origin), list(ring.held())
    told = [key_id for key_id in held if _is_told(keeper, key_id)]
    if held[0] not in told:
        # the file of keys is ahead of the database, which was restored. Perhaps nobody else has heard of that
        # key: who goes by it alone then believes nobody, and is believed by nobody. Where it counts, this
        # node comes as one that was away, and takes it again
        key = ring.of_held(told[0]) if told else None
        if key is not None:
            _count(keeper, ring, key)
        return
    if rotation is None:
        return
    if held[0] == rotation.key_id:
        # one that was set back as untold stands second, until another key is taken
        if held[1:2] == told[1:2] != [] and not (needed(store, rotation, ctx.now_ms()) or stale(keeper)):
            ring.drop_older()
        return
    _, sealed = rotation.sealed.get(own, ("", ""))
    key = ring.open(sealed, rotation.key_id, own) or ring.of_held(rotation.key_id)
    if key is None:
        return
    _count(keeper, ring, key)
    ctx.log(WARNING, f"cluster key {rotation.key_id[:16]} of {rotation.by} counts here now")
    ctx.tell("store", Happened(Event.KEY.value, SUBJECT, f"taken from {rotation.by}", key_id=rotation.key_id))
    ctx.tell("store", NoteSelf())


def _count(keeper: Writer, ring: KeyRing, key: Secret) -> None:
    """Let a key count here."""
    # never again: whoever has an older key may attest others from now on. First: a crash before the key is
    # taken does both once more
    with keeper.store.group():
        keeper.store.attest_anew(ring.renewal(key))
    ring.take(key)


def _is_told(keeper: Writer, key_id: str) -> bool:
    """Whether the database has heard of a key, which may be the first one."""
    rotation = keeper.store.rotation()
    in_chain = rotation is not None and any(key_id == one for one, _ in rotation.chain)
    is_first = cluster_of(bytes.fromhex(key_id)) == keeper.settings.cluster
    return in_chain or is_first or keeper.store.known(KEYS, key_id)


def needed(store: Store, rotation: Rotation, now_ms: int) -> bool:
    """Whether a member may still need a key of before."""
    nodes, expelled = read_documents(store, NODES), store.expelled()
    out = expelled | {str(node.get("NodeId")) for node in nodes if is_retired(node)}
    waiting = rotation.waits_for(nodes, out)
    return rotation.is_open(waiting, expelled, now_ms) or any(name in rotation.sealed for name in waiting)
