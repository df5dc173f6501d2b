"""Which index finds the documents of a query, and what is left to be asked of each.

An index gives at least the documents that match: where its entries cannot tell exactly, the condition is
asked of the documents, too. Where it has one entry a document, and all of them are plain, it gives their
order, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from entgldb.storage.documents.filter import COMPARE, bound, end_of, is_ambiguous, mark
from entgldb.storage.indexes.catalogue import ROWS, Index, read_rows
from entgldb.storage.indexes.tables import table
from entgldb.storage.rules.filtering.nodes import Compared, Equal, Every, Field, Node, Part, Pattern, Some
from entgldb.storage.rules.filtering.parser import parse_filter
from entgldb.storage.rules.filtering.values import exactly
from entgldb.storage.rules.indexing.entries import LARGE, ODD, UNCOUNTED, is_large

Ask = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Has a statement answered by the file."""
BRANCHES_MAX: Final = 100
"""Alternatives of one ``$or`` that are found by indexes; more are found by a walk."""
_IS: Final = "?C = "
_UNCOUNTED: Final = f" UNION ALL SELECT doc FROM {{}} WHERE n <> 0 AND n = {UNCOUNTED}"  # noqa: S608 -- constants
"""Documents that every query looks at."""
_LARGER: Final = f"?C >= {LARGE}.0 AND ?C < ''"
_SMALLER: Final = f"?C <= -{LARGE}.0"


class Bound(NamedTuple):
    """A condition on one column of an index; ``?`` stands for the column."""

    sql: str
    values: tuple[Any, ...]
    exact: bool
    """Whether all that meet it match, so that nobody has to look at the document."""


class Way(NamedTuple):
    """How the documents of a query are found."""

    by: Index | None
    """None: all documents of the collection are walked."""
    source: str
    """The text behind FROM, with a WHERE; more conditions follow behind an AND."""
    values: tuple[Any, ...]
    rest: Node
    """The part of the filter that is still to be asked of each document."""
    columns: Mapping[tuple[str, ...], str]
    """Fields whose values the index has in their order; the key of the document has the path ``()``."""
    counts: str = ""
    """The same without the documents, where nothing is to be asked of them: it counts."""
    sorts: bool = False
    """Whether ``counts`` is there, and not in the order that is asked for."""
    branches: tuple[str, ...] = ()
    """Names of the indexes of alternatives, where several are used."""


class _Match(NamedTuple):
    """The use of an index for a query."""

    by: Index
    bounds: tuple[tuple[int, Bound], ...]
    """Column and condition, from the first on."""
    used: tuple[Node, ...]
    """Conditions of the filter that need not be asked again."""
    equal: int
    """Columns with one value each."""
    ordered: bool
    """Whether it gives the order that is asked for."""

    def conditions(self) -> tuple[str, tuple[Any, ...]]:
        """On the columns of the index, and what is bound in them."""
        sql = " AND ".join(bound.sql.replace("?C", f"v{column}") for column, bound in self.bounds)
        return sql, tuple(value for _, bound in self.bounds for value in bound.values)

    @property
    def once(self) -> bool:
        """Whether each document has at most one entry that meets the conditions, arrays or not."""
        one = len(self.bounds) == len(self.by.definition.paths) == 1
        return one and self.bounds[0][1].exact and self.bounds[0][1].sql.startswith(_IS)

    @property
    def by_key(self) -> bool:
        """Whether the entries that are met stand in the order of keys."""
        return len(self.bounds) == len(self.by.definition.paths) and all(
            bound.sql.startswith(_IS) for _, bound in self.bounds
        )

    @property
    def worth(self) -> tuple[int, int, bool, int]:
        return (self.equal, len(self.bounds), self.ordered, -len(self.by.definition.paths))


class KnownIndexes:
    """The indexes of a file, remembered while nobody makes, drops or builds one."""

    def __init__(self) -> None:
        self._schema = -1
        self._known: dict[str, list[Index]] = {}

    def of(self, ask: Ask, collection: str) -> list[Index]:
        """Those of a collection."""
        ((schema,),) = ask("PRAGMA schema_version", ())
        if schema != self._schema:
            self._known = {}
            found = read_rows(ask(ROWS, ()))
            for index in found:
                self._known.setdefault(index.definition.collection, []).append(index)
            # that one has been built changes no table
            self._schema = schema if all(index.reached is None for index in found) else -1
        return self._known.get(collection, [])


