"""The description of the interface is true: every route is in it, and generated requests get what it says."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.unit.web.serving import served

pytestmark = pytest.mark.slow
EXAMPLES = int(os.environ.get("ENTGLDB_HTTP_CASES", "100"))
"""Requests of all operations together; a soak has 10,000."""
PATIENCE_SECONDS = 60
"""For one answer; an invitation starts a process."""
STREAMS = "_watch|_live|/changes|/metrics|/backup|_import|_export"
"""Paths whose answers do not end, or are no JSON."""
PAGE = Path(__file__).parents[3] / "docs" / "http.md"


@pytest.fixture(scope="module")
def http(directory: Path) -> Iterator[httpx.Client]:
    with served(directory) as client:
        yield client


def test_every_path_is_described_and_on_the_page(http: httpx.Client) -> None:
    described = http.get("/v1/openapi.json").json()
    page = PAGE.read_text()
    for path, operations in described["paths"].items():
        word = re.sub(r".*[/}]([_a-z]+)$", r"\1", re.sub(r"/\{(key|node|name)\}", "", path))
        assert word in page, path
        for operation in operations.values():
            assert operation["summary"].endswith((".", "``.")), path
            assert set(operation["responses"]) > {"default"} or "metrics" in path, path


@pytest.mark.timeout(max(300, EXAMPLES))
def test_generated_requests_get_what_is_described(http: httpx.Client) -> None:
    import schemathesis
    from schemathesis.specs.openapi import checks

    schema = schemathesis.openapi.from_dict(http.get("/v1/openapi.json").json())
    schema = schema.exclude(path_regex=STREAMS)
    operations = [found.ok() for found in schema.get_all_operations()]
    cases = st.one_of([operation.as_strategy() for operation in operations])
    base = str(http.base_url).rstrip("/")

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    @given(cases)
    def ask(case: schemathesis.Case) -> None:
        answer = case.call(base_url=base, timeout=PATIENCE_SECONDS)
        assert answer.status_code < 500 or answer.status_code in (503, 504), answer.text
        case.validate_response(
            answer,
            checks=[
                checks.content_type_conformance,
                checks.response_schema_conformance,
                checks.status_code_conformance,
            ],
        )

    ask()
