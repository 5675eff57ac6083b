"""Diagnostics: spans, labels and fixes, and applying fixes to a text. Imports nothing from the package: every layer uses it.

A user's mistake is data. A `Mistake` is a kind of mistake: a code with a message and often a help line. A `Diagnostic` is one
mistake at a place. Stages collect diagnostics in a `Sink`, so that one run reports them all. `pzl check --fix` and an editor's
code actions apply a diagnostic's `Fix`es: all that do not overlap, each completely or not at all. Kinds that both the checker
and a later stage report are defined at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, ClassVar, Literal, Self

from puzzledsl.base.frozen import Record


def safe_fixes(diagnostics: Iterable[Diagnostic], file: str) -> list[tuple[Diagnostic, Fix]]:
    """Return the diagnostics that have exactly one safe fix, each with it, if it edits only `file`. Of several a user chooses."""
    found = []
    for diagnostic in diagnostics:
        safe = [fix for fix in diagnostic.fixes if fix.safe and fix.edits]
        if len(safe) == 1 and all(edit.span.file == file for edit in safe[0].edits):
            found.append((diagnostic, safe[0]))
    return found


def compatible(fixes: Iterable[Fix]) -> list[Fix]:
    """Return the fixes that can be made together: of two that touch or overlap the first, of two with the same edits one."""
    taken: list[Edit] = []
    kept: list[Fix] = []
    for fix in fixes:
        if any(fix.edits == other.edits for other in kept):
            continue
        if not any(_touch(edit.span, other.span) for edit in fix.edits for other in taken):
            kept.append(fix)
            taken += fix.edits
    return kept


def apply(text: str, fixes: Iterable[Fix]) -> str:
    """Return the text of a file with `compatible` fixes made, which must all edit this file.

    As in the parser, a line ends with a line feed, and columns count code points.
    """
    lengths = [len(line) + 1 for line in text.split("\n")]
    starts = [0, *accumulate(lengths)]

    def offset(place: Span) -> int:
        """Return the offset of the start of a span, clamped to the ends of the text."""
        row = min(max(place.line - 1, 0), len(starts) - 2)
        return min(starts[row] + max(place.column - 1, 0), starts[row + 1] - 1, len(text))

    made = [edit for fix in fixes for edit in fix.edits]
    edits = sorted({(offset(e.span.start), offset(e.span.end), e.text) for e in made})
    out: list[str] = []
    at = 0
    for start, stop, replacement in edits:
        out += [text[at:start], replacement]
        at = max(stop, at)
    return "".join([*out, text[at:]])


def _touch(one: Span, other: Span) -> bool:
    """Return True if two spans share a character or an end, so that the result of edits would depend on their order."""
    begins = (one.line, one.column) <= (other.end_line, other.end_column)
    ends = (other.line, other.column) <= (one.end_line, one.end_column)
    return one.file == other.file and begins and ends


Severity = Literal["error", "warning"]
Args = dict[str, Any]  # Arguments of a diagnostic's templates.


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A range of a source file. Lines and columns are 1-based code points; the end is exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    @property
    def start(self) -> Span:
        """The empty span at the start of this one."""
        return Span(self.file, self.line, self.column, self.line, self.column)

    @property
    def end(self) -> Span:
        """The empty span at the end of this one."""
        return Span(self.file, self.end_line, self.end_column, self.end_line, self.end_column)

    def to(self, other: Span) -> Span:
        """Return the smallest span that covers this one and `other` (of the same file)."""
        start = min((self.line, self.column), (other.line, other.column))
        end = max((self.end_line, self.end_column), (other.end_line, other.end_column))
        return Span(self.file, *start, *end)

    def cut(self, lines: Sequence[str]) -> str:
        """Return the text of this span, given all lines of its file."""
        found = list(lines[self.line - 1 : self.end_line])
        if found:
            found[-1] = found[-1][: self.end_column - 1]
            found[0] = found[0][self.column - 1 :]
        return "\n".join(found)


class Label(Record):
    """A span with a short text under it: `^^^^ a number, no unit`."""

    span: Span
    text: str = ""


class Near(str):
    """A suggested spelling. `alone`: no other name is as close, so that a fix which writes it is safe."""

    __slots__ = ("alone",)
    alone: bool

    def __new__(cls, text: str, *, alone: bool) -> Near:
        """Make a suggestion of `text`; for `alone` see the class."""
        near = super().__new__(cls, text)
        near.alone = alone
        return near


class Edit(Record):
    """Replacement of a span by `text`; an empty span inserts."""

    span: Span
    text: str


class Fix(Record):
    """One fix of a mistake: edits of one file that are applied together.

    `title` is its text in an editor's menu. A `safe` fix is certainly the intended text, and `pzl check --fix`
    applies it; any other is only offered.
    """

    title: str
    edits: tuple[Edit, ...]
    safe: bool = True

    @classmethod
    def replace(cls, span: Span, text: str, title: str = "", *, safe: bool = True) -> Self:
        """Return a fix that replaces a span by `text`."""
        return cls(title or (f"write `{text}`" if text else "remove it"), (Edit(span, text),), safe)

    @classmethod
    def insert(cls, before: Span, text: str, *, safe: bool = True) -> Self:
        """Return a fix that inserts `text` before a span."""
        return cls.replace(before.start, text, f"insert `{text}`", safe=safe)


MAX_SHOWN = 300  # Longest part of the user's text that a message quotes, in characters; the rest is cut.


class Mistake(Record):
    """A kind of mistake: `E0301` is an error, `W0412` a warning. Calling it with arguments of its templates gives a `Diagnostic`.

    Its golden file, `errors/CODE.md`, has a summary, an explanation, a wrong program with its message, and a right program.
    """

    code: str
    template: str
    help_template: str = ""
    registry: ClassVar[dict[str, Mistake]] = {}

    def __post_init__(self) -> None:
        """Add it to `registry`. Raises TypeError if another kind has the same code."""
        other = Mistake.registry.setdefault(self.code, self)
        if other != self:
            raise TypeError(f"{self.code} is both {other.template!r} and {self.template!r}")

    @property
    def severity(self) -> Severity:
        """`warning` for a code that begins with W, else `error`. Errors end a command, warnings do not."""
        return "warning" if self.code.startswith("W") else "error"

    def __call__(
        self,
        span: Span | None,
        label: str = "",
        *,
        help: str | None = None,
        near: Near | None = None,
        fixes: Iterable[Fix] = (),
        secondary: Iterable[Label] = (),
        notes: Iterable[str] = (),
        **args: object,
    ) -> Diagnostic:
        """Return a mistake of this kind; `near`: a spelling to replace the text of `span`, which becomes the help and a fix."""
        long = {k: value for k, value in args.items() if isinstance(value, str) and len(value) > MAX_SHOWN}
        shown = args | {key: f"{value[:MAX_SHOWN]}…" for key, value in long.items()}
        message = self.template.format(**shown)
        help = self.help_template.format(**shown) if help is None else help
        mends = tuple(fixes)
        if near is not None:
            help = f"did you mean `{near}`?"
            mends += (Fix.replace(span, near, safe=near.alone),) if span is not None else ()
        return Diagnostic(self, span, label, message, help, mends, tuple(secondary), tuple(notes), args)


@dataclass(slots=True, eq=False)
class Diagnostic:
    """One mistake: `code`, `severity`, `message` and `help`. `span` is underlined with `^`, each `secondary` label with `-`."""

    kind: Mistake
    span: Span | None
    label: str
    message: str
    help: str
    fixes: tuple[Fix, ...]
    secondary: tuple[Label, ...]
    notes: tuple[str, ...]
    args: Args

    @property
    def code(self) -> str:
        """The code of its kind."""
        return self.kind.code

    @property
    def severity(self) -> Severity:
        """The severity of its kind."""
        return self.kind.severity

    def __repr__(self) -> str:
        return f"{self.code}({self.message!r} at {self.span})"

    @property
    def sort_key(self) -> tuple[str, int, int, str, str]:
        """Sort key by source position, then by code. It makes reports deterministic."""
        at = self.span
        where = (at.file, at.line, at.column) if at else ("", 0, 0)
        return (*where, self.code, self.message)


class DiagnosticError(Exception):
    """Ends a stage with a user's mistakes. The CLI renders the diagnostics and exits with 1."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__("; ".join(d.message for d in diagnostics))
        self.diagnostics = tuple(diagnostics)

    def __reduce__(self) -> tuple[type[DiagnosticError], tuple[Diagnostic, ...]]:
        """Pickle the exception by its diagnostics, because it may come from another process."""
        return type(self), self.diagnostics


