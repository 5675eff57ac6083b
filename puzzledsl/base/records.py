"""Records: frozen dataclasses whose methods are made when one of them is first used.

`dataclasses.dataclass` compiles seven functions for each class. A command loads hundreds of classes and uses few of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import RLock
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")
_PENDING: dict[type, dict[str, Any]] = {}
_ONE_AT_A_TIME = RLock()


class _Later:
    """A method of a record that is not made yet."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object | None, owner: type) -> Any:
        with _ONE_AT_A_TIME:
            for each in reversed(owner.__mro__):
                if each in _PENDING:
                    _make(each, _PENDING.pop(each))
        return getattr(owner if instance is None else instance, self._name)


def _make(cls: type, options: dict[str, Any]) -> None:
    for name, value in [*vars(cls).items()]:
        if isinstance(value, _Later):
            delattr(cls, name)
        elif isinstance(value, dict) and not cls.__annotations__.get(name, "ClassVar").startswith("ClassVar"):
            setattr(cls, name, field(default_factory=value.copy))
    dataclass(frozen=True, **options)(cls)


def make_later(cls: type, **options: Any) -> None:
    """Make a class a frozen dataclass with these options at its first use. A dictionary as a default is copied."""
    names = ["__init__", "__dataclass_fields__", "__match_args__"]
    names += ["__repr__"] if options.get("repr", True) else []
    names += ["__eq__", "__hash__"] if options.get("eq", True) else []
    names += ["__lt__", "__le__", "__gt__", "__ge__"] if options.get("order") else []
    for name in names:
        if name not in vars(cls) or vars(cls)[name] is None:
            setattr(cls, name, _Later(name))
    _PENDING[cls] = options


@overload
def record(cls: type[T], /) -> type[T]: ...
@overload
def record(*, eq: bool = True, repr: bool = True, order: bool = False) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: Any = None, /, **options: bool) -> Any:
    """Decorate a class as a record, with options of `dataclasses.dataclass`."""

    def decorate(made: type[T]) -> type[T]:
        make_later(made, **options)
        return made

    return decorate if cls is None else decorate(cls)
