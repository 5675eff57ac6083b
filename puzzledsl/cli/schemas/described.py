"""Description of one JSON document: its name, its place, the model of its content, and the JSON schema made from it."""

from __future__ import annotations

import re
from fnmatch import translate
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from puzzledsl.base.frozen import record
from puzzledsl.ir.base import FORMAT_VERSION

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
