"""A shop: two tills sell from one stock, also while the network is down, and a back office looks on.

    python shop_counter.py               the whole story on this machine, in some seconds
    python shop_counter.py till DIR      a till at the node in DIR; type: apple 2 pear 1
    python shop_counter.py office DIR    the stock as it is, for as long as you look

The stock is a counter in a collection that merges: each sale adds a negative number. Two tills that are cut
off from each other sell from the same number, and end with the right one when they meet. It may fall below
zero: no database can keep two tills that cannot speak from selling the last apple twice. The office sees it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import entgldb
from entgldb.messages.client import Isolate

TILLS = ("till-1", "till-2")


def open_shop(db: entgldb.Database) -> None:
    """Once, on any node: sales of two tills at one moment add up instead of replacing each other."""
    db.set_conflict_rule("stock", "merge")


def receive(db: entgldb.Database, article: str, number: int) -> None:
    """Goods have come in."""
    db["stock"].update(article, {"$inc": {"on_hand": number}}, upsert=True)


def sell(db: entgldb.Database, till: str, bill: dict[str, int]) -> None:
    """One sale: the bill and what leaves the stock are one transaction, here and on every other node."""
    with db.batch() as batch:
        batch["sales"].insert({"till": till, "bill": bill})
        for article, number in bill.items():
            batch["stock"].update(article, {"$inc": {"on_hand": -number}}, upsert=True)


def on_hand(db: entgldb.Database) -> dict[str, int]:
    """Article and number, as this node knows it."""
    return {one.key: one["on_hand"] for one in db["stock"].find()}


def till(directory: str) -> None:
    """Sell what is typed, a bill a line."""
    with entgldb.connect(directory) as db:
        for line in sys.stdin:
            words = line.split()
            try:
                bill = {article: int(number) for article, number in zip(words[::2], words[1::2], strict=True)}
            except ValueError:
                print("type articles and numbers: apple 2 pear 1")
                continue
            sell(db, directory, bill)
            print({article: on_hand(db)[article] for article in bill})


def office(directory: str) -> None:
    """Show the stock, and again whenever it has changed."""
    with entgldb.connect(directory) as db:
        for rows in db["stock"].live(sort="on_hand"):
            print({one.key: one["on_hand"] for one in rows}, flush=True)


def story(folder: Path) -> None:
    """Three nodes; the tills are cut off, sell on, and meet again."""
    names = ("office", *TILLS)
    key = folder / "office" / "cluster.key"
    ports: list[int] = []
    for name in names:
        options = (
            [] if name == "office" else ["--cluster-key-file", str(key), "--seed", f"127.0.0.1:{ports[0]}"]
        )
        entgldb_verb("init", "--dir", str(folder / name), "--node-id", name, "--host", "127.0.0.1", *options)
        ports.append(port_of(folder / name))
    with ExitStack() as stack:
        nodes = {name: stack.enter_context(entgldb.launch(folder / name)) for name in names}
        dbs = {name: stack.enter_context(entgldb.connect(folder / name)) for name in names}
        open_shop(dbs["office"])
        receive(dbs["office"], "apple", 100)
        dbs["office"].wait_synced(20, peers=2)
        print("in the morning:", on_hand(dbs["till-1"]))

        for name in TILLS:
            nodes[name].ask("sync", Isolate(seconds=600))
        for number in range(1, 6):
            sell(dbs["till-1"], "till-1", {"apple": number})
            sell(dbs["till-2"], "till-2", {"apple": 2 * number})
        print("cut off, till-1 sees", on_hand(dbs["till-1"]), "and till-2 sees", on_hand(dbs["till-2"]))

        for name in TILLS:
            nodes[name].ask("sync", Isolate(seconds=0))
        for name in TILLS:
            dbs[name].wait_synced(30, peers=2)
        print("in the evening, everybody sees", *[on_hand(dbs[name]) for name in names])
        print("sales:", dbs["office"]["sales"].count())


def entgldb_verb(*arguments: str) -> None:
    """Run one verb of the command line."""
    subprocess.run([sys.executable, "-m", "entgldb", *arguments], check=True, stdout=subprocess.DEVNULL)


def port_of(directory: Path) -> int:
    """The port that ``init`` has chosen for a node."""
    import tomllib

    settings = tomllib.loads((directory / "entgldb.toml").read_text())
    return int(settings["network"]["listen"].rpartition(":")[2])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["till", directory]:
            till(directory)
        case ["office", directory]:
            office(directory)
        case []:
            with tempfile.TemporaryDirectory() as made:
                story(Path(made))
        case _:
            sys.exit(__doc__)