@dataclass(slots=True)
class Sink:
    """Collector of diagnostics. One with the place, code and message of an earlier one is left out."""

    items: list[Diagnostic] = field(default_factory=list)
    _seen: set[tuple[str, int, int, str, str]] = field(default_factory=set)

    def add(self, diagnostic: Diagnostic) -> None:
        """Record a diagnostic unless one with the same sort key was recorded before."""
        if diagnostic.sort_key not in self._seen:
            self._seen.add(diagnostic.sort_key)
            self.items.append(diagnostic)

    def drop(self, lines: range) -> None:
        """Remove the diagnostics whose spans begin on these lines, since one that follows covers them all."""
        self.items = [d for d in self.items if d.span is None or d.span.line not in lines]

    @property
    def has_errors(self) -> bool:
        """True if at least one recorded diagnostic is an error."""
        return any(d.severity == "error" for d in self.items)

    def sorted(self) -> list[Diagnostic]:
        """Return all diagnostics in source order."""
        return sorted(self.items, key=lambda d: d.sort_key)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.sorted())


EndsNotTaken = Mistake(
    "E0418", "{what} cannot have the {ends} of space `{space}` in another type: {why}", "{help}"
)
JudgedOnWhatIsRead = Mistake(
    "E0419",
    "judge `{judge}` reads {what} that {reader} reads, too{found}",
    "keep them apart: `part: 0%..95%` of the files for one, `part: 95%..100%` for the other",
)
RecipeOfQuantised = Mistake(
    "E0475",
    "the recipe `{recipe}` chooses the type of every matrix, and sub-blocks have their own: {types}",
    "write `dtype: f16`, the type of the other matrices; or leave `dtype` out of the space",
)
CannotRealise = Mistake(
    "E0711",
    "`{alternative}` cannot yet be realised as a module",
    "it can be costed and searched, but not trained, scored or exported; leave it out of the space, or give it the file "
    "that docs/howto/add-alternative.md describes",
)
UnknownTokenizer = Mistake(
    "E0737",
    "the tokenizer of `{path}` cannot be written to a GGUF file: {reason}",
    'export with `hf("…")`; llama.cpp would split text otherwise than the parent does',
)
NoPieceForAlternative = Mistake(
    "E1501",
    "score `{score}`: bld `{bld}` makes no piece for {what} in layer {layer}",
    "write `train = attention + ffn` (or `attention * ffn`) in `{bld}`, or leave the alternative out of the space",
)
SeveralGpus = Mistake(
    "E1803",
    "hardware `{name}` asks for {gpus} GPUs; costs are measured on one",
    "write `gpus: 1`, or use a profile for tensor parallel hardware",
)
