"""Random edits of a text, as a user types them, and the comparison of an incremental check with a full one."""

from __future__ import annotations

import random
from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic, Sink
from puzzledsl.checker.check import Checked, inspect
from puzzledsl.checker.context import Context
from puzzledsl.server.document import Project
from puzzledsl.server.trees import Parts, same
from puzzledsl.syntax.parse import parse

PIECES = (
    "{", "}", "(", ")", "[", "]", "\n", "\n\n", "  ", " ", "=", ",", ":", "|", '"', "#", "## doc\n", "/*", "*/", "\t", "\r\n",
    "1", "%", "..", "x", "-> ", "|=", "&=", "&&", ";", "//c\n", " is noop", "and ", "not ", "if ", "layers[0]", "require ",
    "minimize kl\n", "let x = 1\n", "search q of w {\n", "}\n", "space ", "use ", "for i in 1..3 {", "fn f(x) = x\n",
    "param p: Ratio = 1\n", "assert 1 == 1\n", "serach z of y\n", "'a'", ' because "z"',
)  # fmt: skip


def edited(text: str, chance: random.Random) -> str:
    """Return the text after one random edit: something inserted, removed, moved or written twice."""
    at, lines = chance.randrange(len(text) + 1), text.split("\n")
    match chance.randrange(8):
        case 0 | 1:
            return text[:at] + chance.choice(PIECES) + text[at:]
        case 2:
            return text[:at] + text[at + chance.choice((1, 1, 1, 2, 5, 20)) :]
        case 3:
            del lines[chance.randrange(len(lines))]
        case 4:
            lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
        case 5:
            start = chance.randrange(len(text) + 1)
            return text[:at] + text[start : start + chance.randrange(60)] + text[at:]
        case 6:
            number = chance.randrange(len(lines))
            lines[number] = " " * chance.randrange(3) + lines[number].lstrip()
        case _:
            digits = [i for i, sign in enumerate(text) if sign.isdigit()]
            at = chance.choice(digits) if digits else at
            return text[:at] + chance.choice("123456789") + text[at + 1 :]
    return "\n".join(lines)


def shown(diagnostics: list[Diagnostic] | tuple[Diagnostic, ...]) -> list[object]:
    """Return everything that a user sees of diagnostics."""
    return [
        (d.code, d.span, d.message, d.label, d.help, d.notes, d.fixes, d.secondary, d.severity)
        for d in diagnostics
    ]


def parses_alike(parts: Parts, text: str) -> bool:
    """Return True if the incremental parser reads a text as the parser does."""
    plain, own = Sink(), Sink()
    module, found = parse(text, "f.pzl", plain), parts.parse(text, "f.pzl", own)
    return same(module, found) and module.broken == found.broken and shown(plain.items) == shown(own.items)


def _all_of(found: tuple[Checked, Context | None]) -> list[object]:
    checked, ctx = found
    program = None if checked.program is None else checked.program.model_dump_json()
    lowered = {} if ctx is None else {s.name: repr(node) for s, node in ctx.lowered.items()}
    known = {} if ctx is None else {s.name: sorted(scope.names) for s, scope in ctx.scopes.items()}
    return [program, shown(checked.diagnostics), checked.sources, lowered, known]


def checks_alike(project: Project, path: Path, text: str) -> bool:
    """Return True if an editor's check of the next version of a text finds what a check of it alone does."""
    document = project.open(path.as_uri(), text)
    return _all_of(document.inspected) == _all_of(inspect(path, {}, project.unsaved(document)))
