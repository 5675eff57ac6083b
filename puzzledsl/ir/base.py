"""Base class of every artefact, and exact numbers in JSON."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any

from puzzledsl.base.frozen import Frozen, Later
from puzzledsl.ir.source_location import Where

FORMAT_VERSION = "1.0"


def _to_fraction(value: object) -> object:
    return Fraction(value) if isinstance(value, str | int) else value


def _exact() -> tuple[Any, ...]:
    from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

    schema = WithJsonSchema({"type": "string", "pattern": r"^-?\d+(/\d+)?$"})
    return BeforeValidator(_to_fraction), PlainSerializer(str, return_type=str), schema


Exact = Annotated[Fraction, Later(_exact)]
"""An exact number, written as `"217/100"`."""


class Artefact(Frozen):
    """A value a stage writes to the build directory. `inputs` maps each input's name to its digest."""

    format_version: str = FORMAT_VERSION
    inputs: dict[str, str] = {}

    def __post_init__(self) -> None:
        """Refuse a file written by another major format."""
        if self.format_version.split(".")[0] != FORMAT_VERSION.split(".")[0]:
            raise ValueError(
                f"format {self.format_version} is not readable by this version (needs {FORMAT_VERSION})"
            )


class Declaration(Frozen):
    """A declaration of a program: its name, its comment and the place of its head."""

    name: str
    doc: str = ""
    where: Where
