"""Base class of every artefact, and exact numbers in JSON."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any

from puzzledsl.base.frozen import Checks, Frozen
from puzzledsl.ir.source_location import Where

FORMAT_VERSION = "1.0"


def _to_fraction(value: object) -> object:
    return Fraction(value) if isinstance(value, str | int) else value


def _exact(pydantic: Any) -> tuple[Any, ...]:
    schema = pydantic.WithJsonSchema({"type": "string", "pattern": r"^-?\d+(/\d+)?$"})
    return pydantic.BeforeValidator(_to_fraction), pydantic.PlainSerializer(str, return_type=str), schema


Exact = Annotated[Fraction, Checks(_exact)]
"""An exact number, written as `"217/100"`."""


def _readable(version: str) -> str:
    if version.split(".")[0] != FORMAT_VERSION.split(".")[0]:
        raise ValueError(f"format {version} is not readable by this version (needs {FORMAT_VERSION})")
    return version


class Artefact(Frozen):
    """A value a stage writes to the build directory. `inputs` maps each input's name to its digest.

    A file written by another major format is refused.
    """

    format_version: Annotated[str, Checks(lambda p: [p.AfterValidator(_readable)])] = FORMAT_VERSION
    inputs: dict[str, str] = {}


class Declaration(Frozen):
    """A declaration of a program: its name, its comment and the place of its head."""

    name: str
    doc: str = ""
    where: Where
