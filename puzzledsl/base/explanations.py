"""Explanation of a diagnostic code: its class's summary, and what its golden file says.

`errors/CODE.md` holds a paragraph, a wrong program, the message about it word for word, and a right program.
"""

from __future__ import annotations

import re
import textwrap

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.frozen import record
from puzzledsl.base.resources import resource

_GOLDEN = re.compile(
    r"(?P<text>.*?)\n\n```(\w+) wrong\n(?P<wrong>.*?)\n```\n\n"
    r"```text\n(?P<said>.*?)\n```\n\n```(\w+) right\n(?P<right>.*?)\n```\n",
    re.DOTALL,
)


@record
class Explanation:
    """The explanation of one code. `said` is the message about the wrong example. Codes of other packages have only a summary."""

    code: str
    severity: str
    message: str
    summary: str
    text: str = ""
    wrong: str = ""
    said: str = ""
    right: str = ""

    @classmethod
    def of(cls, kind: type[Diagnostic]) -> Explanation:
        """Read the golden file of a diagnostic. Raises ValueError for one that has another form."""
        summary = (kind.__doc__ or "").split("\n", 1)[0]
        message = re.sub(
            r"\{\{|\}\}", lambda m: m.group()[0], re.sub(r"(?<!\{)\{\w+[^{}]*\}", "…", kind.template)
        )
        try:
            golden = resource("errors", f"{kind.code}.md").read_text("utf-8")
        except FileNotFoundError:
            return cls(kind.code, kind.severity, message, summary)
        found = _GOLDEN.fullmatch(golden)
        if found is None:
            raise ValueError(
                f"errors/{kind.code}.md is no paragraph, wrong program, message and right program"
            )
        text = "\n\n".join(" ".join(part.split()) for part in found["text"].split("\n\n"))
        return cls(
            kind.code, kind.severity, message, summary, text, found["wrong"], found["said"], found["right"]
        )

    def as_text(self) -> str:
        """Return the explanation for a terminal."""
        head = f"{self.severity}[{self.code}]: {self.message}\n\n{self.summary}\n"
        if not self.wrong:
            return head
        body = "\n\n".join(textwrap.fill(part, 100) for part in self.text.split("\n\n"))
        return f"{head}\n{body}\n\nWrong:\n\n{_indented(self.wrong)}\n\nRight:\n\n{_indented(self.right)}\n"

    def as_markdown(self) -> str:
        """Return the explanation for the reference, a paragraph; the programs are in the golden file."""
        return f"### {self.code}: {self.message}\n\n{self.summary} {self.text}".rstrip() + "\n"


def _indented(text: str) -> str:
    """Indent a text as a Markdown code block."""
    return "\n".join(f"    {line}".rstrip() for line in text.split("\n"))
