"""From annotated fields to a strict reader: messages are arrays, checked field by field.

A class gets what ``dataclasses.dataclass(frozen=True, slots=True)`` would give it, but nothing is compiled
before it is used: a client verb uses five of a hundred classes.
``@record`` makes a value that travels inside messages, ``@message(tag, ...)`` a message.
Tags only grow and are never used again for something else.
"""

from __future__ import annotations

import functools
import math
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, Flag, auto
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, dataclass_transform

from entgldb.messages.errors import ProtocolError
from entgldb.messages.limits import COUNT_MAX, DEPTH_MAX


class Channel(Flag):
    """The ways by which a message may arrive."""

    LOCAL = auto()
    """Another actor of this node, over Thespian's authenticated loopback."""
    CLIENT = auto()
    """The Unix socket of this node."""
    PEER = auto()
    """Another node, over TLS."""


Convert = Callable[[Any], Any]
Json = Any
"""A JSON value: None, bool, int, float, str, list or dict with string keys."""


class Range(NamedTuple):
    """Which integers a field takes, both ends included. A field that names none takes 64 bits with sign."""

    low: int
    high: int


INT64 = Range(-(2**63), 2**63 - 1)
Count = Annotated[int, Range(0, COUNT_MAX)]
"""Something that is counted up."""
Millis = Annotated[int, Range(-COUNT_MAX, COUNT_MAX)]
"""Milliseconds since 1970 by somebody's clock."""
Stamp = Annotated[int, Range(0, 2**63 - 1)]
"""A value of a hybrid logical clock."""
Small = Annotated[int, Range(-(2**31), 2**31 - 1)]
Port = Annotated[int, Range(0, 65_535)]

_T = TypeVar("_T")


class _Compiled:
    """An attribute of a record that is made for its class at the first look."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        made = self._make(owner)
        setattr(owner, self._name, made)
        return made


class Record:
    """A frozen value encoded as the array of its fields."""

    __slots__ = ()
    _names: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}
    _write: ClassVar[Any] = _Compiled(lambda cls: _writer_of(cls))
    _read: ClassVar[Any] = _Compiled(lambda cls: _reader_of(cls))
    _readers: ClassVar[Any] = _Compiled(lambda cls: _readers_of(cls))
    __dataclass_fields__: ClassVar[Any] = _Compiled(lambda cls: _dataclass_fields_of(cls))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return _values(self) == _values(other)

    def __hash__(self) -> int:
        return hash(_values(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), _values(self)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names)
        return f"{type(self).__name__}({fields})"


class Message(Record):
    """A record with a tag. Its text is constant: Thespian formats messages eagerly, several times a hop."""

    __slots__ = ()
    TAG: ClassVar[int]
    CHANNELS: ClassVar[Channel]
    ADMIN: ClassVar[bool]

    def __str__(self) -> str:
        return type(self).__name__

    __repr__ = __str__


REGISTRY: dict[int, type[Message]] = {}
RECORDS: list[type[Record]] = []
"""All that can stand in a message."""


@dataclass_transform(frozen_default=True)
def record(cls: type[_T]) -> type[_T]:
    """Make ``cls`` frozen, slotted and able to travel inside messages."""
    made: type[_T] = _slotted(cls)
    RECORDS.append(made)  # type: ignore[arg-type]  # the decorator may be on anything, and is on records
    return made


@dataclass_transform(frozen_default=True)
def message(tag: int, *channels: Channel, admin: bool = False) -> Callable[[type[_T]], type[_T]]:
    """Make ``cls`` a message numbered ``tag``, accepted from ``channels`` and always from LOCAL.

    ``admin`` marks what ``ask`` and ``tell`` may send.
    """

    def make(cls: type[_T]) -> type[_T]:
        made = _slotted(cls)
        if tag in REGISTRY:
            raise TypeError(f"tag {tag} is taken by {REGISTRY[tag].__name__}")
        made.TAG = tag
        made.CHANNELS = Channel.LOCAL
        for channel in channels:
            made.CHANNELS |= channel
        made.ADMIN = admin
        REGISTRY[tag] = made
        return made  # type: ignore[no-any-return]  # the slots make a new class, typed Any here

    return make


def prepare(cls: type[Record]) -> None:
    """Make what is else made when the first value is built, written or read: an exec each."""
    cls._read, cls._write  # noqa: B018 -- a look makes them
    if cls.__init__ is _first_init:
        _make_init(cls)


def to_array(value: Record) -> list[Any]:
    """The fields of ``value`` in order, ready for msgpack."""
    made: list[Any] = type(value)._write(value)
    return made


def from_array(cls: type[Any], items: list[Any]) -> Any:
    """Build ``cls`` from decoded msgpack, or raise ProtocolError naming the field.

    Fields missing at the end take their defaults; fields beyond the known ones are left alone,
    so that a later minor version may add some.
    """
    made = cls._read(items)
    if made is not None:
        return made
    values = []
    for index, (name, read, optional) in enumerate(cls._readers):
        if index >= len(items):
            if optional:
                break
            raise ProtocolError(f"{cls.__name__} lacks its field {name}")
        try:
            values.append(read(items[index]))
        except ProtocolError as fault:
            raise ProtocolError(f"{cls.__name__}.{name}: {fault.text}") from None
    return cls(*values)


def _slotted(cls: Any) -> Any:
    """The same class with a slot for each annotated field, and with what a frozen dataclass has."""
    names = tuple(cls.__annotations__)
    body = {k: v for k, v in vars(cls).items() if k not in (*names, "__dict__", "__weakref__")}
    defaults = {name: vars(cls)[name] for name in names if name in vars(cls)}
    body |= {"__slots__": names, "__match_args__": names, "_names": names, "_defaults": defaults}
    return type(cls)(cls.__name__, cls.__bases__, {**body, "__init__": _first_init})


def _first_init(self: Any, *values: Any, **named: Any) -> None:
    """Make the class's own ``__init__`` when its first value is made, and call it."""
    cls = type(self)
    _make_init(cls)
    cls.__init__(self, *values, **named)


