"""Base class of every artefact: frozen, without unknown keys, exact numbers, one canonical JSON text."""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

FORMAT_VERSION = "1.0"


def _to_fraction(value: object) -> object:
    return Fraction(value) if isinstance(value, str | int) else value


Exact = Annotated[
    Fraction,
    BeforeValidator(_to_fraction),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^-?\d+(/\d+)?$"}),
]
"""An exact number, written as `"217/100"`."""


class Frozen(BaseModel):
    """A hashable value that compares by content."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

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
        return cls.model_validate_json(text)


class Artefact(Frozen):
    """A value a stage writes to the build directory. `inputs` maps each input's name to its digest."""

    format_version: str = FORMAT_VERSION
    inputs: dict[str, str] = {}

    def model_post_init(self, context: Any) -> None:
        """Refuse a file written by another major format."""
        if self.format_version.split(".")[0] != FORMAT_VERSION.split(".")[0]:
            raise ValueError(
                f"format {self.format_version} is not readable by this version (needs {FORMAT_VERSION})"
            )
