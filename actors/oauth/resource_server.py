"""The cloud role's door: access tokens of RFC 9068 or of a known profile, checked as RFC 8725 advises.

``verify`` is the whole decision about one token and a set of keys; it does no I/O. ``TokenVerifier`` adds
the fetching of keys, ``JwtChecker`` the wire to the SyncActor.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.utils import base64url_decode, base64url_encode

from entgldb.actors.oauth.authority import discover, json_object, one_line
from entgldb.actors.oauth.http import AuthorityError, answered_in_time, request
from entgldb.actors.oauth.profiles import PROFILES, Profile
from entgldb.actors.oauth.tenancy import Naming
from entgldb.actors.side_loop import SideLoop
from entgldb.messages.errors import EntglError, ErrorCode, Reason
from entgldb.messages.limits import TOKEN_BYTES_MAX
from entgldb.messages.local.actors import TokenChecked
from entgldb.messages.schema import Json, Message
from entgldb.messages.settings import SyncSettings

KINDS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("EC", "P-256"): ("ES256",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("RSA", ""): ("RS256", "PS256"),
}
"""``kty`` and ``crv`` of a key -> what it may sign with: the key decides, not the token (RFC 8725, 3.1)."""
ALGORITHMS = frozenset(name for names in KINDS.values() for name in names)
RSA_BITS_MIN = 2048
"""RFC 7518, 3.3."""
LEEWAY_SECONDS = 5
"""How far the clocks of authority and cloud may differ."""
TEXT_CHARS_MAX = 256
"""Longest accepted ``sub``, ``client_id``, ``jti``, ``kid``."""
KEYS_MAX = 64
"""Keys taken from one set."""
KEYS_SECONDS_MAX = 60.0
"""How long fetched keys are used: a withdrawn key is refused after that at the latest."""
REFRESH_SECONDS_MIN = 5.0
"""Between fetches for the sake of an unknown ``kid``."""
RETRY_SECONDS_MIN = 1.0
"""Between fetches while they fail."""
SCOPE_DEFAULT = "entgldb:sync"


class TokenError(EntglError):
    """A token is refused; the text says why, without quoting it."""

    code = ErrorCode.TOKEN_REFUSED

    def __init__(self, text: str, reason: Reason = Reason.TOKEN_REFUSED) -> None:
        super().__init__(text)
        self.reason = reason


class Rules(NamedTuple):
    """The claims that a token must make to be accepted."""

    issuer: str
    audience: str
    scopes: tuple[str, ...] = (SCOPE_DEFAULT,)
    """All of them, each by its whole word."""
    allow_clients: tuple[str, ...] = ()
    """Empty: every client the authority vouches for."""
    profile: Profile = PROFILES["rfc9068"]
    naming: Naming | None = None
    """How tenants are named; None: there are none."""


class Accepted(NamedTuple):
    """Whom a token is for, and until when (Unix seconds)."""

    client_id: str
    expires_at: float
    subject: str
    scopes: tuple[str, ...]
    tenant: str = ""
    issuer: str = ""


class Key(NamedTuple):
    """A public key of the authority."""

    public: Any
    algorithms: tuple[str, ...]
    """The algorithms that the key may sign with."""


Keys = Mapping[str, Key]
"""``kid`` -> key."""


def verify(token: str, keys: Keys, rules: Rules) -> Accepted:
    """Accept ``token`` or raise TokenError. The cheap checks come first."""
    profile = rules.profile
    header = _header(token, profile)
    key = keys.get(header["kid"])
    if key is None:
        raise TokenError("its key is not among those the authority publishes")
    if _algorithm(header) not in key.algorithms:
        raise TokenError(f"its key is for {' or '.join(key.algorithms)}")
    claims = _claims(token, key, rules)
    _check_life(claims, profile.life_seconds_max)
    _check_marks(claims, profile)
    for name in filter(None, ("sub", profile.client, profile.number)):
        _check_text(claims[name], name)
    client_id = claims[profile.client]
    if rules.allow_clients and client_id not in rules.allow_clients:
        raise TokenError(f"client {client_id} is not on the list of allowed clients")
    scopes = _scopes(claims.get(profile.scope), profile)
    missing = [scope for scope in rules.scopes if scope not in scopes]
    if missing:
        raise TokenError(f"it lacks the scope {' '.join(missing)}")
    tenant = "" if rules.naming is None else _tenant(rules.naming, client_id, claims)
    return Accepted(client_id, float(claims["exp"]), claims["sub"], scopes, tenant, rules.issuer)


def key_name(token: str, profile: Profile = PROFILES["rfc9068"]) -> str:
    """The ``kid`` of a token whose outer form and header are in order, or TokenError."""
    return str(_header(token, profile)["kid"])


def _header(token: str, profile: Profile) -> dict[str, Any]:
    """The header of such a token. PyJWT would decode the whole token for it, each time that it is asked."""
    if len(token) > TOKEN_BYTES_MAX:
        raise TokenError(f"it is longer than {TOKEN_BYTES_MAX} bytes")
    if not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}", token, re.ASCII):
        raise TokenError("it is not three base64url parts with dots between")
    try:
        parts = [(part, base64url_decode(part)) for part in token.split(".")]
        if any(base64url_encode(raw) != part.encode() for part, raw in parts):
            raise TokenError("one of its parts is not in canonical base64url")
        header = json.loads(parts[0][1])
    except (ValueError, RecursionError):
        raise TokenError("its header cannot be read") from None
    if not isinstance(header, dict):
        raise TokenError("its header is no object")
    # names that are not known are ignored (RFC 7515, 4): a key or an address in a header is never used
    if "crit" in header:
        raise TokenError("its header has critical extensions, of which none is known")
    kind = header.get("typ")
    if not isinstance(kind, str) or kind not in profile.types:
        raise TokenError(f"it is no access token: typ must be {' or '.join(sorted(profile.types))}")
    if _algorithm(header) not in ALGORITHMS:
        raise TokenError(f"it must be signed with one of {', '.join(sorted(ALGORITHMS))}")
    _check_text(header.get("kid"), "kid")
    return header


def read_keys(found: Mapping[str, Json]) -> dict[str, Key]:
    """The usable keys of a JWKS (RFC 7517): public keys for signatures, under unambiguous names."""
    listed = found.get("keys")
    if not isinstance(listed, list) or len(listed) > KEYS_MAX:
        raise AuthorityError(f"the key set is not a list of at most {KEYS_MAX} keys")
    keys: dict[str, Key] = {}
    for item in listed:
        algorithms = _usable_with(item) if isinstance(item, dict) else ()
        if not algorithms:
            continue
        if item["kid"] in keys:
            raise AuthorityError("the key set has two keys of one name")
        try:
            public: Any = _READERS[item["kty"]].from_jwk(item)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if not isinstance(public, RSAPublicKey) or public.key_size >= RSA_BITS_MIN:
            keys[item["kid"]] = Key(public, algorithms)
    return keys


class TokenVerifier:
    """Verifies tokens of one authority, fetching and refreshing its keys. Lives in one asyncio loop."""

    def __init__(
        self,
        authority: str,
        rules: Rules,
        ca_pem: Callable[[], str] = str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._authority = authority
        self._rules = rules
        self._ca_pem = ca_pem
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._issuer = ""
        self._fetched = -math.inf
        self._failed = -math.inf
        self._fault: AuthorityError | None = None
        self._lock = asyncio.Lock()
        self.fetches = 0
        """How often the authority was asked for keys."""

    async def verify(self, token: str) -> Accepted:
        """Accept or raise TokenError, or AuthorityError when there are no keys to check with."""
        kid = key_name(token, self._rules.profile)
        if self._due(kid):  # a client with a known key need not wait for a fetch that somebody else caused
            async with self._lock:  # one fetch serves all that wait for it
                if self._due(kid):
                    await self._refresh()
        return verify(token, self._keys, self._rules._replace(issuer=self._issuer))

    def _due(self, kid: str) -> bool:
        age = self._clock() - self._fetched
        return age >= KEYS_SECONDS_MAX or (kid not in self._keys and age >= REFRESH_SECONDS_MIN)

    async def _refresh(self) -> None:
        if self._fault is not None and self._clock() - self._failed < RETRY_SECONDS_MIN:
            raise AuthorityError(self._fault.text, self._fault.reason, self._fault.retry_after)
        self.fetches += 1
        try:
            self._issuer, self._keys = await fetch_keys(self._authority, self._ca_pem())
        except AuthorityError as fault:
            self._fault, self._failed = fault, self._clock()
            raise
        self._fetched, self._fault = self._clock(), None


async def fetch_keys(authority: str, ca_pem: str = "") -> tuple[str, dict[str, Key]]:
    """The issuer and the keys that ``authority`` publishes now. Raises AuthorityError."""
    async with answered_in_time(authority):
        metadata = await discover(authority, ca_pem)
        if not metadata.jwks_uri:
            raise AuthorityError(f"the metadata of {authority} names no jwks_uri")
        answer = await request(metadata.jwks_uri, ca_pem=ca_pem)
    return metadata.issuer, read_keys(json_object(metadata.jwks_uri, answer))


class JwtChecker:
    """Implements ``ports.TokenChecker`` on a side loop."""

    def __init__(self, loop: SideLoop, settings: SyncSettings) -> None:
        self._loop = loop
        self._settings = settings
        self._verifier: TokenVerifier | None = None

    def check(self, link: int, ticket: int, token: str) -> None:
        """Begin; TokenChecked with this ``link`` and ``ticket`` will be posted, exactly one."""
        self._loop.post_outcome(self._outcome(link, ticket, token))

    async def _outcome(self, link: int, ticket: int, token: str) -> Message:
        try:
            if self._verifier is None:
                self._verifier = self._make()
            accepted = await self._verifier.verify(token)
        except (TokenError, AuthorityError) as fault:
            return TokenChecked(link, ticket, "", 0.0, fault.reason.value, f"the token: {fault.text}")
        except Exception as fault:  # noqa: BLE001 -- whatever happens, an unchecked token is a refused one
            text = f"the token could not be checked: {type(fault).__name__}"
            return TokenChecked(link, ticket, "", 0.0, Reason.TOKEN_REFUSED.value, text)
        who = accepted.client_id, accepted.expires_at
        return TokenChecked(link, ticket, *who, "", "", accepted.tenant, accepted.issuer)

    def _make(self) -> TokenVerifier:
        given = self._settings

        def ca_pem() -> str:
            """As it is now: a private authority renews its certificate, too."""
            # a path that is not absolute lies in the node's directory
            return (Path(given.directory) / given.authority_ca).read_text() if given.authority_ca else ""

        rules = Rules(
            given.authority,
            given.audience,
            given.scopes or (SCOPE_DEFAULT,),
            given.allow_clients,
            PROFILES[given.token_profile],
            Naming(given.tenants, given.tenant_claim, dict(given.tenant_map)) if given.tenants else None,
        )
        return TokenVerifier(given.authority, rules, ca_pem)


def _claims(token: str, key: Key, rules: Rules) -> dict[str, Json]:
    """Signature, times, issuer, audience and presence, all by PyJWT."""
    try:
        claims: dict[str, Json] = jwt.decode(
            token,
            key.public,
            algorithms=list(key.algorithms),
            issuer=rules.issuer,
            audience=rules.audience,
            leeway=LEEWAY_SECONDS,
            options={
                "require": list(rules.profile.required),
                "strict_aud": not rules.profile.audience_list,
            },
        )
    except jwt.ExpiredSignatureError:
        raise TokenError("it has expired", Reason.TOKEN_EXPIRED) from None
    except jwt.InvalidSignatureError:
        raise TokenError("its signature does not fit") from None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as fault:
        raise TokenError(f"it is not acceptable: {one_line(str(fault))}") from None
    return claims


def _check_life(claims: Mapping[str, Json], longest: int) -> None:
    for name in ("exp", "iat"):
        # the bound keeps out infinity, and integers that no float can hold
        if type(claims[name]) not in (int, float) or not 0 < claims[name] < 2**53:
            raise TokenError(f"its {name} is not a number")
    if not 0 < claims["exp"] - claims["iat"] <= longest:
        raise TokenError(f"it must live between 0 and {longest} seconds from iat to exp")


def _check_marks(claims: Mapping[str, Json], profile: Profile) -> None:
    """It is a machine's access token, by the word of the authority."""
    for name, values in profile.marks.items():
        value = claims[name]
        if not isinstance(value, str) or value not in values:
            raise TokenError(f"its {name} is not {' or '.join(sorted(values))}")
    for name in sorted(profile.absent & claims.keys()):
        raise TokenError(f"it is a person's token: it has the claim {name}")


