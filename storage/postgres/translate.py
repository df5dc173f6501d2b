"""From a statement of ``storage`` to one of PostgreSQL's that reads and writes the rows of one tenant.

The statements stand once, where they are used, in what SQLite speaks. Each is parsed, every table in it
becomes that table's rows of the tenant, every key gets the tenant as its first part, and what only SQLite
says is said as PostgreSQL, CockroachDB, YugabyteDB and Citus all do. ``constructs.py`` refuses what one of
them does not take. Parameters: ``$1`` is the tenant, the others follow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError

from entgldb.storage.postgres.constructs import check, unsupported
from entgldb.storage.postgres.tables import TENANT, Table, on_postgres, on_side, tables, views

_HINTS: Final = re.compile(r" (INDEXED BY \w+|NOT INDEXED)\b")
"""Which index to take: the planner of PostgreSQL decides that by itself."""
_PLACED: Final = re.compile(r"'[^']*'|\?(\d*)")
"""Texts, in which nothing is meant, and parameters."""
_ONE_OF: Final = re.compile(r"IN \((\$\d+)\)")
_CACHED_MAX: Final = 4_000
_TRUTHS: Final = (exp.Predicate, exp.Connector, exp.Not, exp.Is)
_MARKED: Final = ("body", "value")
"""Columns of text whose values may be ``stored`` otherwise."""


class Rows(NamedTuple):
    """How many rows of parameters are written by one statement."""

    sql: str
    columns: tuple[tuple[int, str], ...]
    """Of a row the parameters that the statement takes, each as one array, and their types."""
    key: tuple[int, ...]
    """Of a row the parameters that must not be twice in one statement; empty where they may."""
    writes_each: bool
    """Whether no row is passed by."""


class Translated(NamedTuple):
    """A statement as PostgreSQL gets it."""

    sql: str
    names: tuple[str, ...] | None
    """The parameters by name, in order; None where they stand in order."""
    texts: tuple[int, ...]
    """Parameters that go into columns of text that may have to hold bytes, too."""
    blobs: tuple[int, ...]
    """The same for columns of bytes, into which such a text may be copied."""
    as_bytes: tuple[int, ...]
    """Columns of the result that are text and are wanted as bytes."""
    marked: tuple[int, ...]
    """Columns of the result that are to be looked at by ``read``."""
    changes: bool
    numbers: bool
    """Whether the result is the number that the row got."""
    rows: Rows | None

    @property
    def returns(self) -> bool:
        return not self.changes or (" RETURNING " in self.sql and not self.numbers)


@lru_cache(maxsize=_CACHED_MAX)
def translate(sql: str, side: int = 0) -> Translated:
    """``side``: that which the tenant shows, see ``on_side``.

    Raises EntglError ``unsupported`` for what has no place on PostgreSQL.
    """
    known = _on_any_side(sql)
    many = known.rows and known.rows._replace(sql=on_side(known.rows.sql, side))
    return known._replace(sql=on_side(known.sql, side), rows=many)


@lru_cache(maxsize=_CACHED_MAX)
def _on_any_side(sql: str) -> Translated:
    return _Statement(sql).translated()


@lru_cache(maxsize=_CACHED_MAX)
def of_any(sql: str, side: int = 0) -> Translated:
    """The same for a statement whose last parameter, in ``IN (?)``, is an array of texts."""
    known = translate(sql, side)
    return known._replace(sql=_ONE_OF.sub(r"= ANY(CAST(\1 AS TEXT[]))", known.sql))


class _Statement:
    """One statement under way."""

    def __init__(self, sql: str) -> None:
        self._names: list[str] = []
        self._placed = 0
        plain = _PLACED.sub(self._place, _HINTS.sub("", sql))
        try:
            self.tree = sqlglot.parse_one(plain, read="sqlite")
        except ParseError as fault:
            raise unsupported(sql, str(fault)) from None
        self.sql = sql
        self._texts: list[int] = []
        self._blobs: list[int] = []
        self._target: Table | None = None
        self._alias = ""
        self._numbers = False
        """Whether the result is the number that the row got."""

    def translated(self) -> Translated:
        tree = self.tree
        self._number_parameters()
        as_bytes, marked = self._results(tree if isinstance(tree, exp.Query) else None)
        self._say_portably()
        for table, name, column in self._aimed():
            if isinstance(column, exp.Parameter) and name in _MARKED:
                aim = self._texts if table.columns[name] == "TEXT" else self._blobs
                aim.append(int(column.this.this) - 2)
        rows = None
        if isinstance(tree, exp.Insert):
            self._take_target(tree.this.this if isinstance(tree.this, exp.Schema) else tree.this)
            self._sources()
            rows = self._insert(tree)
        elif isinstance(tree, exp.Update | exp.Delete):
            self._take_target(tree.this)
            self._sources()
            mine = exp.column(TENANT, self._alias).eq(_parameter(1))
            tree.where(mine, copy=False)
        elif isinstance(tree, exp.Query):
            self._sources()
        else:
            raise unsupported(self.sql, "no statement of rows")
        if not isinstance(tree, exp.Query) and tree.args.get("returning"):
            marked = tuple(
                n for n, one in enumerate(tree.args["returning"].expressions) if one.name in _MARKED
            )
        check(tree, self.sql)
        names = tuple(self._names) or None
        return Translated(
            _text(tree),
            names,
            tuple(self._texts),
            tuple(self._blobs),
            as_bytes,
            marked,
            not isinstance(tree, exp.Query),
            self._numbers,
            rows,
        )

    # --- parameters ------------------------------------------------------------------------------

    def _place(self, found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        self._placed += 1
        return f":n{found[1] or self._placed}"

    def _number_parameters(self) -> None:
        for node in list(self.tree.find_all(exp.Placeholder)):
            name = str(node.this)
            number = int(name[1:]) if re.fullmatch(r"n\d+", name) else self._named(name)
            node.replace(_parameter(number + 1))

    def _named(self, name: str) -> int:
        if name not in self._names:
            self._names.append(name)
        return self._names.index(name) + 1

    # --- what only SQLite says -------------------------------------------------------------------

    def _results(self, query: exp.Query | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Results wanted as bytes, and those that may be stored otherwise."""
        as_bytes, marked = [], []
        while isinstance(query, exp.SetOperation):
            query = query.left
        for place, one in enumerate(query.selects if query is not None else ()):
            inner = one.unalias()
            if isinstance(inner, exp.Cast) and isinstance(inner.this, exp.Column) and _is_blob(inner):
                inner.replace(inner.this)
                as_bytes.append(place)
            elif isinstance(inner, exp.Column) and inner.name in _MARKED:
                marked.append(place)
        return tuple(as_bytes), tuple(marked)

    def _say_portably(self) -> None:
        for node in list(self.tree.walk()):
            if isinstance(node, exp.Ordered):
                # as columns of keys have no nulls, and an index is walked as it is
                node.set("nulls_first", bool(node.args.get("desc")))
            elif isinstance(node, exp.HexString):
                node.replace(exp.cast(exp.Literal.string("\\x" + node.this), "bytea", dialect="postgres"))
            elif isinstance(node, exp.Cast) and _is_blob(node):
                encoding = exp.Literal.string("UTF8")
                node.replace(exp.func("convert_to", node.this.copy(), encoding, dialect="postgres"))
            elif isinstance(node, exp.Sum):
                # PostgreSQL makes a number of any size of it, which Python would read as a Decimal
                if not isinstance(node.parent, exp.Cast):
                    node.replace(exp.cast(node.copy(), "bigint"))
            elif isinstance(node, exp.Join) and node.args.get("on") and node.kind == "CROSS":
                node.set("kind", None)
            elif isinstance(node, exp.Select):
                self._make_numbers(node)

    @staticmethod
    def _make_numbers(select: exp.Select) -> None:
        """A truth that is a result is 0 or 1."""
        if isinstance(select.parent, exp.Exists):
            return
        for one in select.selects:
            inner = one.unalias()
            if isinstance(inner, _TRUTHS):
                inner.replace(exp.cast(exp.paren(inner.copy()), "int"))

    # --- tenants ---------------------------------------------------------------------------------

    def _take_target(self, table: exp.Expr) -> None:
        assert isinstance(table, exp.Table)
        self._target = _known(table, self.sql)
        self._alias = table.alias or table.name
        table.replace(self._aliased())

    def _aliased(self) -> exp.Table:
        assert self._target is not None
        named = exp.to_table(self._target.name, alias=self._alias)
        named.meta["done"] = True
        return named

    def _sources(self) -> None:
        """Each table that is read becomes that table's rows of the tenant."""
        while found := [node for node in self.tree.find_all(exp.Table) if not node.meta.get("done")]:
            for table in found:
                self._become_rows(table)

    def _become_rows(self, table: exp.Table) -> None:
        alias = table.alias or table.name
        view = views().get(table.name) if not table.db or table.db == "main" else None
        if view is not None:
            inner = _Statement(view)
            inner._say_portably()
            table.replace(inner.tree.subquery(alias))  # type: ignore[attr-defined]  # a SELECT
            return
        known = _known(table, self.sql)
        source = exp.to_table(known.name)
        source.meta["done"] = True
        query = exp.select(*(exp.column(one, quoted=False) for one in known.columns)).from_(
            source, copy=False
        )
        query = query.where(exp.column(TENANT).eq(_parameter(1)), copy=False)
        table.replace(query.subquery(alias))

    # --- INSERT ----------------------------------------------------------------------------------

    def _aimed(self) -> list[tuple[Table, str, exp.Expr]]:
        """Columns that are written, with what is written into each."""
        tree = self.tree
        if isinstance(tree, exp.Update):
            table = _known(tree.this, self.sql)
            sets = [one for one in tree.expressions if isinstance(one.this, exp.Column)]
            return [(table, one.this.name, one.expression) for one in sets]
        if isinstance(tree, exp.Insert) and isinstance(tree.expression, exp.Values):
            table = _known(tree.this.this if isinstance(tree.this, exp.Schema) else tree.this, self.sql)
            (row,) = tree.expression.expressions
            pairs = zip(self._columns_of_target(tree, table), row.expressions, strict=True)
            return [(table, name, one) for name, one in pairs]
        return []

    def _insert(self, tree: exp.Insert) -> Rows | None:
        table = self._target
        assert table is not None
        columns = self._columns_of_target(tree, table)
        way = tree.args.pop("alternative", None)
        values = tree.expression
        if isinstance(values, exp.Values):
            (row,) = values.expressions
            given = dict(zip(columns, row.expressions, strict=True))
            if table.numbered and isinstance(given.get(table.numbered), exp.Null):
                del given[table.numbered]
        else:
            given = {}
            values = self._selected(values, columns, table)
        self._conflicts(tree, table, way, columns)
        name = self._aliased()
        if not given:
            self._write_columns(tree, name, [TENANT, *self._with_number(columns, table)])
            tree.set("expression", values)
            return None
        parameters = {
            column: int(one.this.this) for column, one in given.items() if isinstance(one, exp.Parameter)
        }
        rows = None
        if len(parameters) == len(given) == len(set(parameters.values())):
            rows = self._many(tree, name, table, parameters)
        self._write_columns(tree, name, [TENANT, *self._with_number(list(given), table)])
        if table.numbered and table.numbered not in given:
            tree.set("expression", _numbered(table, given))
            if table.numbered == "id" and not tree.args.get("returning"):
                tree.set("returning", exp.Returning(expressions=[exp.column("id", self._alias)]))
                self._numbers = True
        else:
            tree.set("expression", exp.values([(_parameter(1), *given.values())]))
        return rows

    @staticmethod
    def _columns_of_target(tree: exp.Insert, table: Table) -> list[str]:
        schema = tree.this
        return (
            [one.name for one in schema.expressions] if isinstance(schema, exp.Schema) else [*table.columns]
        )

    @staticmethod
    def _with_number(columns: list[str], table: Table) -> list[str]:
        return columns + [table.numbered] * bool(table.numbered and table.numbered not in columns)

    @staticmethod
    def _write_columns(tree: exp.Insert, name: exp.Expr, columns: Sequence[str]) -> None:
        tree.set("this", exp.Schema(this=name, expressions=[exp.to_identifier(one) for one in columns]))

    def _selected(self, query: exp.Expr, columns: list[str], table: Table) -> exp.Expr:
        """The rows that an INSERT ... SELECT writes, with the tenant and a number for each row."""
        assert isinstance(query, exp.Query)
        if isinstance(query, exp.Select):
            for one, column in zip(list(query.selects), columns, strict=True):
                if isinstance(one, exp.Parameter):
                    # by itself it would count as text
                    one.replace(exp.cast(one.copy(), table.columns[column], dialect="postgres"))
        names = [f"c{place}" for place in range(len(columns))]
        inner = query.subquery(
            exp.TableAlias(this=exp.to_identifier("q"), columns=[*map(exp.to_identifier, names)])
        )
        wanted: list[exp.Expr] = [_parameter(1), *(exp.column(one, "q") for one in names)]
        if table.numbered and table.numbered not in columns:
            number = exp.Window(this=exp.RowNumber())
            wanted.append(exp.Add(this=_next_number(table), expression=number))
        return exp.select(*wanted).from_(inner)

    def _conflicts(self, tree: exp.Insert, table: Table, way: str | None, columns: list[str]) -> None:
        conflict = tree.args.get("conflict")
        if way == "IGNORE":
            tree.set("conflict", exp.OnConflict(action=exp.var("DO NOTHING")))
        elif way == "REPLACE":
            sets = [_excluded(one) for one in columns if one not in table.key]
            keys = [exp.to_identifier(one) for one in (TENANT, *table.key)]
            tree.set(
                "conflict",
                exp.OnConflict(
                    conflict_keys=keys,
                    action=exp.var("DO UPDATE" if sets else "DO NOTHING"),
                    expressions=sets,
                ),
            )
        elif conflict is not None and conflict.args.get("conflict_keys"):
            keys = [exp.to_identifier(one.name) for one in conflict.args["conflict_keys"]]
            conflict.set("conflict_keys", [exp.to_identifier(TENANT), *keys])
            where = conflict.args.get("where")
            for part in [*(one.expression for one in conflict.expressions), *([where] if where else [])]:
                for column in [part] if isinstance(part, exp.Column) else part.find_all(exp.Column):
                    if not column.table:
                        column.set("table", exp.to_identifier(self._alias))

    def _many(self, tree: exp.Insert, name: exp.Expr, table: Table, parameters: dict[str, int]) -> Rows:
        """The same for many rows at once: each parameter an array."""
        many = tree.copy()
        names = [f"c{place}" for place in range(len(parameters))]
        arrays = [
            exp.cast(_parameter(place + 2), f"{table.columns[column]}[]", dialect="postgres")
            for place, column in enumerate(parameters)
        ]
        wanted: list[exp.Expr] = [_parameter(1), *(exp.column(one, "q") for one in names)]
        columns, cells = list(parameters), ", ".join(names)
        if table.numbered and table.numbered not in parameters:
            columns.append(table.numbered)
            wanted.append(exp.Add(this=_next_number(table), expression=exp.column("n", "q")))
            cells += ", n"
        self._write_columns(many, name.copy(), [TENANT, *columns])
        many.set("expression", exp.select(*wanted))
        source = f"UNNEST({', '.join(map(_text, arrays))}) WITH ORDINALITY AS q({', '.join(names)}, n)"
        check(many, self.sql)
        sql = _text(many)
        select = _text(many.expression)
        conflict = many.args.get("conflict")
        keys = [one.name for one in conflict.args.get("conflict_keys") or ()] if conflict is not None else []
        order = tuple((number - 2, table.columns[one]) for one, number in parameters.items())
        key = tuple(parameters[one] - 2 for one in keys if one in parameters)
        made = sql.replace(select, f"{select} FROM {source}", 1)
        return Rows(made, order, key, "DO NOTHING" not in made)


