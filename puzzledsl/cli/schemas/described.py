"""Description of one JSON document: its name, its place, the model of its content, and the JSON schema made from it.

Models of the build directory's files that no stage reads as an artefact: the log, caches, records of training.
"""

from __future__ import annotations

import re
from fnmatch import translate
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, RootModel, TypeAdapter

from puzzledsl.base.frozen import record
from puzzledsl.ir.base import FORMAT_VERSION
from puzzledsl.ir.tables import Piece

Form = Literal["JSON", "JSON lines", "sealed JSON lines"]
"""A sealed line ends with a tab and the first 16 digits of its SHA-256, so that a torn line is noticed."""


class Output(BaseModel):
    """Content of a document that is not read back. A field with a default may be absent."""

    model_config = ConfigDict(extra="forbid")


@record
class Described:
    """One kind of document.

    `place`: a file of the build directory with `*` for a name, or `pzl COMMAND`. `kind`: the model, or type, of the document; of
    one line where the form has lines. `about`: a sentence where `kind` has no docstring of its own.
    """

    name: str
    place: str
    kind: Any
    form: Form = "JSON"
    about: str = ""

    @property
    def is_output(self) -> bool:
        """True for the `--json` output of a command."""
        return self.place.startswith("pzl ")

    @property
    def text(self) -> str:
        """Description of the content in a sentence or two."""
        described = self.about or (self.kind.__doc__ or "")
        return " ".join(described.split("\n\n")[0].split())

    def holds(self, relative: str) -> bool:
        """True if a path, relative to the build directory, is of this kind. A `*` matches within one folder."""
        pattern = translate(self.place).replace(".*", "[^/]*")
        return not self.is_output and re.match(pattern, relative) is not None

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema. The same program gives the same bytes."""
        written = isinstance(self.kind, type) and not issubclass(self.kind, Output)
        made = TypeAdapter(self.kind).json_schema(mode="serialization" if written else "validation")
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:puzzledsl:schema:{self.name}-{FORMAT_VERSION}",
            **made,
            **({"description": self.about} if self.about else {}),
        }


class LogLine(BaseModel):
    """One event of a run: `start`, `progress`, `end`, `fresh` of a task, and what stages report. Events have own fields."""

    model_config = ConfigDict(extra="allow")

    time: str
    event: str
    stage: str | None = None
    name: str | None = None
    seconds: float | None = None
    text: str | None = None


class FiguresKey(Output):
    """The first line: everything that the figures depend on, as JSON in a text."""

    key: str


class FiguresLine(RootModel[FiguresKey | tuple[int, str, str, dict[str, float]]]):
    """The layer, the table, the alternative, and what was measured under each name; the first line is the key."""


class UptrainRecord(Output):
    """Record of an uptraining. KLs to the parent in nats on held-out text; `best_step` is the step whose weights were kept."""

    uptrain: str
    dtype: str
    peak_rate: float
    steps: int
    tokens: int
    heldout_tokens: int
    heldout_kl: dict[str, float]
    heldout_kl_before: float
    heldout_kl_after: float
    best_step: int


class PieceLine(Piece):
    """A piece, with the first 16 digits of the SHA-256 of the rest of the line, so that a changed one is noticed."""

    check: str
