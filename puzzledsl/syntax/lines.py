"""A line of source as the formatter lays it out: its tokens and the blanks between them."""

from __future__ import annotations

from dataclasses import dataclass, field

from puzzledsl.syntax.tokens import Token


@dataclass(slots=True)
class Line:
    """One line of the source. `gaps[i]` are the blanks before `tokens[i]`."""

    tokens: list[Token]
    comment: Token | None = None
    gaps: list[int] = field(default_factory=list)
    indent: int = 0
    continues: bool = False
    comment_gap: int = 2

    @property
    def code(self) -> str:
        """The line without its comment."""
        text = "".join(" " * gap + token for gap, token in zip(self.gaps, self.tokens, strict=True))
        return " " * self.indent + text if self.tokens else ""

    @property
    def is_blank(self) -> bool:
        """Return True for a line without tokens and comment."""
        return not self.tokens and self.comment is None

    def __str__(self) -> str:
        if self.comment is None:
            return self.code
        gap = " " * (self.comment_gap if self.tokens else self.indent)
        return self.code + gap + self.comment.rstrip()
