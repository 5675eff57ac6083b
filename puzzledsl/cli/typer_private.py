"""Private names of typer, all in this file, each with the public form that does not do.

Typer reads every value by a `pydantic.TypeAdapter`, whatever parser an option has; to import pydantic takes longer than to
check a program. Words and paths are read here as typer reads them, other values still by typer.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

from typer._param_types import coerce_cli_path
from typer.core import TyperCommand, TyperGroup

from puzzledsl.base.frozen import record

READ_HERE = (str, Path, list[str], list[Path])


class _Light:
    """A command or group that reads words and paths without pydantic."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, `--help` among them."""
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for each in found:
            descriptor = getattr(each, "type_descriptor", None)
            if isinstance(getattr(each, "get_runtime_param", None), MethodType) and descriptor is not None:
                reader = _Reader(each.get_runtime_param, descriptor.annotation, descriptor.parameter_info)
                each.get_runtime_param = lambda reader=reader: reader
        return found


class Command(_Light, TyperCommand):
    """A command that reads words and paths without pydantic."""


class Group(_Light, TyperGroup):
    """A group that does."""


@record
class _Reader:
    """The reader of one parameter's value."""

    _typers: Callable[[], Any]
    _kind: Any
    _info: Any

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value of what was typed, or of a default."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if isinstance(self._kind, type) and self._kind is not Path and isinstance(value, self._kind):
            return value
        if self._kind not in READ_HERE or self._info.parser is not None:
            return self._typers().coerce(value, param=param, ctx=ctx)
        if self._kind in (str, list[str]):
            return value if self._kind is str else list(value)
        paths = [
            coerce_cli_path(Path(each), self._info, path_type=Path, param=param, ctx=ctx)
            for each in ([value] if self._kind is Path else value)
        ]
        return paths[0] if self._kind is Path else paths
