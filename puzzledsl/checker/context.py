"""State shared by the check of one program: diagnostics, the step budget and the declarations lowered so far.

A program that needs more work than the limits allow is a mistake, which is reported instead of hanging.
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
"""Depth of nested evaluations: expressions in calls in `let`s. Each level takes about five Python frames."""
MAX_STEPS = 200_000
"""Evaluation steps of a whole program."""
MAX_INSTANCES = 20_000
"""Iterations of one `for`, or elements of one range or comprehension."""
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

    `lowered` maps each declaration reached to its node, or to None if it is too broken to lower; `infos` maps those
    about a space to what is known of it, and `scopes` those with expressions of their own to the names that these see.
    """

    sink: Sink
    loader: Loader
    root: SourceFile
    evaluate: Evaluate
    lower_kind: dict[str, Lower]
    settings: Mapping[str, str]
    lowered: dict[Symbol, object] = field(default_factory=dict)
    infos: dict[Symbol, SpaceInfo] = field(default_factory=dict)
    scopes: dict[Symbol, Scope] = field(default_factory=dict)
    names: dict[Symbol, str] = field(default_factory=dict)
    taken: dict[str, Symbol] = field(default_factory=dict)
    pending: list[Symbol] = field(default_factory=list)
    busy: list[Symbol] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)
    too_deep: set[tuple[str, int]] = field(default_factory=set)
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
        """Record one diagnostic; raise what is returned, which ends the reading of what has the mistake."""
        self.report(diagnostic)
        return Refused()

    def too_much(self, span: Span, what: str, limit: str, help: str = "") -> Refused:
        """`refuse` what exceeds one of the checker's limits."""
        return self.refuse(errors.TooMuch(span, what=what, limit=limit, help=help))

    def misplaced(self, span: Span, what: str, where: str, help: str = "") -> Refused:
        """`refuse` what is not allowed where it stands."""
        return self.refuse(errors.Misplaced(span, what=what, where=where, help=help))

    def missing(self, span: Span, thing: str, what: str, help: str = "") -> Refused:
        """`refuse` something without a part that it needs."""
        return self.refuse(errors.MissingPart(span, thing=thing, what=what, help=help))

    def beyond(
        self, span: Span, what: str, condition: str, got: object, help: str = "", fixes: Sequence[Fix] = ()
    ) -> Refused:
        """`refuse` an amount that is out of its range."""
        said: Args = {"what": what, "condition": condition, "got": got}
        return self.refuse(errors.OutOfRange(span, help=help, fixes=fixes, **said))

    def wrong(
        self, span: Span, what: str, wanted: str, got: Value | str, help: str = "", fixes: Sequence[Fix] = ()
    ) -> Refused:
        """`refuse` a value of another type than wanted; one whose own mistake is reported already in silence."""
        if not isinstance(got, Poison):
            given = got if isinstance(got, str) else describe(got)
            self.report(errors.WrongType(span, what=what, wanted=wanted, got=given, help=help, fixes=fixes))
        return Refused()

    def attempt(self, read: Callable[..., T], *arguments: object) -> T | None:
        """Return `read(*arguments)`; None where it is refused, so that what stands beside it is read, too."""
        try:
            return read(*arguments)
        except Refused:
            return None

    def all(self, read: Callable[..., T], parts: Iterable[object], *rest: object) -> list[T]:
        """Return `read(self, part, *rest)` of each part. All are read; they are refused together if one has a mistake."""
        found = [self.attempt(read, self, part, *rest) for part in parts]
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            raise Refused
        return known

    def trial(self, read: Callable[[], T]) -> tuple[T, list[Diagnostic]]:
        """Read something without reporting; return it with the diagnostics that it makes."""
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
        """Return the span of a place of the IR, which names files as the program does."""
        files = self.loader.files.values()
        return span_of(where, next((f.file for f in files if f.shown == where.file), None))

    def file_of(self, span: Span) -> SourceFile:
        """Return the file that contains a span."""
        return self.file_named(span.file) or self.root

    def file_named(self, name: str) -> SourceFile | None:
        """Return the file of this name in spans; None if there is none."""
        return next((f for f in self.loader.files.values() if f.file == name), None)

    def symbol_at(self, place: tuple[str, int, int]) -> Symbol | None:
        """Return the declaration of a file that stands at a symbol's place; None if there is none."""
        file = self.loader.files.get(place[0])
        return None if file is None else next((s for s in file.symbols() if s.place == place), None)

    def source(self, span: Span) -> str:
        """Return the source text of a span."""
        return self.file_of(span).source(span)

    def operand(self, span: Span) -> str:
        """Return the source text of an expression on one line, in the brackets that it is written in."""
        file = self.file_of(span)
        before = file.lines[span.line - 1][: span.column - 1].rstrip()
        behind = file.lines[span.end_line - 1][span.end_column - 1 :].lstrip()
        text = " ".join(file.source(span).split())
        return f"({text})" if before.endswith("(") and behind.startswith(")") else text

    def gap(self, left: Span, right: Span, between: str) -> Span | None:
        """Return the span between two expressions; None where more than `between`, such as a bracket, stands there."""
        gap = Span(left.file, left.end_line, left.end_column, right.line, right.column)
        return gap if self.source(gap).strip() == between else None

    def value(self, expr: tree.Expr, scope: Scope) -> Value:
        """Evaluate an expression. Return POISON if it has a mistake, which is then already reported."""
        return self.evaluate(self, expr, scope)

    def sound(self, expr: tree.Expr, scope: Scope) -> Value:
        """Evaluate an expression. Refuse one with a mistake."""
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
        """Enter one level of evaluation; the caller decrements `depth` when done. Report too deep a nesting and return False."""
        if self.depth >= MAX_DEPTH:
            if (span.file, span.line) not in self.too_deep:
                self.too_deep.add((span.file, span.line))
                help = "name a part of it with `let`, above its use; a `fn` that calls itself must end"
                self.too_much(span, "the nesting here", f"{MAX_DEPTH} levels", help)
            return False
        self.depth += 1
        return True

    def name_of(self, symbol: Symbol) -> str:
        """Return the name of a declaration, prefixed by its file's if another has it; it is lowered before the check ends."""
        self.pending.append(symbol)
        if not self.names:
            self.name_all()
        if symbol not in self.names:  # a second declaration of a name, which is an error
            self._name(symbol, symbol.name)
        return self.names[symbol]

    def name_all(self) -> None:
        """Assign names in a fixed order: the main file keeps its own; of a name in several files, others get a file's prefix."""
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
        """Lower a declaration on first use and return its node; None if its mistakes leave nothing to lower."""
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
        """Lower a declaration and return its node. Refuse what depends on one with mistakes."""
        found = self.lower(symbol, node)
        if found is None:
            raise Refused
        return found
