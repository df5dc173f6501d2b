"""How a cloud node names its tenants: the part of the section ``cloud`` that says so."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

from entgldb.actors.oauth.tenancy import BY_CLAIM, BY_MAP, WAYS
from entgldb.launch.node.config_fields import Section
from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import OPEN_TENANTS_MAX
from entgldb.messages.settings import SyncSettings
from entgldb.messages.tenants import check_tenant

_DEFAULTS = SyncSettings("", "", "", "", "")
_POSTGRES: Final = ("postgresql://", "postgres://")


def check_storage(storage: str) -> str:
    """Give an address of PostgreSQL back, or raise InvalidError."""
    if not storage.startswith(_POSTGRES):
        raise InvalidError("postgresql://USER@HOST/DATABASE is expected")
    if urlsplit(storage).password is not None or "password=" in storage.lower():
        raise InvalidError(
            "has a password in it: put that into a file, and ?passfile=FILE behind the address"
        )
    if find_spec("psycopg") is None or find_spec("sqlglot") is None:
        raise InvalidError("needs the extra postgres: pip install 'entgldb[postgres]'")
    return storage


def tenants(cloud: Section) -> dict[str, Any]:
    """The fields of ``SyncSettings`` about tenants; faults are noted in the section."""
    way = cloud.choice("tenants", ("", *WAYS), "")
    if way and cloud.flag("shared", False):
        cloud.fault("tenants", "is for clusters that do not mix: take cloud.shared out")
    open_at_once = cloud.integer("tenants_open", _DEFAULTS.tenants_open)
    if not 1 <= open_at_once <= OPEN_TENANTS_MAX:
        cloud.fault("tenants_open", f"a number from 1 to {OPEN_TENANTS_MAX} is expected")
    found = cloud.pairs("tenant_map", check=check_tenant)
    if way == BY_MAP and not found:
        cloud.fault("tenant_map", "is missing: a table of client ids, each with its tenant")
    storage = cloud.text("storage", check=check_storage)
    if storage and not way:
        cloud.fault("storage", "is for a cloud node that serves tenants: set cloud.tenants")
    return {
        "storage": storage,
        "tenants": way,
        "tenant_claim": cloud.text("tenant_claim", required=way == BY_CLAIM),
        "tenant_map": tuple(sorted(found.items())),
        "tenant_idle": cloud.seconds("tenant_idle", _DEFAULTS.tenant_idle),
        "tenants_open": open_at_once,
    }
