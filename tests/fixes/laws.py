"""The laws: a fix adds no error, leaves text that parses, and keeps what the lines beside it mean.

Safe fixes that leave no mistake, of a mutation with one reading, give back the program from before the mutation. A name
that is misspelt where it is declared may stay.

A declaration is unaffected by a fix if no edit is on its lines, no mistake is on them, and it names no declaration that is
affected. Its lowered IR must be the same before and after.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from puzzledsl.base.diagnostics import Diagnostic, Fix, Sink, apply
from puzzledsl.checker.check import inspect
from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions.values import Symbol
from puzzledsl.cli.checking import FixRun
from puzzledsl.language.words import KEYWORDS
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import parse
from tests.checker.programs import without_source
from tests.fixes.corpus import Broken

_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Outcome:
    """The answer to one text of a program."""

    text: str
    diagnostics: tuple[Diagnostic, ...]
    context: Context | None

    @property
    def errors(self) -> list[Diagnostic]:
        """The mistakes, without warnings."""
        return [d for d in self.diagnostics if d.severity == "error"]


def look_at(path: Path, text: str) -> Outcome:
    """Check a text as if the file at `path` held it."""
    checked, context = inspect(path, {}, {os.path.realpath(path): text})
    return Outcome(text, checked.diagnostics, context)


@dataclass
class Tally:
    """Counts of what was tried, and the problems that were found."""

    programs: int = 0
    refused: int = 0
    fixes: int = 0
    repaired: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count what another has found, too."""
        self.programs += other.programs
        self.refused += other.refused
        self.fixes += other.fixes
        self.repaired += other.repaired
        self.problems += other.problems


def hold(broken: Broken) -> Tally:
    """Try every fix of a program, and `pzl check --fix`."""
    before = look_at(broken.path, broken.text)
    tally = Tally(programs=1, refused=int(bool(before.errors)))
    for diagnostic in before.diagnostics:
        found = [f"quotes {text!r}, which does not parse" for text in misquoted(diagnostic)]
        for fix in diagnostic.fixes:
            if all(edit.span.file == str(broken.path) for edit in fix.edits):
                tally.fixes += 1
                found += _wrong(broken, before, diagnostic, fix)
        tally.problems += [f"{broken}: {diagnostic!r}: {problem}" for problem in found]
    fix_run = FixRun(broken.path, {}, {str(broken.path): broken.text})
    fix_run.run()
    if fix_run.made:
        problems = list(_wrong_run(broken, before, fix_run))
        tally.problems += [f"{broken}: {[str(m) for m in fix_run.made]} {problem}" for problem in problems]
        tally.repaired += not look_at(broken.path, fix_run.texts[str(broken.path)]).errors
    return tally


def _wrong(broken: Broken, before: Outcome, diagnostic: Diagnostic, fix: Fix) -> Iterator[str]:
    after = look_at(broken.path, apply(broken.text, [fix]))
    shown = f"{fix.title!r} (safe: {fix.safe})"
    if len(after.errors) > len(before.errors):
        added = [repr(d) for d in after.errors if repr(d) not in {repr(b) for b in before.errors}]
        yield f"{shown} adds errors: {added}"
    if _syntax(after) > _syntax(before):
        yield f"{shown} does not parse"
    if diagnostic.severity == "error" and repr(diagnostic) in map(repr, after.diagnostics):
        yield f"{shown} leaves the mistake"
    yield from (f"{shown} {p}" for p in changed_meanings(before, after, _edited_lines([fix])))


def _wrong_run(broken: Broken, before: Outcome, fix_run: FixRun) -> Iterator[str]:
    """Yield what is wrong with `pzl check --fix`. Where it leaves no mistake, the program is what it was without one."""
    after = look_at(broken.path, fix_run.texts[str(broken.path)])
    if len(after.errors) > len(before.errors):
        yield f"add errors: {after.errors}"
    if before.errors and not after.errors and not broken.has_two_readings:
        right = json.dumps(_meanings(look_at(broken.path, broken.right)), sort_keys=True)
        made = json.dumps(_meanings(after), sort_keys=True)
        if right not in (made, _renamed(made, broken)):
            yield "make another program than the one without the mistake"
    edited = _edited_lines([made.fix for made in fix_run.made])
    yield from changed_meanings(before, after, edited)


