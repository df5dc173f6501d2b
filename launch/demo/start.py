"""The demo's first steps: nodes up, 28,000 airports in, and the same everywhere."""

from __future__ import annotations

import json
import time

from entgldb.launch.demo.airports import airports
from entgldb.launch.demo.figures import visibility_ms
from entgldb.launch.demo.stage import AIRPORTS, SETTLE_SECONDS, Stage, command, digest, equal, require
from entgldb.launch.playground.cluster import wait_for
from entgldb.storage.file.durable import write_whole

REPLICATE_SECONDS = 40.0
"""How long 28,000 documents may take to the other nodes on a machine that has more to do."""


def nodes_up(stage: Stage) -> str:
    """An authorization server, a cloud node and three LAN nodes; the smallest node id leads."""
    playground = stage.playground
    playground.start_authority()
    stage.secrets.append(playground.client_secret)
    playground.make_lan(3)
    playground.make_cloud()
    begun = time.monotonic()
    playground.start()
    up = time.monotonic() - begun
    return f"4 nodes ready in {up:.1f} s, gateway {smallest_leads(stage)}"


def smallest_leads(stage: Stage) -> str:
    """Wait until the smallest node id is gateway; it."""
    smallest = min(member.node_id for member in stage.playground.lan)
    # one that came up a little earlier may lead until the smallest has been there for takeover_delay
    wait_for(f"{smallest} is gateway", lambda: stage.gateway().node_id == smallest, SETTLE_SECONDS)
    return smallest


def import_airports(stage: Stage) -> str:
    """All airports, by ``entgldb import`` on lan-1."""
    found, remark = airports()
    stage.airports = len(found)
    lines = "".join(json.dumps({"_key": key, **fields}) + "\n" for key, fields in found.items())
    file = stage.playground.root / "airports.jsonl"
    write_whole(file, lines.encode())
    stage.import_begun = time.monotonic()
    shown = command("import", AIRPORTS, str(file), "--dir", str(stage.playground.lan[0].directory))
    require(shown["documents"] == stage.airports, f"{stage.airports} airports, {shown} imported")
    rate = shown["documents"] / shown["seconds"]
    done = f"{shown['documents']} documents in {shown['seconds']:.1f} s, {rate:.0f}/s"
    return f"{done}; {remark}" if remark else done


def replicated(stage: Stage) -> str:
    """Every LAN node has the same documents and the same vector."""
    lan = stage.playground.lan
    first = lan[0]
    require(first.db[AIRPORTS].count() == stage.airports, "not all airports are on lan-1")
    seconds = equal(lan, REPLICATE_SECONDS) - stage.import_begun
    counts = {member.db[AIRPORTS].count() for member in lan}
    require(counts == {stage.airports}, f"{stage.airports} airports, but the nodes have {counts}")
    visible = visibility_ms(lan[0], lan[1])
    stage.figures.import_to_all, stage.figures.visible_ms = seconds, visible
    newest = max(seq for seq, _ in first.vector().values())
    return (
        f"{stage.airports} documents, vector at {newest}, {digest(first)[:12]}; {seconds:.1f} s with import; "
        f"a write is on another node in {visible:.1f} ms"
    )
