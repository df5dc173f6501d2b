"""The SQL of an index: its table, the triggers that keep it, and the statements that fill it.

A trigger is the one place that no way into ``_entgldb_documents`` can forget: own writes, applied entries, a
snapshot's merge, repair. It finds the entries of a document by the document's number, so that a row that was
damaged leaves none behind. Only a writer carries triggers out: functions of ours in them hinder no reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from entgldb.storage.rules.field_path import extract, kind
from entgldb.storage.rules.indexing.definition import Definition
from entgldb.storage.rules.indexing.entries import LARGE, ODD, WHOLE, plan_of

WORDS: Final = "unicode61 remove_diacritics 2"
"""The tokenizer of indexes of words: letters of any script, without case and accents."""
PREFIXES: Final = "2 3"
"""Lengths of beginnings of words that are found at once."""
_EVENTS: Final = ("put", "set", "gone")
_NEW: Final = "(SELECT NEW.id AS id, NEW.key AS key, NEW.body AS body) d WHERE body IS NOT NULL"
_OLD: Final = "(SELECT OLD.id AS id, OLD.key AS key, OLD.body AS body) d WHERE json_valid(body)"


def table(number: int) -> str:
    """The table of an index: ``doc`` numbers the document, ``n`` its entries, ``v0`` and on are the values.

    ``k`` is the key of the document; ``u`` what no other may share, NULL in an index that is not unique.
    """
    return f"_entgldb_ix_{number}"


def words(number: int | str) -> str:
    """The table of an index of words."""
    return f"_entgldb_text_{number}"


def statements_to_create(number: int, definition: Definition) -> Iterator[str]:
    """Table and triggers, empty: whatever is written from now on stands in it."""
    yield from (_create_words if definition.text else _create_table)(number, definition)
    collection = definition.collection
    name = words(number) if definition.text else table(number)
    put, gone = (_word_statements if definition.text else _entry_statements)(number, definition)
    whens = (
        f"INSERT ON _entgldb_documents WHEN NEW.collection = '{collection}'",
        f"UPDATE OF body ON _entgldb_documents WHEN NEW.collection = '{collection}'"
        " AND NEW.body IS NOT OLD.body",
        f"DELETE ON _entgldb_documents WHEN OLD.collection = '{collection}'",
    )
    for event, when, carried_out in zip(_EVENTS, whens, (put, [*gone, *put], gone), strict=True):
        yield f"CREATE TRIGGER {name}_{event} AFTER {when} BEGIN {'; '.join(carried_out)}; END"


def statements_to_drop(number: int, definition: Definition) -> Iterator[str]:
    """All that there is of an index goes."""
    name = words(number) if definition.text else table(number)
    for event in _EVENTS:
        yield f"DROP TRIGGER IF EXISTS {name}_{event}"
    yield f"DROP TABLE IF EXISTS {name}"
    if definition.text:
        yield f"DROP VIEW IF EXISTS {name}_of"


def statements_to_fill(number: int, definition: Definition) -> tuple[str, ...]:
    """Take in the documents whose keys lie in a range; the key before it and its last are bound to each.

    Those that a trigger has brought already stay as they are.
    """
    rows = range_of(definition)
    if definition.text:
        name = words(number)
        unknown = f"NOT EXISTS (SELECT 1 FROM {name}_docsize WHERE id = d.id)"  # noqa: S608 -- a number
        return (
            f"INSERT INTO {name} (rowid, {columns_of(definition)})"  # noqa: S608 -- checked names
            f" SELECT id, {texts_of(definition)} FROM {rows} AND {unknown}",
        )
    return tuple(f"INSERT OR IGNORE INTO {table(number)} {one}" for one in selects(definition, rows))


def range_of(definition: Definition) -> str:
    """The documents of the collection whose keys lie in a range, for ``selects``."""
    # a body that is no JSON any more is a finding of verify, and must not stop all others
    return (
        f"_entgldb_documents d WHERE collection = '{definition.collection}' AND d.key > ? AND d.key <= ?"
        " AND body IS NOT NULL AND json_valid(body)"
    )


def selects(definition: Definition, rows: str) -> Iterator[str]:
    """The entries of some documents, as queries. ``rows``: where ``id``, ``key`` and ``body`` of ``d`` are,
    with a WHERE."""
    plan = plan_of(definition.fields, unique=definition.unique, where=definition.where).replace("'", "''")
    source, _, conditions = rows.partition(" WHERE ")
    parts = ", ".join(f"json_extract(e.value,'$[{place + 2}]')" for place in range(len(definition.paths)))
    several = (
        f"SELECT d.id, json_extract(e.value,'$[0]'), d.key, json_extract(e.value,'$[1]'), {parts}"  # noqa: S608 -- checked names
        f" FROM {source} JOIN json_each(entgldb_entries('{plan}',body)) e WHERE {conditions}"
    )
    if definition.unique or definition.where:
        yield several
        return
    has_array = " OR ".join(f"{kind(start)} IS 'array'" for start in _ways(definition))
    values = ", ".join(map(_value, definition.fields))
    one = f"NULL, {values} FROM {source} WHERE {conditions} AND NOT ({has_array})"
    yield f"SELECT d.id, {WHOLE}, d.key, {one}"
    yield f"SELECT d.id, {ODD}, d.key, {one} AND ({' OR '.join(map(_is_odd, definition.fields))})"
    yield f"{several} AND ({has_array})"


def _create_table(number: int, definition: Definition) -> Iterator[str]:
    name = table(number)
    values = [f"v{place}" for place in range(len(definition.paths))]
    yield (
        f"CREATE TABLE {name} (doc INTEGER NOT NULL, n INTEGER NOT NULL, k TEXT NOT NULL, u TEXT,"
        f" {', '.join(values)}, PRIMARY KEY (doc, n)) WITHOUT ROWID"
    )
    # keys go the way of the last field: that is how orders end, forwards and backwards
    falls = (*definition.falls, definition.falls[-1])
    order = ", ".join(f"{one} DESC" if fall else one for one, fall in zip((*values, "k"), falls, strict=True))
    yield f"CREATE INDEX {name}_v ON {name} ({order})"
    yield f"CREATE INDEX {name}_n ON {name} (n) WHERE n <> 0"
    if definition.unique:
        yield f"CREATE INDEX {name}_u ON {name} (u) WHERE u IS NOT NULL"


def _create_words(number: int, definition: Definition) -> Iterator[str]:
    name = words(number)
    named = ", ".join(f"{extract(parts)} AS c{place}" for place, parts in enumerate(definition.fields))
    yield (
        f"CREATE VIEW {name}_of AS SELECT id, {named} FROM _entgldb_documents"  # noqa: S608 -- checked names
        f" WHERE collection = '{definition.collection}' AND body IS NOT NULL"
    )
    yield (
        f"CREATE VIRTUAL TABLE {name} USING fts5({columns_of(definition)}, content='{name}_of',"
        f" content_rowid='id', tokenize='{WORDS}', prefix='{PREFIXES}')"
    )


def _entry_statements(number: int, definition: Definition) -> tuple[list[str], list[str]]:
    """The statements for a put, and those for a delete."""
    name = table(number)
    put = [f"INSERT OR REPLACE INTO {name} {one}" for one in selects(definition, _NEW)]
    return put, [f"DELETE FROM {name} WHERE doc = OLD.id"]  # noqa: S608 -- a number


def _word_statements(number: int, definition: Definition) -> tuple[list[str], list[str]]:
    name, columns, texts = words(number), columns_of(definition), texts_of(definition)
    put = f"INSERT INTO {name} (rowid, {columns}) SELECT id, {texts} FROM {_NEW}"  # noqa: S608 -- checked names
    # what does not stand in it yet must not be taken out of it
    gone = (
        f"INSERT INTO {name} ({name}, rowid, {columns}) SELECT 'delete', id, {texts} FROM {_OLD}"  # noqa: S608 -- checked names
        f" AND EXISTS (SELECT 1 FROM {name}_docsize WHERE id = d.id)"
    )
    return [put], [gone]


def _value(parts: tuple[str, ...]) -> str:
    """A field's value as the table has it: arrays and objects by their first letter."""
    return f"CASE {kind(parts)} WHEN 'array' THEN '[' WHEN 'object' THEN '{{' ELSE {extract(parts)} END"


def _is_odd(parts: tuple[str, ...]) -> str:
    value = extract(parts)
    large = f"{value} >= {LARGE}.0 OR {value} <= -{LARGE}.0"
    return f"{kind(parts)} = 'object' OR ({kind(parts)} IN ('integer','real') AND ({large}))"


def _ways(definition: Definition) -> dict[tuple[str, ...], None]:
    """All paths on the way to the fields, and the fields."""
    return dict.fromkeys(parts[:end] for parts in definition.fields for end in range(1, len(parts) + 1))


def columns_of(definition: Definition) -> str:
    """The columns of an index of words."""
    return ", ".join(f"c{place}" for place in range(len(definition.paths)))


def texts_of(definition: Definition) -> str:
    """The texts in them, as SQL on the body."""
    return ", ".join(map(extract, definition.fields))