def _known(table: exp.Table, sql: str) -> Table:
    known = tables().get(on_postgres(table.name, table.db))
    if known is None:
        raise unsupported(sql, f"no table {table.name}")
    return known


def _parameter(number: int) -> exp.Parameter:
    return exp.Parameter(this=exp.Literal.number(number))


def _is_blob(cast: exp.Cast) -> bool:
    return bool(cast.to.is_type(exp.DataType.Type.VARBINARY, exp.DataType.Type.BLOB))


def _next_number(table: Table) -> exp.Expr:
    """The greatest number of the tenant's rows."""
    return exp.paren(_greatest(table, f"SELECT COALESCE(MAX({table.numbered}), 0)"))


def _numbered(table: Table, given: Mapping[str, exp.Expr]) -> exp.Expr:
    """A row with the next number: by SELECT, as Citus takes no query among VALUES."""
    made = _greatest(table, f"SELECT COALESCE(MAX({table.numbered}), 0) + 1")
    cells = [
        exp.cast(one, table.columns[name], dialect="postgres") if isinstance(one, exp.Parameter) else one
        for name, one in given.items()
    ]
    return made.select(_parameter(1), *cells, *made.selects, append=False, copy=False)


def _greatest(table: Table, select: str) -> exp.Select:
    query = f"{select} FROM {table.name} WHERE {TENANT} = $1"
    parsed = sqlglot.parse_one(query, read="postgres")
    assert isinstance(parsed, exp.Select)
    for one in parsed.find_all(exp.Table):
        one.meta["done"] = True
    return parsed


def _excluded(column: str) -> exp.Expr:
    return exp.EQ(this=exp.column(column), expression=exp.column(column, "excluded"))


def _text(tree: exp.Expr) -> str:
    return tree.sql("postgres")
