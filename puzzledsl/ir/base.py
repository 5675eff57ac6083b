"""Base classes of artefacts and declarations, source places, and exact numbers in JSON."""

from fractions import Fraction
from typing import Annotated, Any

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.frozen import Checks, Frozen

FORMAT_VERSION = "1.0"


def _exact(pydantic: Any) -> tuple[Any, ...]:
    read = pydantic.BeforeValidator(lambda value: Fraction(value) if isinstance(value, str | int) else value)
    schema = pydantic.WithJsonSchema({"type": "string", "pattern": r"^-?\d+(/\d+)?$"})
    return read, pydantic.PlainSerializer(str, return_type=str), schema


Exact = Annotated[Fraction, Checks(_exact)]  # An exact number, written as `"217/100"`.


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


class Where(Frozen):
    """The source place of an IR node: 1-based code points, end exclusive. `text` is the source that it covers."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    text: str = ""


def span_of(where: Where, file: str | None = None) -> Span:
    """Return a place as a span for diagnostics. `file`: another name for its file."""
    return Span(file or where.file, where.line, where.column, where.end_line, where.end_column)


PROVENANCE = frozenset({"where", "runtime_where", "bound_where", "doc", "because", "name"})
"""Fields that say nothing of what a declaration means."""


def without_provenance(dumped: Any) -> Any:
    """Return a dumped declaration, or a part of one, without its name, comments and places."""
    if isinstance(dumped, dict):
        return {key: without_provenance(part) for key, part in dumped.items() if key not in PROVENANCE}
    return [*map(without_provenance, dumped)] if isinstance(dumped, list) else dumped


class Declaration(Frozen):
    """A declaration of a program: its name, its comment and the place of its head."""

    name: str
    doc: str = ""
    where: Where
