"""The demo's steps with cloud peers: add, connect, both ways, disable, enable, modify, replace."""

from __future__ import annotations

import secrets
import time

from entgldb.launch.demo.stage import (
    AIRPORTS,
    SETTLE_SECONDS,
    Stage,
    check_secrets,
    command,
    equal,
    linked,
    require,
    sockets,
)
from entgldb.launch.playground.cluster import Member, wait_for

NOTES = "notes"
PILED_UP = 50
CLOUD_SECONDS = 30.0
"""How long all documents may take to an empty cloud node."""


def add(stage: Stage, on: Member, cloud: Member, client: tuple[str, str] | None = None) -> None:
    """``entgldb add-cloud-peer`` on a node, the secret by stdin. ``client``: another one and its secret."""
    playground = stage.playground
    client_id, secret = client or (playground.client_id, playground.client_secret)
    command(
        "add-cloud-peer",
        *("--dir", str(on.directory), "--node-id", cloud.node_id, "--address", cloud.address),
        *("--authority", playground.authority, "--client-id", client_id),
        *("--scope", "entgldb:sync", "--ca-file", str(playground.ca_file), "--client-secret-stdin"),
        stdin=secret,
    )


def listed(stage: Stage, wanted: dict[str, bool]) -> None:
    """Wait until every LAN node lists exactly ``wanted``: node id -> enabled."""

    def look() -> bool:
        return all(
            {peer.node_id: peer.enabled for peer in member.db.peers.get_all_remote_peers()} == wanted
            for member in stage.playground.lan
            if member.node is not None
        )

    wait_for(f"all nodes list {wanted}", look, SETTLE_SECONDS)


def list_cloud_peer(stage: Stage) -> str:
    """Added on a node that is not the gateway; every node lists it; nobody can read its secret."""
    on, cloud = stage.others()[0], stage.playground.clouds[0]
    begun = time.monotonic()
    add(stage, on, cloud)
    listed(stage, {cloud.node_id: True})
    seconds = time.monotonic() - begun
    equal(stage.playground.lan, only=NOTES)
    files = check_secrets(stage)
    return f"added on {on.node_id}, on 3 of 3 nodes in {seconds:.2f} s, its secret in none of {files} files"


def gateway_connects(stage: Stage) -> str:
    """Only the gateway holds a link, with a token of the authority; the cloud gets all documents."""
    gateway, cloud = stage.gateway(), stage.playground.clouds[0]
    linked(stage, cloud, gateway)
    (guest,) = cloud.guests()
    require(guest["client_id"] == stage.playground.client_id, f"the cloud knows another client: {guest}")
    issued = stage.playground.control()["issued"]
    require(issued >= 1, "a link without a token")
    equal([gateway, cloud], CLOUD_SECONDS)
    number = len(cloud.all_of(AIRPORTS))
    require(number == stage.airports, f"{number} airports in the cloud, not {stage.airports}")
    require(cloud.db.peers.get_all_remote_peers() == [], "the cloud learned the cluster's configuration")
    linked(stage, cloud, gateway)
    return f"only {gateway.node_id} as {guest['client_id']}; {stage.airports} documents in the cloud"


def cloud_to_lan(stage: Stage) -> str:
    """A document written at the cloud arrives on every LAN node."""
    begun = time.monotonic()
    stage.playground.clouds[0].db[NOTES].put("from-cloud", {"text": "hello"})
    lan = stage.playground.lan

    def there() -> bool:
        return all(member.db[NOTES].get("from-cloud") == {"text": "hello"} for member in lan)

    wait_for("the cloud's document on every LAN node", there, SETTLE_SECONDS)
    return f"on 3 of 3 nodes in {(time.monotonic() - begun) * 1000:.0f} ms"