def _tenant(naming: Naming, client_id: str, claims: Mapping[str, Json]) -> str:
    try:
        return naming.tenant(client_id, claims)
    except ValueError as fault:
        raise TokenError(str(fault), Reason.NO_TENANT) from None


def _check_text(value: Json, name: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(rf"[\x21-\x7e]{{1,{TEXT_CHARS_MAX}}}", value):
        raise TokenError(f"its {name} is not 1 to {TEXT_CHARS_MAX} printable characters without space")
    return value


def _scopes(value: Json, profile: Profile) -> tuple[str, ...]:
    """RFC 6749, 3.3: words with single spaces between; or a list of words, where the profile has one."""
    if value is None:
        raise TokenError(f"it lacks the claim {profile.scope}")
    if profile.scope_list:
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise TokenError(f"its {profile.scope} is not a list of texts")
        return tuple(map(str, value))
    if not isinstance(value, str):
        raise TokenError(f"its {profile.scope} is not a text")
    return tuple(value.split(" "))


_READERS: Mapping[str, Any] = {"EC": ECAlgorithm, "OKP": OKPAlgorithm, "RSA": RSAAlgorithm}


def _algorithm(header: Mapping[str, Json]) -> str:
    name = header.get("alg")
    return name if isinstance(name, str) else ""


def _usable_with(item: Mapping[str, Json]) -> tuple[str, ...]:
    """The algorithms of a JWK; none for a key that is not ours to use."""
    kty, crv = item.get("kty"), item.get("crv", "")
    public = isinstance(item.get("kid"), str) and item.get("use", "sig") == "sig" and "d" not in item
    if not public or not isinstance(kty, str) or not isinstance(crv, str):
        return ()
    known = KINDS.get((kty, crv), ())
    return tuple(name for name in known if item.get("alg", name) == name)