class Planner:
    """The indexes of one collection, for one query."""

    def __init__(self, ask: Ask, indexes: Sequence[Index], scope: str) -> None:
        self._ask = ask
        self._scope = scope
        self.indexes = [one for one in indexes if one.reached is None and not one.definition.text]
        self._plain: dict[int, bool] = {}

    def way(self, node: Node, sort: Sequence[str] = ()) -> Way:
        """The best way that there is to what matches, in the order of ``sort`` (``age``, ``-age``)."""
        nodes = tuple(_every(node))
        matches = [match for index in self.indexes if (match := self._match(index, nodes, sort))]
        if matches:
            return self._by(max(matches, key=lambda match: match.worth), nodes, sort)
        return self._by_branches(nodes) or Way(None, f"_entgldb_documents WHERE {self._scope}", (), node, {})

    def lacks(self, parts: tuple[str, ...], *odd: str) -> bool:
        """Whether an index says that no document has some things at a path; ``filter.Lacks`` names them."""
        for index in self.indexes:
            fields = index.definition.fields
            if index.definition.where or parts not in fields or not self._is_plain(index):
                continue
            if "null" not in odd:
                return True
            if fields[0] == parts and not self._any(index, "v0 IS NULL"):
                return True
        return False

    def _match(self, index: Index, nodes: Sequence[Node], sort: Sequence[str]) -> _Match | None:
        definition = index.definition
        implied = tuple(_every(parse_filter(json.loads(definition.where)))) if definition.where else ()
        if not all(one in nodes for one in implied):
            return None
        several = self._has_several(index)
        bounds: list[tuple[int, Bound]] = []
        used, equal, single = list(implied), 0, True
        for column, parts in enumerate(definition.fields):
            found = [(one, *bound) for one in nodes if (bound := _bound(one, parts))]
            same = next((one for one in found if one[2]), None)
            taken = [same] if same else [one for one in found if one[1] is not None][: 1 if several else None]
            bounds += [(column, one[1]) for one in taken]
            used += [one[0] for one in taken if one[1].exact]
            if same is None:
                break
            equal += 1
            single = single and same[1].sql.startswith((_IS, "?C IS NULL"))
        ordered = bool(sort) and single and _orders(definition.paths, equal, sort) and self._is_plain(index)
        if not bounds and not ordered and not implied:
            return None
        return _Match(index, tuple(bounds), tuple(used), equal, ordered)

    def _by(self, match: _Match, nodes: Sequence[Node], sort: Sequence[str]) -> Way:
        index, name = match.by, table(match.by.number)
        conditions, values = match.conditions()
        uncounted = self._has_several(index) and self._any(index, f"n <> 0 AND n = {UNCOUNTED}")
        rest = _all([one for one in nodes if uncounted or one not in match.used])
        if self._has_several(index) and not (match.once and not uncounted):
            chosen = f"SELECT doc FROM {name} WHERE {conditions or 'n = 0'}"  # noqa: S608 -- a number
            return Way(
                index, self._among(chosen + (_UNCOUNTED.format(name) if uncounted else "")), values, rest, {}
            )
        columns: dict[tuple[str, ...], str] = {(): "s.k"}
        if self._is_plain(index):
            columns |= {parts: f"s.v{place}" for place, parts in enumerate(index.definition.fields)}
        if not self._has_several(index):
            conditions = f"n = 0 AND {conditions}" if conditions else "n = 0"
        return Way(
            index,
            f"{name} s CROSS JOIN _entgldb_documents ON id = s.doc WHERE {conditions} AND {self._scope}",
            values,
            rest,
            columns,
            "" if rest != _all([]) else f"{name} s WHERE {conditions}",
            rest == _all([]) and not (match.ordered or (match.by_key and not sort)),
        )

    def _among(self, chosen: str) -> str:
        # otherwise SQLite walks the collection by key, to look for each document among the chosen
        return f"_entgldb_documents NOT INDEXED WHERE {self._scope} AND id IN ({chosen})"

    def _by_branches(self, nodes: Sequence[Node]) -> Way | None:
        """By an ``$or`` each of whose alternatives has an index."""
        for node in nodes:
            if isinstance(node, Some) and len(node.nodes) <= BRANCHES_MAX:
                found = [self._branch(one) for one in node.nodes]
                branches = [one for one in found if one is not None]
                if branches and len(branches) == len(found):
                    chosen = " UNION ALL ".join(sql for _, sql, _ in branches)
                    return Way(
                        branches[0][0],
                        self._among(chosen),
                        tuple(value for _, _, values in branches for value in values),
                        _all(nodes),
                        {},
                        branches=tuple(index.definition.name for index, _, _ in branches),
                    )
        return None

    def _branch(self, node: Node) -> tuple[Index, str, tuple[Any, ...]] | None:
        nodes = tuple(_every(node))
        matches = [match for index in self.indexes if (match := self._match(index, nodes, ()))]
        matches = [match for match in matches if match.bounds]
        if not matches:
            return None
        match = max(matches, key=lambda one: one.worth)
        name = table(match.by.number)
        conditions, values = match.conditions()
        return match.by, f"SELECT doc FROM {name} WHERE {conditions}{_UNCOUNTED.format(name)}", values  # noqa: S608 -- a number

    def _is_plain(self, index: Index) -> bool:
        """Whether every document has one entry, which tells its place in any order."""
        plain = self._plain.get(index.number)
        if plain is None:
            plain = self._plain[index.number] = not self._any(index, "n <> 0")
        return plain

    def _has_several(self, index: Index) -> bool:
        """Whether a document may have more than one entry to be found by."""
        return not self._is_plain(index) and self._any(index, f"n <> 0 AND n <> {ODD}")

    def _any(self, index: Index, condition: str) -> bool:
        # a condition on n says that it is not 0: those entries are few, and have an index of their own
        sql = f"SELECT EXISTS (SELECT 1 FROM {table(index.number)} WHERE {condition})"  # noqa: S608 -- constants
        return bool(self._ask(sql, ())[0][0])


