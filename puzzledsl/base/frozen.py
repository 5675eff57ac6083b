"""Base class of values that are compared by content: frozen, without unknown keys, one canonical JSON text."""

from __future__ import annotations

import hashlib
import json
from typing import Self

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A hashable value that compares by content."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, defer_build=True)

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
