"""``entgldb status``: the reports of all actors, on one screen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from entgldb.client.health.complaints import complaints
from entgldb.launch.cli.cluster.rates import told
from entgldb.launch.cli.common import DEGRADED, common, leave, say, show, utc, with_database

if TYPE_CHECKING:
    from entgldb.client.database import Database

_LOST: Final = ", it began empty where a database had been"
TENANTS_SHOWN: Final = 10
"""Those that have written most."""


@click.command()
@common
@click.option("--check", is_flag=True, help="Exit with 5 when anything needs attention.")
@with_database
def status(db: Database, as_json: bool, check: bool) -> None:
    """Show how the node is: documents, peers, gateway, cloud links, and what needs attention.

    Example: entgldb status --check
    """
    body = db.status("node")
    wrong = complaints(body)
    if as_json:
        show({**body, "ok": not wrong, "complaints": wrong})
    else:
        for line in text(body, wrong).split("\n"):
            say(line)
    if check and wrong:
        leave(DEGRADED)


def text(body: dict[str, Any], wrong: list[str]) -> str:
    """The same for a person."""
    store, sync = body.get("store") or {}, body.get("sync") or {}
    election, gateway = body.get("election") or {}, body.get("gateway") or {}
    lines = [
        f"node      {body.get('node_id')} ({body.get('role')})",
        f"store     {store.get('documents')} documents, {store.get('oplog_entries')} oplog entries, "
        f"{store.get('conflicts')} conflicts, {store.get('wal_bytes')} bytes of WAL",
    ]
    for latest in (store.get("incarnations") or [])[:1]:
        since = time.strftime("%F %T", time.localtime(latest["at_ms"] / 1000))
        why = f"{latest['why']}{_LOST if latest['why'] == 'lost' else ''}"
        lines.append(f"writes as {latest['origin']} since {since}: {why}")
    if body.get("role") == "lan":
        mine = ", this node" if election.get("is_gateway") else ""
        lines.append(f"gateway   {election.get('gateway') or 'none'} (epoch {election.get('epoch')}{mine})")
    pinned = sync.get("cluster") or {}
    if pinned.get("id") or pinned.get("shared"):
        who = (
            "any, mixed (cloud.shared)"
            if pinned["shared"]
            else f"{pinned['id']}, client {pinned['client_id']} (serve another: entgldb unpin-cluster)"
        )
        lines.append(f"cluster   {who}")
    lines += _tenants(store, sync)
    for peer in sync.get("peers") or []:
        lines.append(
            f"peer      {peer.get('node_id')} {peer.get('address')} {peer.get('state')}, {_lag(peer)}"
        )
    for link in gateway.get("links") or []:
        reason = f" ({link['reason']})" if link.get("reason") else ""
        limit = f", {rate}" if (rate := told(link.get("max_rate"))) else ""
        secret = {"new": ", new secret", "previous": ", by the secret before"}.get(link.get("secret"), "")
        state = f"{link.get('state')}{reason}, {_lag(link)}{limit}{secret}"
        lines.append(f"cloud     {link.get('node_id')} {link.get('address')} {state}")
    for row in ((body.get("oplog") or {}).get("verify") or {}).get("peers") or []:
        at_ms = row.get("at_ms")
        found = "not yet" if at_ms is None else f"{row.get('result')}, {utc(at_ms)}"
        lines.append(f"verified  {row.get('node_id')} {found}")
    restarts = {name: count for name, count in (body.get("restarts") or {}).items() if count}
    if restarts:
        lines.append("restarts  " + ", ".join(f"{name} {count}" for name, count in restarts.items()))
    lines += [f"attention {complaint}" for complaint in wrong]
    return "\n".join(lines)


def _tenants(store: dict[str, Any], sync: dict[str, Any]) -> list[str]:
    """How many tenants there are, and those that have written most."""
    told = store.get("tenants")
    if not told:
        return []
    states = ", ".join(f"{number} {state}" for state, number in told["states"].items()) or "none yet"
    lines = [f"tenants   {states}; {store['tenants_open']} open"]
    links = sync.get("tenant_links") or {}
    for row in told["rows"][:TENANTS_SHOWN]:
        refused = f", {row['refused']} batches refused" if row["refused"] else ""
        figures = f"{row['documents']} documents, {row['oplog_entries']} oplog entries"
        lines.append(f"tenant    {row['name']} {figures}, {_number(links.get(row['name']))} links{refused}")
    if len(told["rows"]) > TENANTS_SHOWN:
        lines.append("          others: entgldb tenant list")
    return lines


def _lag(row: dict[str, Any]) -> str:
    """How far behind, each way; an unknown number is a question mark, never 0."""
    parts = []
    for way in ("in", "out"):
        behind, seconds = row.get(f"behind_{way}"), row.get(f"seconds_{way}")
        since = f" ({seconds:.1f} s)" if behind and seconds is not None else ""
        parts.append(f"{way} {_number(behind)}{since}")
    return "behind " + ", ".join(parts)


def _number(value: Any) -> str:
    return "?" if value is None else str(value)
