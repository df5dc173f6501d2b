"""Which tenant a client belongs to: decided by its verified token and the configuration, by nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Final, NamedTuple

from entgldb.messages.schema import Json
from entgldb.messages.tenants import TENANT

BY_CLIENT, BY_CLAIM, BY_MAP = "client", "claim", "map"
WAYS: Final = (BY_CLIENT, BY_CLAIM, BY_MAP)
"""``cloud.tenants``."""
_SHOWN_CHARS: Final = 31
"""Of a text that is no name of a tenant, so many letters stand in the name that is made of it."""


class Naming(NamedTuple):
    """How tenants are named."""

    by: str
    claim: str = ""
    """``by`` claim: the claim whose text names the tenant."""
    names: Mapping[str, str] = {}
    """``by`` map: client id -> tenant."""

    def tenant(self, client_id: str, claims: Mapping[str, Json]) -> str:
        """The tenant of a client whose token, with these claims, was verified. Raises ValueError."""
        if self.by == BY_CLIENT:
            return name_of(client_id)
        if self.by == BY_MAP:
            if client_id not in self.names:
                raise ValueError(f"client {client_id} has no tenant in cloud.tenant_map")
            return self.names[client_id]
        named = claims.get(self.claim)
        if not isinstance(named, str) or not named:
            raise ValueError(f"its {self.claim}, which names the tenant, is not a text")
        return name_of(named)


def name_of(text: str) -> str:
    """A text that can name a tenant as it stands; of any other one, a name that no other text has."""
    if "~" not in text and TENANT.fullmatch(text):
        return text
    shown = re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:_SHOWN_CHARS]
    return f"{shown}~{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
