"""State shared by the check of one program: diagnostics, the step budget and the declarations lowered so far.

A program that needs more work than the limits below is reported as a mistake, so that no check runs for ever.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from puzzledsl.base.diagnostics import Args, Diagnostic, Fix, Near, Sink, Span
from puzzledsl.base.units import Quantity
from puzzledsl.checker import errors
from puzzledsl.checker.expressions.values import Poison, Scope, SourceFile, SpaceInfo, Symbol, Value, describe
from puzzledsl.checker.names.names import Loader
from puzzledsl.ir.base import Where, span_of
from puzzledsl.syntax import tree

MAX_DEPTH = 120
"""Most levels of nested evaluations, such as a sum in a call in a `let`. Each level takes about five Python frames."""
MAX_STEPS = 200_000
"""Most evaluation steps of a whole program, as `Context.spend` counts them."""
MAX_INSTANCES = 20_000
"""Most elements of a range that one `for` or comprehension goes through."""
MAX_BITS = 900
"""Bits of a number's numerator or denominator."""
MAX_FORMULA = 10_000
"""Nodes of one logical formula."""
MAX_OPTIONS = 2_000
"""Options of one choice, after choices inside arguments are multiplied out."""
MAX_REQUIREMENTS = 20_000
MAX_CELLS = 10_000
"""Attention x FFN pairs of one layer, in a table made by an expression."""
CELLS_PER_STEP = 4
"""Cells of such a table that count as one step of evaluation."""
TERMS_PER_STEP = 4
"""Terms of a sum that count as one step of evaluation."""
T = TypeVar("T")
Evaluate = Callable[["Context", tree.Expr, Scope], Value]
Lower = Callable[["Context", Symbol], object]


class OutOfSteps(Exception):
    """Raised to end the check of a program that needs more than MAX_STEPS steps; the diagnostic is already reported."""


class Refused(Exception):
    """Raised where an expression, a setting or a statement has a mistake, which is already reported."""


