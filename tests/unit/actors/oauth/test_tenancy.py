"""The tenant of a client follows from its verified token and the configuration."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entgldb.actors.oauth.resource_server import Rules, TokenError, verify
from entgldb.actors.oauth.tenancy import BY_CLAIM, BY_CLIENT, BY_MAP, Naming, name_of
from entgldb.messages.errors import Reason
from entgldb.messages.tenants import TENANT, check_tenant
from tests.unit.actors.oauth.test_jwt import ISSUER, KEYS, RULES, token

PLAIN = ["shop-1", "a", "9.b_c", "x" * 64]
OTHER = ["", ".", "..", "a/b", "-x", "x" * 65, "shop 1", "shop@x", "a~" + "0" * 32, "ä", "a\n"]


def named(naming: Naming, **changes: object) -> tuple[str, str]:
    """Tenant and issuer of a client with a good token."""
    accepted = verify(token(**changes), KEYS, RULES._replace(naming=naming))
    return accepted.tenant, accepted.issuer


@pytest.mark.parametrize("text", PLAIN)
def test_a_client_id_that_can_be_a_name_is_the_name(text: str) -> None:
    assert name_of(text) == check_tenant(text) == text


@pytest.mark.parametrize("text", OTHER)
def test_of_any_other_text_a_name_is_made_that_can_be_a_folder_and_is_no_plain_one(text: str) -> None:
    made = name_of(text)
    assert TENANT.fullmatch(made)
    assert "~" in made
    assert made not in (".", "..")
    assert "/" not in made


@given(st.text(max_size=80), st.text(string.ascii_letters + "_~/@", max_size=80))
def test_two_texts_never_have_one_name(one: str, two: str) -> None:
    assert (name_of(one) == name_of(two)) == (one == two)
    assert TENANT.fullmatch(name_of(one))


def test_a_tenant_is_named_by_client_claim_or_map_and_comes_with_its_issuer() -> None:
    assert named(Naming(BY_CLIENT)) == ("gw", ISSUER)
    assert named(Naming(BY_CLAIM, "shop"), shop="north") == ("north", ISSUER)
    assert named(Naming(BY_MAP, names={"gw": "south"})) == ("south", ISSUER)


def test_without_tenants_there_is_none() -> None:
    accepted = verify(token(), KEYS, RULES)
    assert accepted.tenant == ""


@pytest.mark.parametrize("value", [None, 5, "", ["north"], {"a": 1}])
def test_a_claim_that_names_nobody_is_refused(value: object) -> None:
    with pytest.raises(TokenError, match="shop") as caught:
        named(Naming(BY_CLAIM, "shop"), shop=value)
    assert caught.value.reason is Reason.NO_TENANT


def test_a_client_that_the_map_does_not_have_is_refused() -> None:
    with pytest.raises(TokenError, match="tenant_map") as caught:
        named(Naming(BY_MAP, names={"other": "south"}))
    assert caught.value.reason is Reason.NO_TENANT


def test_a_token_of_another_issuer_has_no_tenant_here() -> None:
    rules = Rules("https://other.example", "cloud", naming=Naming(BY_CLIENT))
    with pytest.raises(TokenError):
        verify(token(), KEYS, rules)
