"""Frozen values: `Record`, a dataclass whose methods are compiled at first use, and `Frozen`, a record with canonical JSON.

`dataclasses.dataclass` compiles several functions for each class, but a command loads hundreds of classes and uses few. Here
`fields` and `replace` of the standard library work as usual. `__init__`, and `__eq__` with `__hash__`, are compiled when first
used; all classes share the other methods. Pydantic reads and writes the JSON. It is imported only then, because the import
takes longer than checking a program.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from functools import cache, partial
from threading import RLock
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NoReturn, Self, dataclass_transform

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import TypeAdapter

_ONE_AT_A_TIME = RLock()
_NOT_GIVEN: Any = object()


class Later:
    """Descriptor of a class attribute: the first read calls `make(cls)`, which sets the real attribute in its place."""

    def __init__(self, name: str, make: Callable[[Any], None]) -> None:
        self._name, self._make = name, make

    def __get__(self, instance: object | None, owner: type) -> Any:
        with _ONE_AT_A_TIME:
            for home in owner.__mro__:
                if vars(home).get(self._name) is self:
                    self._make(home)
        return getattr(owner if instance is None else instance, self._name)


_DECLARED = ("__dataclass_fields__", "__match_args__")


def _declare(cls: Any, kw_only: bool) -> None:
    for name in _DECLARED:
        if isinstance(vars(cls).get(name), Later):
            delattr(cls, name)
    for name, annotation in inspect.get_annotations(cls).items():
        default = vars(cls).get(name)
        if isinstance(default, dict) and "ClassVar[" not in str(annotation):
            setattr(cls, name, field(default_factory=default.copy))
    if not cls.__doc__:
        cls.__doc__ = cls.__name__  # else it is made of the signature, which is `__init__`'s
    dataclass(init=False, repr=False, eq=False, kw_only=kw_only)(cls)


def _initialise(cls: Any) -> None:
    """Compile the `__init__` of a record class."""
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
    """Compile the `__eq__` and `__hash__` of a record class, from its fields with `compare`."""
    for name in ("__eq__", "__hash__"):
        if isinstance(vars(cls).get(name), Later):
            delattr(cls, name)
    mine = [each.name for each in fields(cls) if each.compare]
    same = " and ".join(f"self.{name} == other.{name}" for name in mine) or "True"
    hashed = "".join(f"self.{f.name}," for f in fields(cls) if (f.compare if f.hash is None else f.hash))
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


class _Config:
    """Descriptor of pydantic's configuration: unknown keys are refused, and the docstring describes the JSON schema."""

    def __get__(self, instance: object, owner: type) -> dict[str, Any]:
        described = {"description": inspect.cleandoc(owner.__doc__)} if owner.__doc__ else {}
        return {"extra": "forbid", "arbitrary_types_allowed": True, "json_schema_extra": described}


_CONFIG = _Config()


@dataclass_transform(frozen_default=True, field_specifiers=(field, Field))
class Record:
    """A frozen dataclass without a decorator: its annotated attributes are its fields. A default dictionary is copied."""

    __pydantic_config__ = _CONFIG
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __init_subclass__(cls, *, eq: bool = True, kw_only: bool = False) -> None:
        super().__init_subclass__()
        made: dict[str, Any] = dict.fromkeys(_DECLARED, partial(_declare, kw_only=kw_only))
        made["__init__"] = _initialise
        made |= {"__eq__": _compare, "__hash__": _compare} if eq else {}
        same: dict[str, Any] = {"__setattr__": _refuse, "__delattr__": _refuse, "__repr__": _shown}
        own = vars(cls)
        explicit = {n for n in (*made, *same) if n in own and not (n == "__hash__" and own[n] is None)}
        for name in made.keys() - explicit:
            setattr(cls, name, Later(name, made[name]))
        for name in same.keys() - explicit:
            setattr(cls, name, same[name])


def _name_fields(cls: Any) -> None:
    cls.model_fields = {each.name: each for each in fields(cls)}


