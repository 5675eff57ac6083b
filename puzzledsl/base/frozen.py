"""Base class of values that are compared by content: frozen, without unknown keys, one canonical JSON text.

They are dataclasses; pydantic reads and writes their JSON. It is imported when JSON is: that takes longer than a check.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import field, fields
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, dataclass_transform

from puzzledsl.base.records import Later, make_later

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import TypeAdapter


class _Config:
    """Pydantic's configuration of a class."""

    def __get__(self, instance: object, owner: type) -> dict[str, Any]:
        described = {"description": inspect.cleandoc(owner.__doc__)} if owner.__doc__ else {}
        return {"extra": "forbid", "arbitrary_types_allowed": True, "json_schema_extra": described}


def _name_fields(cls: Any) -> None:
    cls.model_fields = {each.name: each for each in fields(cls)}


@cache
def _adapter_of(owner: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(owner)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
class Frozen:
    """A hashable value that compares by content. Its constructor trusts its arguments; what reads JSON validates them."""

    __pydantic_config__ = _Config()
    model_fields: ClassVar[Mapping[str, Any]] = {}
    """The fields by name."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        make_later(cls, kw_only=True)
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
        """Return the fields as a dictionary; with mode "json", of what JSON has."""
        dumped: dict[str, Any] = self._adapter().dump_python(
            self, mode=mode, include=include, exclude=exclude
        )
        return dumped

    def model_dump_json(self, *, exclude: Any = None) -> str:
        """Return the fields as JSON on one line."""
        return self._adapter().dump_json(self, exclude=exclude).decode()

    @classmethod
    def model_validate(cls, value: object) -> Self:
        """Make one of a dictionary. Raises pydantic.ValidationError."""
        return cls._adapter().validate_python(value)

    @classmethod
    def model_json_schema(cls, mode: Literal["validation", "serialization"] = "validation") -> dict[str, Any]:
        """Return the JSON schema."""
        return cls._adapter().json_schema(mode=mode)

    def canonical_json(self) -> str:
        """The one JSON text of this value: sorted keys, two-space indent, final newline."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    def digest(self) -> str:
        """SHA-256 of the compact canonical JSON, hexadecimal. Equal content, equal digest."""
        text = json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse and validate. Raises pydantic.ValidationError."""
        return cls._adapter().validate_json(text)


def type_of(node: type[Frozen], name: str) -> Any:
    """Return the type of a field."""
    home = next(each for each in node.__mro__ if name in inspect.get_annotations(each))
    return eval(inspect.get_annotations(home)[name], vars(sys.modules[home.__module__]))


def left_out(default: Any) -> Any:
    """Return a field that JSON leaves out at its default, so that values without it keep their digests."""
    return field(default=default, metadata={"exclude_if": lambda value: value == default})


class Checks:
    """Annotations of pydantic, made when JSON is read or written: `Annotated[Fraction, Checks(lambda: …)]`."""

    def __init__(self, make: Callable[[], tuple[Any, ...]]) -> None:
        self._make = make

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        return handler(Annotated[(source, *self._make())])


def _by_kind() -> tuple[Any, ...]:
    from pydantic import Field as PydanticField

    return (PydanticField(discriminator="kind"),)


BY_KIND = Checks(_by_kind)
"""Of a union: `kind` says which."""
