"""Tokens in the shapes of three real authorities: theirs are taken, and no token of a person or another kind.

The claims are those that the documentation of Keycloak 26, Auth0 and Microsoft Entra (version 2.0) shows for
the client credentials grant.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from entgldb.actors.oauth.profiles import PROFILES
from entgldb.actors.oauth.resource_server import Rules, TokenError, verify
from entgldb.messages.errors import Reason
from tests.unit.actors.oauth import test_jwt
from tests.unit.actors.oauth.test_jwt import ISSUER, KEYS, OTHER, header, signed

ROBOT = {
    "rfc9068": {"client_id": "gw", "jti": "1", "scope": "entgldb:sync"},
    "keycloak": {
        "azp": "gw",
        "jti": "trrtcc:6f1c",
        "typ": "Bearer",
        "aud": ["cloud", "account"],
        "scope": "profile entgldb:sync",
        "clientHost": "10.0.0.1",
        "client_id": "gw",
    },
    "auth0": {"azp": "gw", "sub": "gw@clients", "gty": "client-credentials", "scope": "entgldb:sync"},
    "entra": {
        "azp": "gw",
        "azpacr": "1",
        "ver": "2.0",
        "uti": "b5Zc",
        "roles": ["entgldb:sync"],
        "oid": "7d3c",
        "tid": "72f9",
    },
}
LIFE = {"rfc9068": 3600, "keycloak": 3600, "auth0": 86_400, "entra": 5400}
TYPE = {"rfc9068": "at+jwt"}


def token(profile: str, *, typ: str | None = None, **changes: Any) -> str:
    now = int(time.time())
    good = {
        "iss": ISSUER,
        "aud": "cloud",
        "sub": "gw",
        "iat": now,
        "exp": now + LIFE[profile],
        **ROBOT[profile],
    }
    body = {name: value for name, value in {**good, **changes}.items() if value is not None}
    return signed(header(typ=typ or TYPE.get(profile, "JWT")), body)


def rules(profile: str) -> Rules:
    return Rules(ISSUER, "cloud", allow_clients=("gw",), profile=PROFILES[profile])


def refusal(profile: str, text: str) -> TokenError:
    with pytest.raises(TokenError) as fault:
        verify(text, KEYS, rules(profile))
    assert fault.value.text.isprintable()
    return fault.value


def test_every_profile_is_tried() -> None:
    assert set(ROBOT) == set(PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_machines_token_is_taken(profile: str) -> None:
    accepted = verify(token(profile), KEYS, rules(profile))
    assert accepted.client_id == "gw"
    assert "entgldb:sync" in accepted.scopes


@pytest.mark.parametrize("theirs", PROFILES)
@pytest.mark.parametrize("ours", PROFILES)
def test_a_profile_takes_no_token_of_another(ours: str, theirs: str) -> None:
    if ours != theirs:
        refusal(ours, token(theirs))


BAD: dict[str, list[dict[str, Any]]] = {
    "keycloak": [
        {"typ_claim": "ID"},
        {"typ_claim": "Refresh"},
        {"typ_claim": "Offline"},
        {"typ_claim": None},
        {"typ_claim": ["Bearer"]},
        {"aud": ["account"]},
        {"aud": []},
        {"aud": [["cloud"]]},
        {"aud": "account"},
    ],
    "auth0": [
        {"gty": "password"},
        {"gty": None},
        {"gty": "authorization_code client-credentials"},
        {"aud": ["cloud", "https://t.auth0.example/userinfo"]},
    ],
    "entra": [
        {"scp": "entgldb:sync"},
        {"scp": ""},
        {"roles": "entgldb:sync"},
        {"roles": None},
        {"roles": []},
        {"roles": ["other"]},
        {"roles": ["entgldb:sync", 5]},
        {"roles": None, "scope": "entgldb:sync"},
        {"ver": "1.0"},
        {"ver": None},
        {"azpacr": "0"},
        {"azpacr": None},
        {"azpacr": 1},
        {"uti": None},
        {"aud": ["cloud"]},
    ],
}
ALIKE: list[dict[str, Any]] = [
    {"azp": None},
    {"azp": "other"},
    {"azp": ["gw"]},
    {"azp": "gw\n"},
    {"sub": None},
    {"iss": ISSUER + "/"},
    {"iss": "https://evil.example"},
    {"aud": None},
    {"iat": None},
    {"exp": None},
    {"exp": int(time.time()) - 60},
    {"exp": int(time.time()) + 2 * 86_400},
]


def told(changes: dict[str, Any]) -> dict[str, Any]:
    """``typ`` of the body goes under another name here, because ``typ`` is the header's."""
    return {"typ" if name == "typ_claim" else name: value for name, value in changes.items()}


@pytest.mark.parametrize("profile", BAD)
def test_whatever_else_the_same_authority_signs_is_refused(profile: str) -> None:
    for changes in [*BAD[profile], *ALIKE]:
        now = int(time.time())
        good = {"iss": ISSUER, "aud": "cloud", "sub": "gw", "iat": now, "exp": now + 300, **ROBOT[profile]}
        body = {name: value for name, value in {**good, **told(changes)}.items() if value is not None}
        fault = refusal(profile, signed(header(typ="JWT"), body))
        expired = isinstance(changes.get("exp"), int) and changes["exp"] < now
        assert fault.reason is (Reason.TOKEN_EXPIRED if expired else Reason.TOKEN_REFUSED), changes


@pytest.mark.parametrize("profile", BAD)
def test_no_profile_weakens_signature_key_or_header(profile: str) -> None:
    good = token(profile)
    forged = signed(header(typ="JWT"), {"sub": "gw"}, OTHER.private)
    for bad in (
        forged,
        good[:-8],
        good.rpartition(".")[0] + ".",
        good.rpartition(".")[0] + "." + forged.rpartition(".")[2],
        token(profile, typ="id+jwt"),
        token(profile, typ="jwt"),
        signed(header(typ="JWT", alg="none"), {}),
        signed(header(typ="JWT", kid="other"), {}),
        signed(header(typ="JWT", crit=["exp"]), {}),
        signed(header(typ=["JWT"]), {}),
    ):
        refusal(profile, bad)


def test_a_person_is_told_apart_in_words() -> None:
    assert "a person's token" in refusal("entra", token("entra", scp="x")).text


def test_sixty_kinds_are_refused_and_the_good_ones_of_all_authorities_are_taken() -> None:
    """Their rate is measured by ``entgldb bench W12``."""
    refused = 0
    for make in test_jwt.BAD.values():
        with pytest.raises(TokenError):
            verify(make(), KEYS, test_jwt.RULES)
        refused += 1
    taken = [verify(token(profile), KEYS, rules(profile)).client_id for profile in ROBOT]
    print(f"{refused} kinds of bad tokens refused, good ones of {len(taken)} profiles taken")
    assert refused >= 60
    assert taken == ["gw"] * 4
