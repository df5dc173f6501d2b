"""Where a stream of changes begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request

from entgldb.messages.errors import InvalidError
from entgldb.web.verbs.feeds import Feeds


class Followed:
    """A database, and a collection of it, of which it is noted from where it was followed."""

    def __init__(self) -> None:
        self.since: list[str | None] = []
        self.threads = self

    async def token(self) -> str:
        return "the-token-of-now"

    def changes(self, since: str | None, **how: Any) -> None:
        self.since.append(since)

    def watch(self, filter: Any, *, since: str | None) -> None:
        self.since.append(since)

    async def run(self, work: Callable[[], object]) -> None:
        """The token is looked at before the answer begins: by test_http, on a file."""

    def __getitem__(self, name: str) -> Followed:
        return self


@pytest.mark.parametrize("verb", ["changes", "watch"])
def test_now_is_before_the_answer_begins(verb: str) -> None:
    db = Followed()
    feeds: Any = Feeds(db)  # type: ignore[arg-type]  # the part that is asked
    for query, header in ((b"since=now", None), (b"since=a", None), (b"since=a", b"b"), (b"", None)):
        headers = [] if header is None else [(b"last-event-id", header)]
        scope = {"type": "http", "method": "GET", "query_string": query, "headers": headers}
        asyncio.run(getattr(feeds, verb)(Request({**scope, "path_params": {"collection": "c"}})))
    # nothing of the stream was read yet
    assert db.since == ["the-token-of-now", "a", "b", None]


def test_a_token_is_short() -> None:
    scope = {"type": "http", "method": "GET", "query_string": b"since=" + b"x" * 201, "headers": []}
    with pytest.raises(InvalidError, match="no token"):
        asyncio.run(Feeds(Followed()).changes(Request(scope)))  # type: ignore[arg-type]  # as above
