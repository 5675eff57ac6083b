"""Explanation of a diagnostic code with a wrong and a right example, parsed from the diagnostic's docstring.

The docstring is a summary line, a paragraph, and two indented blocks, `Wrong:` and `Right:`.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from puzzledsl.base.diagnostics import Diagnostic

_PARTS = re.compile(r"(.*?)\n\n(.*?)\n\nWrong:\n(.*?)\nRight:\n(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation of one code. `text`, `wrong` and `right` are empty if the docstring lacks them."""

    code: str
    severity: str
    message: str
    summary: str
    text: str
    wrong: str
    right: str

    @classmethod
    def of(cls, kind: type[Diagnostic]) -> Explanation:
        """Parse the docstring of a diagnostic."""
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
        """Return the explanation for a terminal."""
        head = f"{self.severity}[{self.code}]: {self.message}\n\n{self.summary}\n"
        body = f"\n{_wrapped(self.text)}\n" if self.text else ""
        examples = (
            f"\nWrong:\n\n{indented(self.wrong)}\n\nRight:\n\n{indented(self.right)}\n" if self.wrong else ""
        )
        return head + body + examples

    def as_hover(self) -> str:
        """Return the explanation for an editor: Markdown with highlighted programs."""
        examples = (
            f"Wrong:\n```pzl\n{self.wrong}\n```\nRight:\n```pzl\n{self.right}\n```" if self.wrong else ""
        )
        return "\n\n".join(
            p for p in (f"**{self.code}**: {self.summary} {self.text}".rstrip(), examples) if p
        )

    def as_markdown(self) -> str:
        """Return the explanation for the reference."""
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
    """Indent a text as a Markdown code block."""
    return "\n".join(f"    {line}".rstrip() for line in text.split("\n"))