def _make_init(cls: Any) -> None:
    setters = {f"_set_{name}": getattr(cls, name).__set__ for name in cls._names}
    takes = ", ".join(f"{n}=_defaults[{n!r}]" if n in cls._defaults else n for n in cls._names)
    body = "; ".join(f"_set_{name}(self, {name})" for name in cls._names) or "pass"
    space: dict[str, Any] = {**setters, "_defaults": cls._defaults}
    exec(f"def __init__({', '.join(filter(None, ['self', takes]))}): {body}", space)  # noqa: S102 -- as dataclasses do; of our own names
    cls.__init__ = space["__init__"]


def _values(value: Any) -> tuple[Any, ...]:
    return tuple([getattr(value, name) for name in value._names])


def _hints_of(cls: Any) -> dict[str, Any]:
    """The types of its fields. ``typing.get_type_hints`` takes five times as long, and nodes need all."""
    return {name: _evaluated(cls.__module__, cls.__annotations__[name]) for name in cls._names}


@functools.cache
def _evaluated(module: str, annotation: str) -> Any:
    return eval(annotation, vars(sys.modules[module]))  # noqa: S307 -- as typing does; of our own names


def _writer_of(cls: Any) -> Convert:
    """``to_array`` as one function without a loop: it is called for every record of every message."""
    hints = _hints_of(cls)
    writers = {name: _writer(hints[name]) for name in cls._names}
    fields = [f"v.{name}" if write is None else f"_{name}(v.{name})" for name, write in writers.items()]
    return _function(f"(v): return [{', '.join(fields)}]", {f"_{n}": w for n, w in writers.items()})


def _reader_of(cls: Any) -> Convert:
    """The same for ``from_array``; None where a field lacks or is wrong, which is looked into then."""
    hints = _hints_of(cls)
    checks = {name: _check(f"_{name}", hints[name]) for name in cls._names}
    fields = [f"_{name}" if check else f"Read_{name}(_{name})" for name, check in checks.items()]
    names = "".join(f"_{name}, " for name in cls._names)
    return _function(
        f"""(items):
            if len(items) != {len(checks)}: return None
            {f"{names} = items" if names else "pass"}
            if not ({" and ".join(filter(None, checks.values())) or True}): return None
            try: return Cls({", ".join(fields)})
            except Fault: return None""",
        {f"Read_{name}": read for name, read, _ in cls._readers} | {"Cls": cls, "Fault": ProtocolError},
    )


def _function(text: str, names: dict[str, Any]) -> Convert:
    """A function of one argument, from its text after its name; of our own names only."""
    exec(f"def made{text}", names)  # noqa: S102 -- as dataclasses do
    made: Convert = names["made"]
    return made


def _check(name: str, hint: Any) -> str:
    """The test of a field of one of msgpack's own types; empty for others."""
    if hint in _EXACT:
        return f"type({name}) is {hint.__name__}"
    if hint is int or typing.get_origin(hint) is Annotated:
        low, high = INT64 if hint is int else hint.__metadata__[0]
        return f"type({name}) is int and {low} <= {name} <= {high}"
    inner = _union_member(hint)
    test = "" if inner is None else _check(name, inner)
    return f"({name} is None or {test})" if test else ""


def _readers_of(cls: Any) -> tuple[tuple[str, Convert, bool], ...]:
    hints = _hints_of(cls)
    return tuple((name, _reader(hints[name]), name in cls._defaults) for name in cls._names)


