"""How the access tokens of known authorities differ from RFC 9068: a table, read by ``resource_server``.

A profile changes the names and shapes of claims alone. Signature, key, issuer, audience, times and scope are
checked alike for all. Each profile demands the mark by which its authority tells a machine's access token
from an ID token or the token of a signed-in person, because ``typ: JWT`` in the header does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

LIFE_SECONDS_MAX: Final = 3600
"""Longest accepted time from ``iat`` to ``exp``, unless a profile says more."""


class Profile(NamedTuple):
    """The shape of one authority's access tokens for the client credentials grant."""

    types: frozenset[str]
    """Accepted values of ``typ`` in the header, in their exact spelling."""
    client: str = "client_id"
    """The claim that names the client."""
    scope: str = "scope"
    """The claim with what was granted: words in a text, or where ``scope_list`` a list of texts."""
    scope_list: bool = False
    number: str = "jti"
    """The claim that numbers tokens; empty where the authority does not."""
    marks: Mapping[str, frozenset[str]] = {}
    """Claim -> the values of which it must have one."""
    absent: frozenset[str] = frozenset()
    """Claims that only tokens of persons have."""
    audience_list: bool = False
    """``aud`` may be a list (RFC 7519, 4.1.3) in which the audience is named."""
    life_seconds_max: int = LIFE_SECONDS_MAX

    @property
    def required(self) -> tuple[str, ...]:
        """The claims without which no token is accepted."""
        named = (self.client, self.number, *self.marks)
        return ("exp", "iat", "iss", "aud", "sub", *(name for name in named if name))


_RFC9068: Final = frozenset({"at+jwt", "application/at+jwt"})
_ANY_JWT: Final = frozenset({"JWT"}) | _RFC9068

PROFILES: Final[Mapping[str, Profile]] = {
    # RFC 9068, 2.1 and 2.2
    "rfc9068": Profile(types=_RFC9068),
    # the payload's own typ is Bearer, ID or Refresh; aud is a list as soon as a second mapper adds to it
    "keycloak": Profile(
        types=_ANY_JWT, client="azp", marks={"typ": frozenset({"Bearer"})}, audience_list=True
    ),
    # a token lives a day unless the API's settings say less; the dialect without jti is the default
    "auth0": Profile(
        types=_ANY_JWT,
        client="azp",
        number="",
        marks={"gty": frozenset({"client-credentials"})},
        life_seconds_max=24 * 3600,
    ),
    # version 2.0: application permissions are roles, delegated ones scp; azpacr 1 is a secret, 2 a
    # certificate; a token lives 60 to 90 minutes
    "entra": Profile(
        types=frozenset({"JWT"}),
        client="azp",
        scope="roles",
        scope_list=True,
        number="uti",
        marks={"ver": frozenset({"2.0"}), "azpacr": frozenset({"1", "2"})},
        absent=frozenset({"scp"}),
        life_seconds_max=2 * 3600,
    ),
}
"""``cloud.token_profile`` -> the shape of the tokens."""
