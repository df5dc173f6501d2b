"""The verbs for the tenants of a cloud node."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from entgldb._version import VERSION
from entgldb.launch.cli.common import common, say, show, table, with_database
from entgldb.messages.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from entgldb.client.database import Database
    from entgldb.client.hosting.tenants import TenantRow


QUOTAS: Final = {
    "origins": "Writers, each incarnation of a node counted.",
    "links": "Links at one time.",
    "writes": "Entries a second, on average over ten.",
    "bytes": "Bytes of all its files.",
    "documents": "Live documents, of all collections.",
}
"""Options of a quota -> their help, the last first."""
_KEPT: Final = ("active", "suspended")
"""The states in which a tenant has data."""


@click.group()
def tenant() -> None:
    """Manage the tenants of a cloud node; run it in that node's directory.

    Example: entgldb tenant list
    """


@tenant.command("list")
@common
@with_database
def list_(db: Database, as_json: bool) -> None:
    """Show every tenant: state, documents, size, since when.

    Documents are known of tenants that are open, and shown as ? of the others.

    Example: entgldb tenant list --json
    """
    rows = db.tenants.all()
    if as_json:
        show({"tenants": [row._asdict() for row in rows]})
    else:
        table(("tenant", "state", "open", "documents", "bytes", "since"), map(_cells, rows))


@tenant.command("show")
@common
@click.argument("name")
@with_database
def show_(db: Database, as_json: bool, name: str) -> None:
    """Show one tenant; while it is open, what each actor says of it.

    Example: entgldb tenant show shop-1
    """
    row = db.tenants.get(name)
    told = {actor: _status(db, name, actor) for actor in ("store", "oplog", "sync")} if row.open else {}
    if as_json:
        show({**row._asdict(), **told})
        return
    for link in row.gateways or []:
        at = f"at {link['address']}, process {link['process']}"
        say("gateway", f"{link['node_id']} in epoch {link['epoch']} {at}")
    for field, value in {**row._asdict(), "quotas": _quotas(row)}.items():
        if field == "gateways":
            continue
        if field == "since_ms":
            field, value = "since", _time(row.since_ms)
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        say(field, "?" if value is None else str(value))
    for peer in told.get("sync", {}).get("peers", []):
        say("link", f"{peer['node_id']} at {peer['address']}, client {peer.get('client_id', '?')}")
    for body in told.values():
        for alarm in body.get("alarms", []):
            say("alarm", f"{alarm['code']}: {alarm['text']}")


def quota_options(function: Any) -> Any:
    """``--documents`` and so on."""
    for name, text in QUOTAS.items():
        function = click.option(f"--{name}", type=click.IntRange(min=0), metavar="N", help=text)(function)
    return function


@tenant.command()
@common
@click.argument("name")
@click.option("--issuer", default="", help="The authority whose clients may come. [default: the first's]")
@quota_options
@with_database
def add(db: Database, as_json: bool, name: str, issuer: str, **quotas: int | None) -> None:
    """Make a tenant.

    Before its first client comes, or again after it was deleted.

    Example: entgldb tenant add shop-1 --documents 100000
    """
    _tell(db.tenants.add(name, issuer=issuer, quotas=_given(quotas)), as_json=as_json)


@tenant.command()
@common
@click.argument("name")
@quota_options
@with_database
def limit(db: Database, as_json: bool, name: str, **quotas: int | None) -> None:
    """Change how much a tenant may have on this node; 0: any number.

    A tenant that has more is refused all that makes it grow, and its gateway says why; deletes go on.

    Example: entgldb tenant limit shop-1 --documents 200000 --writes 100
    """
    _tell(db.tenants.limit(name, _given(quotas)), as_json=as_json)


@tenant.command()
@common
@click.argument("name")
@with_database
def suspend(db: Database, as_json: bool, name: str) -> None:
    """Serve a tenant no more, and keep its data.

    Its links end, and its clients are refused.

    Example: entgldb tenant suspend shop-1
    """
    _tell(db.tenants.suspend(name), as_json=as_json)


@tenant.command()
@common
@click.argument("name")
@with_database
def resume(db: Database, as_json: bool, name: str) -> None:
    """Serve a suspended tenant again.

    Example: entgldb tenant resume shop-1
    """
    _tell(db.tenants.resume(name), as_json=as_json)


@tenant.command()
@common
@click.argument("name", required=False)
@click.option("--all", "everyone", is_flag=True, help="Every tenant that was not deleted.")
@with_database
def restored(db: Database, as_json: bool, name: str | None, everyone: bool) -> None:
    """Say that the PostgreSQL under a tenant was restored.

    After it was put back to an earlier state where a service hides its system identifier: the tenant
    goes on as a new writer, and what was lost comes back from its nodes. Elsewhere it is noticed.

    Example: entgldb tenant restored --all
    """
    if everyone == bool(name):
        raise InvalidError("name one tenant, or say --all", hint="entgldb tenant list")
    names = [name] if name else [row.name for row in db.tenants.all() if row.state in _KEPT]
    rows = [db.tenants.restored(one) for one in names]
    if as_json:
        show({"tenants": [row._asdict() for row in rows]})
    for row in rows if not as_json else ():
        say(f"tenant {row.name} goes on as a new writer")


@tenant.command()
@common
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask for the tenant's name.")
@with_database
def delete(db: Database, as_json: bool, name: str, yes: bool) -> None:
    """Remove all data of a tenant on this node.

    Its clients are refused until it is added again. Its own nodes keep what they have. Make a copy first
    with `entgldb tenant export`.

    Example: entgldb tenant delete shop-1 --yes
    """
    if not yes:
        db.tenants.get(name)
        if click.prompt(f"Type the tenant's name, {name}, to go on", err=True) != name:
            raise InvalidError("that is not the tenant's name: nothing was changed")
    _tell(db.tenants.delete(name), as_json=as_json)


@tenant.command()
@common
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def export(directory: Path, as_json: bool, name: str, file: Path) -> None:
    """Copy all data of a tenant, open or not, into FILE.

    It is a backup, as `entgldb backup` makes one of a node; `entgldb restore` puts it into the
    directory of a node that was made with the node id of this one.

    Example: entgldb tenant export shop-1 /backups/shop-1.db
    """
    from tempfile import TemporaryDirectory

    from entgldb.launch.node.config import load
    from entgldb.storage.file.fingerprint import DATABASE
    from entgldb.storage.recovery import backup
    from entgldb.storage.tenants.files import tenant_directory

    own, now_ms = tenant_directory(directory, name), time.time_ns() // 1_000_000
    storage = "" if (own / DATABASE).exists() else load(directory).sync.storage
    if storage:
        from entgldb.storage.postgres.tenants import copy_out

        with TemporaryDirectory(dir=directory, prefix=".export-") as passing:
            copy_out(storage, name, Path(passing))
            manifest = backup.write(Path(passing), file, VERSION, now_ms, _progress)
    elif own.is_dir():
        manifest = backup.write(own, file, VERSION, now_ms, _progress)
    else:
        raise NotFoundError(f"there are no data of a tenant {name}", hint="entgldb tenant list")
    if as_json:
        show({"file": str(file), "tenant": name, "verified": True, **manifest._asdict()})
    else:
        say(f"{file}: tenant {name}, {manifest.documents} documents, {manifest.entries} log entries; checked")


def _status(db: Database, name: str, actor: str) -> dict[str, Any]:
    """Empty where the tenant was closed meanwhile."""
    try:
        return db.tenants.status(name, actor)
    except NotFoundError:
        return {}


def _given(quotas: dict[str, int | None]) -> dict[str, int]:
    return {name: most for name, most in quotas.items() if most is not None}


def _tell(row: TenantRow, *, as_json: bool) -> None:
    if as_json:
        show(row._asdict())
    else:
        say(f"tenant {row.name} is {row.state}, quotas: {_quotas(row)}")


def _cells(row: TenantRow) -> tuple[str, ...]:
    documents, size = ("?" if figure is None else str(figure) for figure in (row.documents, row.bytes))
    return row.name, row.state, "yes" if row.open else "no", documents, size, _time(row.since_ms)


def _time(ms: int) -> str:
    return time.strftime("%F %T", time.localtime(ms / 1000))


def _quotas(row: TenantRow) -> str:
    return ", ".join(f"{most} {name}" for name, most in row.quotas.items() if most) or "none"


def _progress(pages: int, of: int) -> None:
    """For a person at a terminal."""
    if sys.stderr.isatty():
        click.echo(f"\r{100 * pages // max(1, of)} %", err=True, nl=pages >= of)
