"""The part of an update that adds up with others', where documents merge, instead of replacing them."""

from __future__ import annotations

from typing import Any, Final

from entgldb.messages.client import FieldOperation
from entgldb.storage.rules.merging.accumulating import ADD, INC, REMOVE
from entgldb.storage.rules.merging.identity_arrays import identities
from entgldb.storage.rules.merging.tree import ABSENT, is_count, text_of
from entgldb.storage.rules.updating import parse
from entgldb.storage.rules.updating.apply import pulled, value_at
from entgldb.storage.rules.updating.parse import Step, Update

_VERBS: Final = {parse.INC: INC, parse.ADD_TO_SET: ADD, parse.PULL: REMOVE}


def split(update: Update, document: dict[str, Any]) -> tuple[Update, tuple[FieldOperation, ...]]:
    """An update of ``document`` as changes of fields, and as operations on counters and sets.

    A fraction, an integer beyond 64 bits, an array whose elements merge by id, or an element that is no
    scalar is no matter of counters and sets: there the operator changes the field, like any other.
    """
    operations: list[FieldOperation] = []
    fields: list[Step] = []
    for step in update:
        values = _accumulating(step, value_at(document, step.path))
        if values is None:
            fields.append(step)
        else:
            verb = _VERBS[step.operator]
            operations += (FieldOperation(verb, step.path, text_of(value).encode()) for value in values)
    return tuple(fields), tuple(operations)


def adds(update: Update, document: dict[str, Any]) -> bool:
    """Whether it adds elements to sets: to say so again of one that is there is more than to say nothing."""
    return any(operation.verb == ADD for operation in split(update, document)[1])


def _accumulating(step: Step, there: Any) -> list[Any] | None:
    """The amount, or the elements, of an operation on a counter or a set; None where it is none."""
    if step.operator == parse.INC:
        return [step.value] if is_count(step.value) and (there is ABSENT or is_count(there)) else None
    if step.operator not in _VERBS or (
        there is not ABSENT and (type(there) is not list or identities(there) is not None)
    ):
        return None
    if step.operator == parse.PULL:
        array: list[Any] = there if type(there) is list else []
        values = [value for value, goes in zip(array, pulled(step, array), strict=True) if goes]
    else:
        values = step.value
        if not values:
            return None
    return None if any(type(value) in (dict, list) for value in values) else values
