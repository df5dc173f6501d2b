"""Notes with full-text search, in one process: no server, no set-up, one SQLite file.

    python notes.py DIR add "Tea with Grace" "Tuesday at four, bring the plans"
    python notes.py DIR find "grac* -tuesday"
    python notes.py DIR tag KEY garden
    python notes.py DIR list

The same directory can be a node later (`entgldb init -d DIR`, `entgldb start -d DIR`): then the notes are on
every machine of yours, and this program goes on with `entgldb.connect` in place of `entgldb.open`.
"""

from __future__ import annotations

import sys
import time

import entgldb


def opened(directory: str) -> entgldb.Database:
    """The notes, with an index of their words."""
    db = entgldb.open(directory)
    db["notes"].create_index(["title", "text"], text=True)
    db["notes"].create_index("tags")
    return db


def add(db: entgldb.Database, title: str, text: str) -> str:
    """A new note; its key sorts by time."""
    return db["notes"].insert({"title": title, "text": text, "tags": [], "at": int(time.time())}).key


def find(db: entgldb.Database, words: str) -> None:
    """The best notes for some words, the words marked."""
    for note in db["notes"].find({"$text": words}, limit=20, highlight=("[", "]")):
        print(note.key, note["title"], "|", note.snippet)


def tag(db: entgldb.Database, key: str, word: str) -> None:
    """One more tag, once."""
    if db["notes"].update(key, {"$addToSet": {"tags": word}}) is None:
        sys.exit(f"no note {key}")


def list_all(db: entgldb.Database) -> None:
    """All notes, the newest first, and how many each tag has."""
    for note in db["notes"].find(sort="-at"):
        print(note.key, note["title"], *note["tags"])
    for word in db["notes"].distinct("tags"):
        print(f"{word}: {db['notes'].count({'tags': word})}")


def main(arguments: list[str]) -> None:
    """One verb on the notes of a directory."""
    match arguments:
        case [directory, "add", title, text]:
            with opened(directory) as db:
                print(add(db, title, text))
        case [directory, "find", words]:
            with opened(directory) as db:
                find(db, words)
        case [directory, "tag", key, word]:
            with opened(directory) as db:
                tag(db, key, word)
        case [directory, "list"]:
            with opened(directory) as db:
                list_all(db)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
