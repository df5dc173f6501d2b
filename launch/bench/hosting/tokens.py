"""W12: how many bearer tokens a cloud node can verify in a second, one after the other."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from jwt.algorithms import ECAlgorithm

from entgldb.actors.oauth.resource_server import Rules, read_keys, verify
from entgldb.launch.bench.works import Bench, Figure, Result, in_turns

TOKENS: Final = 5_000
"""In one round, each another one: nothing is remembered of a token."""
ISSUER, AUDIENCE, KID = "https://id.example", "cloud", "k1"


def tokens(bench: Bench, root: Path, figures: Sequence[Figure]) -> Iterator[Result]:
    """Access tokens as RFC 9068 has them, signed by ES256."""
    key = generate_private_key(SECP256R1())
    jwk: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(key.public_key()))
    keys = read_keys({"keys": [{**jwk, "kid": KID, "use": "sig", "alg": "ES256"}]})
    made = [_token(key, number) for number in range(bench.amount(TOKENS))]

    def verified() -> float:
        begun = time.perf_counter()
        for token in made:
            verify(token, keys, Rules(ISSUER, AUDIENCE))
        return len(made) / (time.perf_counter() - begun)

    for figure in figures:
        yield in_turns(figure, bench.turns(figure.full_name), verified)


def _token(key: Any, number: int) -> str:
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "gw",
        "client_id": "gw",
        "jti": str(number),
        "iat": now,
        "exp": now + 3600,
        "scope": "entgldb:sync",
    }
    return jwt.encode(claims, key, "ES256", headers={"typ": "at+jwt", "kid": KID})
