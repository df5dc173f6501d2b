"""Tokens of a real authority: keys are fetched once, found when they rotate, refused when withdrawn."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Iterator

import pytest

from entgldb.actors.oauth.client import fetch_token
from entgldb.actors.oauth.http import AuthorityError
from entgldb.actors.oauth.resource_server import JwtChecker, TokenError, TokenVerifier
from entgldb.actors.side_loop import SideLoop
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import TokenChecked
from entgldb.messages.remote_peers import OAuth2
from entgldb.messages.secret import Secret
from entgldb.messages.settings import SyncSettings
from tests.unit.actors.oauth.authority_process import AuthorityProcess
from tests.unit.actors.oauth.test_jwt import RULES, headed


@pytest.fixture(scope="module")
def process() -> Iterator[AuthorityProcess]:
    with AuthorityProcess("gw:s3cret", "other:s3cret") as made:
        yield made


@pytest.fixture
def authority(process: AuthorityProcess) -> AuthorityProcess:
    process.control(mode="ok", lifetime_s=300)
    return process


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def real_token(authority: AuthorityProcess, client_id: str = "gw", audience: str = "cloud") -> str:
    return (await fetch_token(OAuth2(authority.url, client_id, audience=audience), Secret("s3cret"))).text


def verifier_of(authority: AuthorityProcess, clock: Clock) -> TokenVerifier:
    return TokenVerifier(authority.url, RULES._replace(issuer=authority.url), clock=clock)


async def refused(verifier: TokenVerifier, text: str) -> str:
    with pytest.raises(TokenError) as fault:
        await verifier.verify(text)
    return fault.value.text


def test_real_tokens_share_one_fetch_of_keys(authority: AuthorityProcess) -> None:
    async def run() -> None:
        verifier = verifier_of(authority, Clock())
        text = await real_token(authority)
        await asyncio.gather(*(verifier.verify(text) for _ in range(10)))
        assert verifier.fetches == 1
        assert "not on the list" in await refused(verifier, await real_token(authority, "other"))
        assert "Audience" in await refused(verifier, await real_token(authority, audience="other"))

    asyncio.run(run())


def test_a_rotated_key_is_found_and_a_flood_of_unknown_names_is_not(authority: AuthorityProcess) -> None:
    async def run() -> None:
        clock = Clock()
        verifier = verifier_of(authority, clock)
        old = await real_token(authority)
        await verifier.verify(old)
        authority.control(rotate=True)
        new = await real_token(authority)
        await refused(verifier, new)
        clock.now += 5
        await verifier.verify(new)
        await verifier.verify(old)  # the old key is still published
        before = authority.control()["requests"]
        for serial in range(50):
            await refused(verifier, headed(kid=f"flood-{serial}"))
        assert verifier.fetches == 2
        assert authority.control()["requests"] == before

    asyncio.run(run())


def test_a_withdrawn_key_is_refused_within_a_minute(authority: AuthorityProcess) -> None:
    async def run() -> None:
        clock = Clock()
        verifier = verifier_of(authority, clock)
        text = await real_token(authority)
        await verifier.verify(text)
        authority.control(withdraw=True)
        clock.now += 59
        await verifier.verify(text)
        clock.now += 1
        await refused(verifier, text)

    asyncio.run(run())


def test_without_keys_the_authority_is_blamed_and_asked_once_a_second(authority: AuthorityProcess) -> None:
    async def run() -> None:
        clock = Clock()
        verifier = verifier_of(authority, clock)
        text = await real_token(authority)
        authority.control(mode="500")
        for _ in range(3):
            with pytest.raises(AuthorityError) as fault:
                await verifier.verify(text)
            assert fault.value.reason is Reason.AUTHORITY_ERROR
        assert verifier.fetches == 1
        authority.control(mode="ok")
        clock.now += 1
        await verifier.verify(text)

    asyncio.run(run())


def test_the_checker_posts_one_outcome_with_its_ticket(authority: AuthorityProcess) -> None:
    settings = SyncSettings(
        "cloud", "/nonexistent", "cloud", "", "127.0.0.1:0", authority=authority.url, audience="cloud"
    )
    loop = SideLoop("test")
    loop.start()
    try:
        checker = JwtChecker(loop, settings)
        text = asyncio.run(real_token(authority))
        checker.check(3, 9, text)
        good = next_outcome(loop)
        assert (good.link, good.ticket, good.client_id, good.reason) == (3, 9, "gw", "")
        assert 0 < good.expires_at - time.time() <= 300
        checker.check(4, 10, text + "x")
        bad = next_outcome(loop)
        assert (bad.link, bad.ticket, bad.client_id, bad.expires_at) == (4, 10, "", 0.0)
        assert bad.reason == Reason.TOKEN_REFUSED.value
    finally:
        loop.stop()


def next_outcome(loop: SideLoop) -> TokenChecked:
    ready, _, _ = select.select([loop], [], [], 20)
    assert ready, "nothing was posted"
    [(_, message)] = loop.drain()
    assert isinstance(message, TokenChecked)
    return message