def _every(node: Node) -> Iterator[Node]:
    """The conditions that all have to be met."""
    if isinstance(node, Every):
        for one in node.nodes:
            yield from _every(one)
    else:
        yield node


def _all(nodes: Sequence[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else Every(tuple(nodes))


def _bound(node: Node, parts: tuple[str, ...]) -> tuple[Bound, bool] | None:
    """A condition as one on a column of its path, and whether it names the values; None if it is none."""
    if not isinstance(node, Field) or node.parts != parts:
        return None
    test = node.test
    if isinstance(test, Equal):
        found = _equal(test)
        return None if found is None else (found, True)
    if isinstance(test, Compared):
        found = _compared(test)
    elif isinstance(test, Part):
        found = _begins(test.text) if test.first and test.collate is exactly else None
    else:
        found = _begins(test.regex.prefix) if isinstance(test, Pattern) else None
    return None if found is None else (found, False)


def _equal(test: Equal) -> Bound | None:
    if test.collate is not exactly and any(isinstance(value, str) for value in test.values):
        return None
    plain, terms, exact = [], [], True
    for value in test.values:
        if value is None:
            terms.append("?C IS NULL")
        elif isinstance(value, list):
            terms.append("?C = '['")
        elif isinstance(value, dict):
            terms.append("?C IN ('[', '{')")
        elif is_large(value):
            terms.append(_LARGER if value > 0 else _SMALLER)
        else:
            plain.append(int(value) if isinstance(value, bool) else value)
            exact = exact and not is_ambiguous(value)
    if plain:
        marks = ",".join(map(mark, plain))
        terms.append(f"{_IS}{marks}" if len(plain) == 1 else f"?C IN ({marks})")
    # the same term twice says nothing more, and no value at all is met by none
    distinct = list(dict.fromkeys(terms)) or ["0"]
    sql = distinct[0] if len(distinct) == 1 else f"({' OR '.join(distinct)})"
    return Bound(sql, tuple(map(bound, plain)), exact and len(plain) == len(test.values))


def _compared(test: Compared) -> Bound | None:
    value, sign = test.value, COMPARE[test.name]
    if isinstance(value, str):
        if test.collate is not exactly:
            return None
        rising = sign[0] == ">"
        # the marks of arrays and objects stand among the texts
        exact = value >= "|" if rising else value < "["
        return Bound(f"?C {sign} ?" if rising else f"?C >= '' AND ?C {sign} ?", (value,), exact)
    if is_large(value):
        beyond = (value > 0) is (sign[0] == ">")
        return Bound((_LARGER if value > 0 else _SMALLER) if beyond else "?C < ''", (), False)
    term = f"?C {sign} {mark(value)}"
    if sign[0] == ">":
        # true stands there as 1
        return Bound(f"{term} AND ?C < ''", (bound(value),), value > 1)
    return Bound(term, (bound(value),), value < 0)


def _begins(text: str) -> Bound | None:
    end = end_of(text)
    return Bound("?C >= ? AND ?C < ?", (text, end), False) if end else None


def _orders(paths: Sequence[str], equal: int, sort: Sequence[str]) -> bool:
    """Whether an index gives an order, forwards or backwards, once its first columns have one value each."""
    rest, fixed = list(paths[equal:]), {path.removeprefix("-") for path in paths[:equal]}
    wanted = [name for name in sort if name.removeprefix("-") not in fixed]
    if not wanted or len(wanted) > len(rest):
        return False
    ahead = [path.startswith("-") == name.startswith("-") for path, name in zip(rest, wanted, strict=False)]
    names = [path.removeprefix("-") for path in rest[: len(wanted)]]
    return names == [name.removeprefix("-") for name in wanted] and len(set(ahead)) == 1
