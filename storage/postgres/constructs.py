"""The parts of statements on PostgreSQL, which CockroachDB, YugabyteDB and Citus take, too."""

from __future__ import annotations

from typing import Final

from sqlglot import exp

from entgldb.messages.errors import EntglError, ErrorCode

STATEMENTS: Final = (exp.Select, exp.Union, exp.Insert, exp.Update, exp.Delete)
CLAUSES: Final = (
    exp.Alias,
    exp.Distinct,
    exp.From,
    exp.Group,
    exp.Identifier,
    exp.Join,
    exp.Limit,
    exp.Offset,
    exp.OnConflict,
    exp.Order,
    exp.Ordered,
    exp.Returning,
    exp.Schema,
    exp.Subquery,
    exp.Table,
    exp.TableAlias,
    exp.Values,
    exp.Var,
    exp.Where,
)
EXPRESSIONS: Final = (
    exp.Add,
    exp.And,
    exp.Between,
    exp.Boolean,
    exp.Case,
    exp.Cast,
    exp.Column,
    exp.DataType,
    exp.DPipe,
    exp.EQ,
    exp.Exists,
    exp.GT,
    exp.GTE,
    exp.If,
    exp.In,
    exp.Is,
    exp.LT,
    exp.LTE,
    exp.Literal,
    exp.Neg,
    exp.Not,
    exp.Null,
    exp.NullSafeEQ,
    exp.NullSafeNEQ,
    exp.Or,
    exp.Parameter,
    exp.Paren,
    exp.Star,
    exp.Sub,
    exp.Tuple,
)
FUNCTIONS: Final = (
    exp.Coalesce,
    exp.Count,
    exp.Greatest,
    exp.Least,
    exp.Length,
    exp.Max,
    exp.Min,
    exp.RowNumber,
    exp.Sum,
    exp.Window,
)
BY_NAME: Final = ("convert_to",)
"""Functions that have no class of their own."""
_ALL: Final = frozenset((*STATEMENTS, *CLAUSES, *EXPRESSIONS, *FUNCTIONS))


def check(tree: exp.Expr, sql: str) -> None:
    """Refuse a statement that has another part. Raises EntglError ``unsupported``."""
    for node in tree.walk():
        if type(node) not in _ALL and not (isinstance(node, exp.Anonymous) and node.name in BY_NAME):
            raise unsupported(sql, f"{node.key}, which not every database has")
        # https://docs.citusdata.com/en/stable/develop/reference_workarounds.html, "Limitations"
        if isinstance(node, exp.Values) and node.find(exp.Query):
            raise unsupported(sql, "a query among VALUES, which Citus does not take")


def unsupported(sql: str, why: str) -> EntglError:
    """A statement that has no place on PostgreSQL."""
    return EntglError(
        f"a cloud on PostgreSQL has no {' '.join(sql.split())[:80]!r} ({why:.80})", code=ErrorCode.UNSUPPORTED
    )