@cache
def _adapter_of(owner: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(owner)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
class Frozen(Record):
    """A record with canonical JSON, hashable if its fields are. The constructor checks nothing; what reads JSON validates it.

    `class Not(Frozen, kind="not")` adds a first field `kind: Literal["not"] = "not"`, by which unions tell it from others.
    """

    model_fields: ClassVar[Mapping[str, Any]] = {}  # The fields by name.
    if TYPE_CHECKING:
        kind: Any = None

    def __init_subclass__(cls, *, kind: str | None = None) -> None:
        if kind is not None:
            add_fields(cls, {"kind": (Literal[kind], kind)})
        super().__init_subclass__(kw_only=True)
        cls.model_fields = Later("model_fields", _name_fields)  # type: ignore[assignment]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in self.model_fields)

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self:
        """Return a copy with other values of some fields."""
        return type(self)(**{**dict(self), **(update or {})})

    @classmethod
    def _adapter(cls) -> TypeAdapter[Self]:
        own: Any = cls
        return _adapter_of(own)

    def model_dump(
        self, *, mode: Literal["python", "json"] = "python", include: Any = None, exclude: Any = None
    ) -> dict[str, Any]:
        """Return the fields as a dictionary, nested values too; in mode "json", with JSON types only."""
        found: dict[str, Any] = self._adapter().dump_python(self, mode=mode, include=include, exclude=exclude)
        return found

    def model_dump_json(self, *, exclude: Any = None) -> str:
        """Return the fields as JSON on one line."""
        return self._adapter().dump_json(self, exclude=exclude).decode()

    @classmethod
    def model_validate(cls, value: object) -> Self:
        """Return a validated value made from a dictionary. Raises pydantic.ValidationError."""
        return cls._adapter().validate_python(value)

    def canonical_json(self) -> str:
        """Return the only JSON text of this value: sorted keys, an indent of one blank, a final newline."""
        import json

        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    def digest(self) -> str:
        """Return the hexadecimal SHA-256 of the value's JSON with sorted keys and no blanks: equal for equal content."""
        import hashlib
        import json

        fields = self.model_dump(mode="json")
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse and validate JSON. Raises pydantic.ValidationError."""
        return cls._adapter().validate_json(text)

    @classmethod
    def of_file(cls, path: Path) -> Self | None:
        """Parse and validate a JSON file; None if it cannot be read or does not have this form."""
        try:
            return cls.from_json(path.read_bytes())
        except (OSError, ValueError):
            return None

    @classmethod
    def of_sealed(cls, path: Path) -> Self | None:
        """Parse and validate a file of `write_sealed`; None if it is missing or damaged, or has another version's form."""
        from puzzledsl.base.files import read_sealed

        try:
            return cls.from_json(read_sealed(path) or b"")
        except ValueError:
            return None


def type_of(node: type[Frozen], name: str) -> Any:
    """Return the type of the field `name` of a class, resolved from its annotation."""
    home = next(each for each in node.__mro__ if name in inspect.get_annotations(each))
    annotation = inspect.get_annotations(home)[name]
    return eval(annotation, vars(sys.modules[home.__module__])) if isinstance(annotation, str) else annotation


def add_fields(node: type[Frozen], fields: Mapping[str, tuple[Any, Any]]) -> None:
    """Put fields, name -> (type, default), in front of the own fields of a class that has no instances yet."""
    node.__annotations__ = {**{name: kind for name, (kind, _) in fields.items()}, **node.__annotations__}
    for name, (_, default) in fields.items():
        setattr(node, name, default)


def left_out(default: Any) -> Any:
    """Return a field that JSON omits if it has its default, so that older values, which lack it, keep their digests."""
    excluded = {"exclude_if": lambda value: value == default}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=excluded)
    return field(default=default, metadata=excluded)


class Checks:
    """Annotations of pydantic for a type, made once pydantic is imported: `Annotated[int, Checks(lambda pydantic: [...])]`."""

    def __init__(self, make: Callable[[Any], Iterable[Any]]) -> None:
        self._make = make

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        import pydantic

        return handler(Annotated[(source, *self._make(pydantic))])


BY_KIND = Checks(lambda pydantic: [pydantic.Field(discriminator="kind")])
"""Annotation of a union whose members pydantic tells apart by their field `kind`."""