def disable(stage: Stage) -> str:
    """The link closes, and what is written stays away from the cloud."""
    cloud, writer = stage.playground.clouds[0], stage.others()[-1]
    before = len(cloud.all_of(NOTES))
    command("disable-peer", cloud.node_id, "--dir", str(writer.directory))
    linked(stage, cloud, None)
    seconds = stage.linked_after(writer)
    listed(stage, {cloud.node_id: False})
    writer.db[NOTES].put_many((f"piled-{i}", {"number": i}) for i in range(PILED_UP))
    equal(stage.playground.lan, only=NOTES)
    require(len(cloud.all_of(NOTES)) == before, "a disabled peer was written to")
    linked(stage, cloud, None)
    return f"link closed {seconds:.2f} s after the change; {PILED_UP} writes wait"


def enable(stage: Stage) -> str:
    """The link opens and the writes flow."""
    cloud, on = stage.playground.clouds[0], stage.others()[0]
    gateway = stage.gateway()
    command("enable-peer", cloud.node_id, "--dir", str(on.directory))
    linked(stage, cloud, gateway)
    seconds = stage.linked_after(on)
    equal([*stage.playground.lan, cloud], only=NOTES)
    number = sum(key.startswith("piled-") for key in cloud.all_of(NOTES))
    require(number == PILED_UP, f"{number} notes in the cloud, not {PILED_UP}")
    return f"link open {seconds:.2f} s after the change; {PILED_UP} writes arrived"


def modify(stage: Stage) -> str:
    """Another address and another secret: dialled again with a new token."""
    playground = stage.playground
    cloud, on, gateway = playground.clouds[0], stage.others()[-1], stage.gateway()
    before, issued = sockets(cloud, [gateway]), playground.control()["issued"]
    fresh = secrets.token_urlsafe(24)
    playground.control(client={"id": playground.client_id, "secret": fresh})
    playground.client_secret = fresh
    stage.secrets.append(fresh)
    address = f"localhost:{cloud.port}"
    arguments = ("update-peer", cloud.node_id, "--dir", str(on.directory), "--address", address)
    command(*arguments, "--client-secret-stdin", stdin=fresh)

    def redialled() -> bool:
        now = sockets(cloud, [gateway])
        return bool(now) and now[gateway.node_id].isdisjoint(before[gateway.node_id])

    wait_for("the link is dialled again", redialled, SETTLE_SECONDS)
    linked(stage, cloud, gateway)
    seconds = stage.linked_after(on)
    require(playground.control()["issued"] > issued, "the old token was used again")
    shown = {member.db.peers.get_remote_peer(cloud.node_id).address for member in playground.lan}
    require(shown == {address}, f"not {address} everywhere: {shown}")
    on.db[NOTES].put("after-modify", {"by": on.node_id})
    equal([*playground.lan, cloud], only=NOTES)
    return f"{address} and a new secret; dialled again in {seconds:.2f} s with a new token"


def replace(stage: Stage) -> str:
    """The seed's use case 3: the new one is added, the old one disabled, verified, removed."""
    playground = stage.playground
    old, new = playground.clouds[0], playground.make_cloud()
    playground.start([new])
    gateway, on = stage.gateway(), stage.others()[0]
    add(stage, on, new)
    linked(stage, new, gateway)
    seconds = stage.linked_after(on)
    linked(stage, old, gateway)
    command("disable-peer", old.node_id, "--dir", str(on.directory))
    linked(stage, old, None)
    equal([*playground.lan, new], CLOUD_SECONDS)
    command("remove-peer", old.node_id, "--dir", str(on.directory))
    listed(stage, {new.node_id: True})
    linked(stage, new, gateway)
    gateway.db[NOTES].put("after-replace", {"by": gateway.node_id})
    equal([*playground.lan, new], only=NOTES)
    require(old.db[NOTES].get("after-replace") is None, f"{old.node_id} still gets what is written")
    return (
        f"{new.node_id} linked in {seconds:.2f} s and has all documents; "
        f"{old.node_id} disabled, then removed everywhere"
    )
