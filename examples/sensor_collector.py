"""Sensors that write much and are kept for a while, and a live view of what is too hot.

    python sensor_collector.py DIR          collect until Ctrl-C
    python sensor_collector.py DIR 3        for three seconds, then until everything has expired

Each reading is a document that expires by itself. The view is a live query: it is told again when a reading
passes the limit, comes back, or expires, and the query runs for none of the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys

import entgldb.aio

KEPT_SECONDS = 3
"""A reading is shown for so long; in a real plant it would be days."""
PAUSE_SECONDS = 0.05
HOT = {"celsius": {"$gte": 75}}
SENSORS = ("boiler", "press", "oven")


async def measure(db: entgldb.aio.Database, sensor: str) -> None:
    """A sensor: many writes of all sensors are in flight, and share the commits of the file."""
    drawn = random.Random(sensor)  # noqa: S311 -- this stands for a thermometer
    while True:
        await db["readings"].insert({"sensor": sensor, "celsius": drawn.randint(60, 80)})
        await asyncio.sleep(PAUSE_SECONDS)


async def view(db: entgldb.aio.Database) -> None:
    """Show what is too hot, and again whenever that has changed."""
    async for hot in db["readings"].live(HOT, sort="-celsius", limit=5):
        print("hot:", ", ".join(f"{one['sensor']} {one['celsius']}" for one in hot) or "nothing", flush=True)


async def summary(db: entgldb.aio.Database) -> None:
    """What each sensor has shown of late."""
    stages = [
        {"$group": {"_id": "$sensor", "highest": {"$max": "$celsius"}, "readings": {"$count": {}}}},
        {"$sort": "_id"},
    ]
    for row in await db["readings"].aggregate(stages):
        print(f"{row['_id']}: {row['readings']} readings, at most {row['highest']} degrees")


async def collect(directory: str, seconds: float | None) -> None:
    """All sensors and the view, in one process, on one file."""
    async with entgldb.aio.open(directory) as db:
        await db.set_expiry("readings", KEPT_SECONDS)
        await db["readings"].create_index("celsius")
        tasks = [asyncio.create_task(measure(db, sensor)) for sensor in SENSORS]
        shown = asyncio.create_task(view(db))
        await asyncio.sleep(3600 * 24 * 365 if seconds is None else seconds)
        await summary(db)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while await db["readings"].count():
            await asyncio.sleep(PAUSE_SECONDS)
        print("everything has expired")
        shown.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await shown


if __name__ == "__main__":
    match sys.argv[1:]:
        case [directory]:
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(collect(directory, None))
        case [directory, seconds]:
            asyncio.run(collect(directory, float(seconds)))
        case _:
            sys.exit(__doc__)
