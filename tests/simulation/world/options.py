"""The options that one seed stands for; printed with it, so that a failure can be understood at a glance."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from random import Random

from entgldb.launch.testing.network import Weather
from entgldb.messages.limits import ENTRIES_PER_BATCH_MAX

DAY_HOURS = 24.0
"""A retention that no run lasts as long as."""
SHAPES = ("mesh", "mesh", "line", "star")


@dataclass(frozen=True)
class Options:
    """Drawn from the seed."""

    lan: int
    cloud: bool
    shape: str
    """The shape of the LAN: a mesh (everybody reaches everybody), a line (relays only), or a star."""
    loss: float
    duplication: float
    reordering: float
    latency: float
    """Seconds."""
    keys: int
    think: float
    """Seconds between two requests of a client, on average."""
    grain_ms: int
    """Step of the wall clocks: coarse ones make equal stamps."""
    wild_clocks: bool
    """Whether clocks jump beyond the drift bound, so that entries are held."""
    batch_entries: int = ENTRIES_PER_BATCH_MAX
    """Small ones cut transactions in two and fill the credit window."""
    retention_hours: float = DAY_HOURS
    """So short in some seeds that logs are pruned and tombstones collected in the midst of it all."""
    lane_loss: float = 0.0
    send_refusal: float = 0.0
    """Chances that what one actor tells another, or a link, finds a full queue."""
    retire: bool = False
    """Whether a node is retired while it is away, and comes back all the same."""
    bad_times: bool = False
    """Whether clocks are set by a month, and boards boot in 1970."""

    pauses: bool = False
    """Whether operators pause the links of a node now and then; only seeds of its own test do."""

    bandwidth: float = math.inf
    """Bytes a second of each way of a link in some seeds, in good weather too,"""
    delay: float = 0.0
    """which may have seconds of delay then."""

    @classmethod
    def draw(cls, random: Random) -> Options:
        """Every seed has at least three nodes."""
        cloud = random.random() < 0.6
        lan = random.choice((3, 3, 4)) if not cloud else random.choice((2, 3, 3))
        made = cls(
            lan,
            cloud,
            random.choice(SHAPES),
            random.choice((0.0, 0.02, 0.1, 0.2)),
            random.choice((0.0, 0.02, 0.2)),
            random.choice((0.0, 0.05, 0.3)),
            random.choice((0.001, 0.01, 0.05, 0.15)),
            random.choice((3, 10, 40)),
            random.choice((0.15, 0.25, 0.35)),
            random.choice((1, 10, 100)),
            random.random() < 0.2,
            random.choice((ENTRIES_PER_BATCH_MAX, 5, 2)),
        )
        forgets = random.random() < 0.5
        full_queues = random.random() < 0.25
        slow = random.random() < 0.2
        return replace(
            made,
            lane_loss=random.choice((0.005, 0.05)) if full_queues else 0.0,
            send_refusal=random.choice((0.001, 0.01)) if full_queues else 0.0,
            bandwidth=random.choice((15_000.0, 50_000.0, 250_000.0, 1_000_000.0)) if slow else math.inf,
            delay=random.choice((0.0, 0.15, 0.5, 2.0)) if slow else 0.0,
            retention_hours=random.choice((0.0005, 0.002)) if forgets else DAY_HOURS,
            # the others must reach each other without it, and what it wrote unseen not reach them by a cloud
            retire=forgets
            and not cloud
            and not made.wild_clocks
            and made.shape == "mesh"
            and random.random() < 0.7,
        )

    def weather(self) -> Weather:
        """The treatment of frames while there is trouble."""
        return Weather(self.loss, self.duplication, self.reordering, self.latency, self.delay, self.bandwidth)

    def calm(self) -> Weather:
        """The line as it is in good weather."""
        return Weather(delay=self.delay, bandwidth=self.bandwidth)