def _renamed(text: str, broken: Broken) -> str:
    """Return a text with the right name in place of a misspelt one: uses may be made to agree with a declaration."""
    wrong, right = (_WORD.findall(text) for text in (broken.text, broken.right))
    changed = {(one, other) for one, other in zip(wrong, right, strict=False) if one != other}
    if len(wrong) != len(right) or len(changed) != 1:
        return text
    (misspelt, meant) = changed.pop()
    renamed = re.sub(rf"\b{misspelt}\b", meant, text)
    return json.dumps(json.loads(renamed), sort_keys=True)  # in the order of the right names


def _syntax(outcome: Outcome) -> int:
    return sum(d.code < "E02" for d in outcome.errors)


def _edited_lines(fixes: Iterable[Fix]) -> set[int]:
    spans = [edit.span for fix in fixes for edit in fix.edits]
    return {line for span in spans for line in range(span.line, span.end_line + 1)}


# ---------------------------------------------------------------- meanings


def changed_meanings(before: Outcome, after: Outcome, edited: set[int]) -> Iterator[str]:
    """Yield the unaffected declarations whose IR is another after a fix."""
    old, new = _meanings(before), _meanings(after)
    for name in sorted(_unaffected(before, after, edited) & old.keys()):
        if name not in new:
            yield f"loses `{name}`"
        elif old[name] != new[name]:
            yield f"changes `{name}`"


def _meanings(outcome: Outcome) -> dict[str, Any]:
    """Lowered declarations of the program's own file, without places."""
    ctx = outcome.context
    if ctx is None:
        return {}
    return {
        symbol.name: without_source(node.model_dump(mode="json"))  # type: ignore[attr-defined]
        for symbol, node in ctx.lowered.items()
        if node is not None and symbol.file is ctx.root
    }


def _unaffected(before: Outcome, after: Outcome, edited: set[int]) -> set[str]:
    """Names of the declarations that no edit and no mistake is on, and that name none of the others."""
    assert before.context is not None
    marked = [span for d in before.errors for span in (d.span, *(s.span for s in d.secondary)) if span]
    touched = edited | {line for span in marked for line in range(span.line, span.end_line + 1)}
    uses: dict[str, set[str]] = {}
    affected: set[str] = set()
    lines = before.text.split("\n")
    for item in before.context.root.module.items:
        names = _declares(item)
        body = range(item.span.line, item.span.end_line + 1)
        if touched.intersection(body):
            affected |= names
        words = set(_WORD.findall("\n".join(lines[item.span.line - 1 : item.span.end_line])))
        for name in names:
            uses.setdefault(name, set()).update(words - {name})
    known = set(_names(before))
    affected |= known ^ set(_names(after))
    while more := {n for n, words in uses.items() if n not in affected and words & affected}:
        affected |= more
    return known - affected


def _names(outcome: Outcome) -> Iterator[str]:
    assert outcome.context is not None
    root = outcome.context.root
    return (name for name, symbol in root.names.items() if isinstance(symbol, Symbol) and symbol.file is root)


def _declares(item: tree.Item) -> set[str]:
    match item:
        case tree.Use():
            return {n.text for n in item.names} | ({item.alias.text} if item.alias else set())
        case tree.Assert():
            return set()
        case _:
            return {item.name.text}


# ---------------------------------------------------------------- code that a help quotes

PLACES = (
    "{}",
    "let a = {}",
    "let a = f({})",
    "let a = layers[{}]",
    "let a = b is {}",
    "let a {}",
    "{} = a",
    "search s of w {{ {} }}",
    "search s of w {{ a {} b }}",
    "search s of w {{ require {} }}",
    "search s of w {{ require a {} b }}",
    "search s of w {{ require a {} }}",
    "search s {} {{ }}",
    "param a: {}",
    "param a: {} = b",
    "scenario a {} b = c",
    "let a = if {} else b",
    "let a = if b {} c else d",
    "let a = if b then c {} d then e else f",
    "for {}",
)
"""Places of a program that a piece of code can stand in."""

_MARKS = {*'{}()[]|,:.="#', "..", "->", "|=", "-=", "&=", "s", "x"}


def misquoted(diagnostic: Diagnostic) -> list[str]:
    """Return the pieces of code that a help quotes and that stand nowhere in the language."""
    return [piece for piece in re.findall(r"`([^`]+)`", diagnostic.help) if not _stands_somewhere(piece)]


def _stands_somewhere(piece: str) -> bool:
    if piece.startswith(("pzl ", "pip ", "--", "/")) or piece in _MARKS or piece in KEYWORDS:
        return True
    text = piece.replace("{ … }", "{ x = x }").replace("…", "x")
    for place in PLACES:
        parse(place.format(text) + "\n", "quoted.pzl", sink := Sink())
        if not sink.has_errors:
            return True
    return False