def _dataclass_fields_of(cls: Any) -> Any:
    """The table of fields by which ``dataclasses.fields`` and ``dataclasses.replace`` know a record."""
    from dataclasses import field, make_dataclass

    made = [
        (name, cls.__annotations__[name], field(default=cls._defaults[name]))
        if name in cls._defaults
        else (name, cls.__annotations__[name])
        for name in cls._names
    ]
    return vars(make_dataclass(cls.__name__, made))["__dataclass_fields__"]


def _is_record(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Record)


def _union_member(hint: Any) -> Any:
    """The T of ``T | None``, or None where ``hint`` is something else."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        members = [a for a in typing.get_args(hint) if a is not type(None)]
        return members[0] if len(members) == 1 else None
    return None


def _writer(hint: Any) -> Convert | None:
    """The function that turns a field into msgpack's own types; None where the field already is of one."""
    if typing.get_origin(hint) is Annotated:
        return None
    inner = _union_member(hint)
    if inner is not None:
        write = _writer(inner)
        return None if write is None else lambda v: None if v is None else write(v)
    if _is_record(hint):
        return to_array
    if isinstance(hint, type) and issubclass(hint, Enum):
        return lambda v: v.value
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and args[-1] is Ellipsis:
        each = _writer(args[0])
        return None if each is None else lambda v: [each(x) for x in v]
    return None


_EXACT: tuple[type, ...] = (str, bytes, bool)


def _reader(hint: Any) -> Convert:
    """The function that checks and rebuilds a field; strict on types, so that True is never 1."""
    if hint is Any:
        return _read_json
    if hint in _EXACT:
        return _exact(hint)
    if hint is int or typing.get_origin(hint) is Annotated:
        return _integer(INT64 if hint is int else hint.__metadata__[0])
    if hint is float:
        return _read_float
    inner = _union_member(hint)
    if inner is not None:
        read = _reader(inner)
        return lambda v: None if v is None else read(v)
    if _is_record(hint):
        return lambda v: from_array(hint, _expect(v, list))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return lambda v: _enum(hint, v)
    return _container_reader(hint)


def _container_reader(hint: Any) -> Convert:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and args[-1] is Ellipsis:
        each = _reader(args[0])
        return lambda v: tuple([each(x) for x in _expect(v, list)])
    if origin is tuple:
        reads = [_reader(a) for a in args]
        return lambda v: _fixed(reads, _expect(v, list))
    if origin in (dict, Mapping):
        read_key, read_value = _reader(args[0]), _reader(args[1])
        return lambda v: {read_key(k): read_value(x) for k, x in _expect(v, dict).items()}
    raise TypeError(f"a message field cannot have the type {hint}")


def _exact(kind: type) -> Convert:
    def read(value: Any) -> Any:
        if type(value) is kind:
            return value
        raise ProtocolError(f"{kind.__name__} expected, {type(value).__name__} found")

    return read


def _integer(within: Range) -> Convert:
    low, high = within

    def read(value: Any) -> Any:
        if type(value) is not int:
            raise ProtocolError(f"int expected, {type(value).__name__} found")
        if low <= value <= high:
            return value
        raise ProtocolError(f"an integer from {low} to {high} expected, {value} found")

    return read


def _read_float(value: Any) -> float:
    if type(value) not in (float, int) or not math.isfinite(value):
        raise ProtocolError(
            f"a finite float expected, {str(value) if type(value) is float else type(value).__name__} found"
        )
    return float(value)


def _expect(value: Any, kind: type[_T]) -> _T:
    if type(value) is not kind:
        raise ProtocolError(f"{kind.__name__} expected, {type(value).__name__} found")
    return value


def _fixed(reads: list[Convert], items: Iterable[Any]) -> tuple[Any, ...]:
    found = list(items)
    if len(found) != len(reads):
        raise ProtocolError(f"{len(reads)} items expected, {len(found)} found")
    return tuple(read(item) for read, item in zip(reads, found, strict=True))


def _enum(kind: type[Enum], value: Any) -> Enum:
    try:
        return kind(value)
    except ValueError:
        raise ProtocolError(f"{value!r:.40} is no {kind.__name__}") from None


def _read_json(value: Any, depth: int = 0) -> Any:
    if depth > DEPTH_MAX:
        raise ProtocolError(f"nested deeper than {DEPTH_MAX}")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [_read_json(item, depth + 1) for item in value]
    if type(value) is dict:
        if any(type(key) is not str for key in value):
            raise ProtocolError("a map key that is no string")
        return {key: _read_json(item, depth + 1) for key, item in value.items()}
    raise ProtocolError(f"{type(value).__name__} is no JSON value")