@dataclass(slots=True, eq=False)
class Context:
    """The state of one check, which editors read afterwards.

    `lowered`: each declaration reached -> its node, None if it is too faulty; `infos`: a space or what is about one -> what is
    known of the space; `scopes`: a declaration -> the scope inside it; `unknown`: (file, name) -> uses of an undeclared name.
    """

    sink: Sink
    loader: Loader
    root: SourceFile
    evaluate: Evaluate
    lower_kind: dict[str, Lower]
    settings: Mapping[str, str]  # parameter -> its value as `--set` writes it
    lowered: dict[Symbol, object] = field(default_factory=dict)
    infos: dict[Symbol, SpaceInfo] = field(default_factory=dict)
    scopes: dict[Symbol, Scope] = field(default_factory=dict)
    names: dict[Symbol, str] = field(default_factory=dict)  # declaration -> its name in the IR
    taken: dict[str, Symbol] = field(default_factory=dict)  # the inverse of `names`
    pending: list[Symbol] = field(default_factory=list)  # referred to, and to be lowered
    busy: list[Symbol] = field(default_factory=list)  # being lowered, outermost first
    parameters: dict[str, str] = field(default_factory=dict)  # name -> the source of its value
    too_deep: set[tuple[str, int]] = field(default_factory=set)  # reported (file, line)
    unknown: dict[tuple[str, str], list[tuple[Span, Near | None]]] = field(default_factory=dict)
    written: dict[int, Quantity] = field(default_factory=dict)  # by id: numbers like the `-1` of `layers[-1]`
    compared: dict[Span, set[Quantity]] = field(default_factory=dict)  # constant sides of comparisons
    steps: int = 0
    depth: int = 0

    def report(self, diagnostic: Diagnostic) -> None:
        """Record one diagnostic, unless a syntax error on the same line probably caused it."""
        span = diagnostic.span
        if span is None or span.line not in self.file_of(span).error_lines:
            self.sink.add(diagnostic)

    def refuse(self, diagnostic: Diagnostic) -> Refused:
        """Record one diagnostic; return a Refused, which the caller raises to give up on the part with the mistake."""
        self.report(diagnostic)
        return Refused()

    def too_much(self, span: Span, what: str, limit: str, help: str = "") -> Refused:
        """Report that `what` exceeds `limit`, one of the checker's; return a Refused to raise, as `refuse` does."""
        return self.refuse(errors.TooMuch(span, what=what, limit=limit, help=help))

    def misplaced(self, span: Span, what: str, where: str, help: str = "") -> Refused:
        """Report that `what` is not allowed in `where`; return a Refused to raise, as `refuse` does."""
        return self.refuse(errors.Misplaced(span, what=what, where=where, help=help))

    def missing(self, span: Span, thing: str, what: str, help: str = "") -> Refused:
        """Report that `thing` lacks `what`, which it needs; return a Refused to raise, as `refuse` does."""
        return self.refuse(errors.MissingPart(span, thing=thing, what=what, help=help))

    def beyond(
        self, span: Span, what: str, condition: str, got: object, help: str = "", fixes: Sequence[Fix] = ()
    ) -> Refused:
        """Report that `what` must be `condition`, say `at least 1`, not `got`; return a Refused to raise, as `refuse` does."""
        said: Args = {"what": what, "condition": condition, "got": got}
        return self.refuse(errors.OutOfRange(span, help=help, fixes=fixes, **said))

    def wrong(
        self, span: Span, what: str, wanted: str, got: Value | str, help: str = "", fixes: Sequence[Fix] = ()
    ) -> Refused:
        """Report that `what` must be `wanted`, not `got`, unless `got` is POISON; return a Refused to raise, as `refuse` does."""
        if not isinstance(got, Poison):
            given = got if isinstance(got, str) else describe(got)
            self.report(errors.WrongType(span, what=what, wanted=wanted, got=given, help=help, fixes=fixes))
        return Refused()

    def attempt(self, read: Callable[..., T], *arguments: object) -> T | None:
        """Return `read(*arguments)`; None where that raises Refused, so that the caller goes on with the parts beside it."""
        try:
            return read(*arguments)
        except Refused:
            return None

    def all(self, read: Callable[..., T], parts: Iterable[object], *rest: object) -> list[T]:
        """Return `read(self, part, *rest)` of each part. If some parts are refused, raise Refused once all of them are read."""
        found = [self.attempt(read, self, part, *rest) for part in parts]
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            raise Refused
        return known

    def trial(self, read: Callable[[], T]) -> tuple[T, list[Diagnostic]]:
        """Call `read` without reporting anything; return its result and the diagnostics that it made."""
        sink, self.sink = self.sink, Sink()
        try:
            return read(), self.sink.items
        finally:
            self.sink = sink

    def where(self, span: Span) -> Where:
        """Return a span as a place of the IR, with its source text."""
        file = self.file_of(span)
        ends = {key: getattr(span, key) for key in ("line", "column", "end_line", "end_column")}
        return Where(file=file.shown, text=file.source(span), **ends)

    def span_of(self, where: Where) -> Span:
        """Return the span of a place of the IR, which names its file by `SourceFile.shown`."""
        files = self.loader.files.values()
        return span_of(where, next((f.file for f in files if f.shown == where.file), None))

    def file_of(self, span: Span) -> SourceFile:
        """Return the file that contains a span; the main file if none has its name."""
        return self.file_named(span.file) or self.root

    def file_named(self, name: str) -> SourceFile | None:
        """Return the file of this name in spans; None if there is none."""
        return next((f for f in self.loader.files.values() if f.file == name), None)

    def symbol_at(self, place: tuple[str, int, int]) -> Symbol | None:
        """Return the declaration at a `Symbol.place` (file key, line, column); None if there is none."""
        file = self.loader.files.get(place[0])
        return None if file is None else next((s for s in file.symbols() if s.place == place), None)

    def source(self, span: Span) -> str:
        """Return the source text of a span."""
        return self.file_of(span).source(span)

    def operand(self, span: Span) -> str:
        """Return an expression's source text joined into one line, with the parentheses right around it, if any."""
        file = self.file_of(span)
        before = file.lines[span.line - 1][: span.column - 1].rstrip()
        behind = file.lines[span.end_line - 1][span.end_column - 1 :].lstrip()
        text = " ".join(file.source(span).split())
        return f"({text})" if before.endswith("(") and behind.startswith(")") else text

    def gap(self, left: Span, right: Span, between: str) -> Span | None:
        """Return the span between two expressions; None if anything but `between` stands there, such as a bracket."""
        gap = Span(left.file, left.end_line, left.end_column, right.line, right.column)
        return gap if self.source(gap).strip() == between else None

    def value(self, expr: tree.Expr, scope: Scope) -> Value:
        """Evaluate an expression. Return POISON if it has a mistake, which is then already reported."""
        return self.evaluate(self, expr, scope)

    def sound(self, expr: tree.Expr, scope: Scope) -> Value:
        """Evaluate an expression. Raise Refused if it has a mistake, which is then already reported."""
        value = self.evaluate(self, expr, scope)
        if isinstance(value, Poison):
            raise Refused
        return value

    def spend(self, span: Span, steps: int = 1) -> None:
        """Count `steps` of work. Report a program that exceeds MAX_STEPS and raise OutOfSteps."""
        self.steps += steps
        if self.steps > MAX_STEPS:
            self.too_much(span, "the work this program asks for", f"{MAX_STEPS:,} steps")
            raise OutOfSteps

    def enter(self, span: Span) -> bool:
        """Enter a level of evaluation; the caller decrements `depth` when done. If it is too deep, report it and return False."""
        if self.depth >= MAX_DEPTH:
            if (span.file, span.line) not in self.too_deep:
                self.too_deep.add((span.file, span.line))
                help = "name a part of it with `let`, above its use; a `fn` that calls itself must end"
                self.too_much(span, "the nesting here", f"{MAX_DEPTH} levels", help)
            return False
        self.depth += 1
        return True

    def name_of(self, symbol: Symbol) -> str:
        """Return a declaration's name in the IR, with its file's as a prefix if another has the name; queue it to be lowered."""
        self.pending.append(symbol)
        if not self.names:
            self.name_all()
        if symbol not in self.names:  # a second declaration of a name, which is an error
            self._name(symbol, symbol.name)
        return self.names[symbol]

    def name_all(self) -> None:
        """Give each declaration its name in the IR, in a fixed order. The main file's keep theirs; others may get a prefix."""
        files = self.loader.files.values()
        own = [symbol for file in files for symbol in file.symbols() if symbol.file is file]
        declared = [symbol for symbol in own if isinstance(symbol.item, tree.Decl)]
        holders = Counter(symbol.name for symbol in declared)
        declared.sort(key=lambda s: (s.file is not self.root, holders[s.name] > 1, s.file.shown, s.name))
        for symbol in declared:
            self._name(symbol, symbol.name)

    def _name(self, symbol: Symbol, name: str) -> None:
        count = 1
        while name in self.taken or self.root.names.get(name) not in (None, symbol):
            count += 1
            name = f"{symbol.file.path.stem}_{symbol.name}" + (f"_{count}" if count > 2 else "")
        self.names[symbol] = name
        self.taken[name] = symbol

    def lower(self, symbol: Symbol, node: type[T]) -> T | None:
        """Return a declaration's IR node, lowered on first use; None if it is too faulty or not of the class `node`."""
        if symbol not in self.lowered:
            if symbol in self.busy:
                names = [s.name for s in self.busy[self.busy.index(symbol) :]]
                chain = " needs ".join(f"`{n}`" for n in [*names, names[0]])
                self.report(errors.CyclicDefinition(symbol.span, name=symbol.name, help=chain))
                return None
            if not self.enter(symbol.span):
                return None
            self.busy.append(symbol)
            try:
                self.lowered[symbol] = self.attempt(self.lower_kind[symbol.kind], self, symbol)
            finally:
                self.busy.pop()
                self.depth -= 1
        found = self.lowered[symbol]
        return found if isinstance(found, node) else None

    def need(self, symbol: Symbol, node: type[T]) -> T:
        """Return `lower(symbol, node)`; raise Refused where that is None, so that what depends on it is not lowered."""
        found = self.lower(symbol, node)
        if found is None:
            raise Refused
        return found
