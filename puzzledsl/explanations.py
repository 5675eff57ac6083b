"""What a code means, with a wrong and a right example: all of it stands in the diagnostic's docstring.

A docstring is a line that says what is wrong, a paragraph, and two indented blocks, `Wrong:` and `Right:`.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from puzzledsl.diagnostics import Diagnostic

_PARTS = re.compile(r"(.*?)\n\n(.*?)\n\nWrong:\n(.*?)\nRight:\n(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Explanation:
    """One code, explained. `text`, `wrong` and `right` are empty where the docstring lacks them."""

    code: str
    severity: str
    message: str
    summary: str
    text: str
    wrong: str
    right: str

    @classmethod
    def of(cls, kind: type[Diagnostic]) -> Explanation:
        """What the docstring of a diagnostic says."""
        doc = inspect.cleandoc(kind.__doc__ or "")
        match = _PARTS.fullmatch(doc)
        summary, text, wrong, right = match.groups() if match else (doc, "", "", "")
        message = re.sub(
            r"\{\{|\}\}", lambda m: m.group()[0], re.sub(r"(?<!\{)\{\w+[^{}]*\}", "…", kind.template)
        )
        return cls(
            kind.code, kind.severity, message, summary, _flowing(text), _dedented(wrong), _dedented(right)
        )

    def as_text(self) -> str:
        """For a terminal."""
        head = f"{self.severity}[{self.code}]: {self.message}\n\n{self.summary}\n"
        body = f"\n{_wrapped(self.text)}\n" if self.text else ""
        examples = (
            f"\nWrong:\n\n{indented(self.wrong)}\n\nRight:\n\n{indented(self.right)}\n" if self.wrong else ""
        )
        return head + body + examples

    def as_hover(self) -> str:
        """For an editor: Markdown whose programs have their colours."""
        examples = (
            f"Wrong:\n```pzl\n{self.wrong}\n```\nRight:\n```pzl\n{self.right}\n```" if self.wrong else ""
        )
        return "\n\n".join(
            p for p in (f"**{self.code}**: {self.summary} {self.text}".rstrip(), examples) if p
        )

    def as_markdown(self) -> str:
        """For the reference."""
        return (
            f"### {self.code}: {self.message}\n\n{self.summary} {self.text}\n\n"
            f"Wrong:\n\n{indented(self.wrong)}\n\nRight:\n\n{indented(self.right)}\n"
        )


def _flowing(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _wrapped(text: str) -> str:
    import textwrap

    return "\n\n".join(textwrap.fill(part, 100) for part in text.split("\n\n"))


def _dedented(text: str) -> str:
    return inspect.cleandoc("\n" + text)


def indented(text: str) -> str:
    """A block of text as Markdown shows code."""
    return "\n".join(f"    {line}".rstrip() for line in text.split("\n"))
