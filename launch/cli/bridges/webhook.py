"""The configuration of a webhook."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from entgldb.integrations.feeding import NOW, START
from entgldb.integrations.webhook.signing import read_secret
from entgldb.integrations.webhook.sink import Terms
from entgldb.launch.cli.bridges.reading import BridgeFile, collection, existing, reference
from entgldb.launch.cli.bridges.reading import url as check_url

COLLECTIONS_MAX = 100
SECRETS_MAX = 4


class Webhook(NamedTuple):
    """All that is given of one."""

    name: str
    url: str
    ca_file: str
    timeout: float
    collections: tuple[str, ...]
    since: str
    terms: Terms


def read(file: Path) -> Webhook:
    """Raises ConfigError with every fault, SecretError for a secret that cannot be read."""
    given = BridgeFile(file)
    top = given.top
    url = top.text("url", required=True, check=check_url)
    secrets = top.texts("secrets", check=reference)
    collections = top.texts("collections", check=collection)
    if not 0 < len(collections) <= COLLECTIONS_MAX:
        top.fault("collections", f"1 to {COLLECTIONS_MAX} are expected")
    if not 0 < len(secrets) <= SECRETS_MAX:
        top.fault("secrets", f"1 to {SECRETS_MAX} are expected")
    default = Terms(())
    made = Webhook(
        given.name,
        url,
        existing(given, top.text("ca_file")),
        top.number("timeout", 10.0, 300.0),
        collections,
        top.choice("since", (NOW, START), NOW),
        Terms(
            (),
            int(top.number("attempts", default.attempts, 1000)),
            int(top.number("dead_letters", default.dead_letters_max, 100_000)),
        ),
    )
    given.finish()
    opened = tuple(read_secret(given.secret(one)) for one in secrets)
    return made._replace(terms=Terms(opened, made.terms.attempts, made.terms.dead_letters_max))
