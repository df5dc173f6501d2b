"""What NodeActor knows of one of the actors it supervises."""

from __future__ import annotations

from entgldb.messages.schema import Json


class Child:
    """What is known of one child."""

    def __init__(self) -> None:
        self.up = False
        self.pid = 0
        self.ready_at = 0.0
        self.deaths_in_a_row = 0
        self.restarts = 0
        self.facts: dict[str, Json] = {}
