"""Records: frozen dataclasses whose methods are made when they are first used.

`dataclasses.dataclass` compiles seven functions for each class, and a command loads hundreds of classes and uses few of
them. Here the fields are the standard library's, for `fields` and `replace`; `__init__`, and `__eq__` with `__hash__`, are
compiled at their first use; the rest is the same function for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from inspect import get_annotations
from threading import RLock
from typing import Any, NoReturn, TypeVar, dataclass_transform, overload

T = TypeVar("T")
_ONE_AT_A_TIME = RLock()
_NOT_GIVEN: Any = object()


class Later:
    """An attribute of a class that is made when it is first read."""

    def __init__(self, name: str, make: Callable[[Any], None]) -> None:
        self._name, self._make = name, make

    def __get__(self, instance: object | None, owner: type) -> Any:
        with _ONE_AT_A_TIME:
            for home in owner.__mro__:
                if vars(home).get(self._name) is self:
                    self._make(home)
        return getattr(owner if instance is None else instance, self._name)


def make_later(cls: Any, *, eq: bool = True, repr: bool = True, kw_only: bool = False) -> None:
    """Make a class a frozen dataclass. A dictionary as a default is copied for each instance."""

    def declare(home: Any) -> None:
        _declare(home, kw_only)

    made: dict[str, Any] = {
        "__dataclass_fields__": declare,
        "__match_args__": declare,
        "__init__": _initialise,
    }
    made |= {"__eq__": _compare, "__hash__": _compare} if eq else {}
    same: dict[str, Any] = {"__setattr__": _refuse, "__delattr__": _refuse}
    same |= {"__repr__": _shown} if repr else {}
    own = vars(cls)
    explicit = {
        name for name in (*made, *same) if name in own and not (name == "__hash__" and own[name] is None)
    }
    for name in made.keys() - explicit:
        setattr(cls, name, Later(name, made[name]))
    for name in same.keys() - explicit:
        setattr(cls, name, same[name])


def _declare(cls: Any, kw_only: bool) -> None:
    for name in ("__dataclass_fields__", "__match_args__"):
        if isinstance(vars(cls).get(name), Later):
            delattr(cls, name)
    for name, annotation in get_annotations(cls).items():
        default = vars(cls).get(name)
        if isinstance(default, dict) and not annotation.startswith("ClassVar"):
            setattr(cls, name, field(default_factory=default.copy))
    if not cls.__doc__:
        cls.__doc__ = cls.__name__  # else it is made of the signature, which is `__init__`'s
    dataclass(init=False, repr=False, eq=False, kw_only=kw_only)(cls)


def _initialise(cls: Any) -> None:
    """Compile `__init__`."""
    places, words, body = list[str](), list[str](), list[str]()
    names: dict[str, Any] = {"_set": object.__setattr__, "_NOT_GIVEN": _NOT_GIVEN}
    for each in fields(cls):
        value = given = each.name
        if each.default is not MISSING:
            names[f"_default_{given}"] = each.default
            given = f"{given}=_default_{given}"
        elif each.default_factory is not MISSING:
            names[f"_make_{given}"] = each.default_factory
            value, given = f"_make_{given}() if {value} is _NOT_GIVEN else {value}", f"{given}=_NOT_GIVEN"
        if each.init:
            (words if each.kw_only else places).append(given)
        elif "=" in given:
            value = given.partition("=")[2] if each.default is not MISSING else f"_make_{each.name}()"
        if each.init or "=" in given:
            body.append(f" _set(self, {each.name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append(" self.__post_init__()")
    head = ", ".join(["self", *places, *(["*", *words] if words else [])])
    _compile(cls, "\n".join([f"def __init__({head}):", *(body or [" pass"])]), names)


def _compare(cls: Any) -> None:
    """Compile `__eq__` and `__hash__`, of the fields that compare."""
    for name in ("__eq__", "__hash__"):
        if isinstance(vars(cls).get(name), Later):
            delattr(cls, name)
    mine = [each.name for each in fields(cls) if each.compare]
    same = " and ".join(f"self.{name} == other.{name}" for name in mine) or "True"
    hashed = "".join(
        f"self.{each.name}," for each in fields(cls) if (each.compare if each.hash is None else each.hash)
    )
    text = f"""
def __eq__(self, other):
 return ({same}) if other.__class__ is self.__class__ else NotImplemented
def __hash__(self):
 return hash(({hashed}))
"""
    _compile(cls, text, {})


def _compile(cls: Any, text: str, names: dict[str, Any]) -> None:
    known = names.keys() | {"__builtins__"}
    exec(text, names)
    for name in names.keys() - known:
        if name not in vars(cls) or isinstance(vars(cls)[name], Later):
            names[name].__qualname__ = f"{cls.__qualname__}.{name}"
            setattr(cls, name, names[name])


def _refuse(self: object, name: str, *value: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot change field {name!r}")


def _shown(self: Any) -> str:
    shown = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


@overload
def record(cls: type[T], /) -> type[T]: ...
@overload
def record(*, eq: bool = True, repr: bool = True) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field, Field))
def record(cls: Any = None, /, **options: bool) -> Any:
    """Decorate a class as a record."""

    def decorate(made: type[T]) -> type[T]:
        make_later(made, **options)
        return made

    return decorate if cls is None else decorate(cls)
