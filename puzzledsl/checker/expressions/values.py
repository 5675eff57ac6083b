"""Values of expressions, and the symbols and scopes that hold them.

`POISON` is the value of an expression whose mistake is already reported: every operation on it is silent and gives
POISON again. Symbolic values are those that only a search decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

from puzzledsl.alternatives.alternative import EndName, SubBlock
from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.diagnostics import Span
from puzzledsl.base.frozen import record
from puzzledsl.base.units import COUNT, Dimension, Quantity
from puzzledsl.checker.names.syntax_error_regions import SyntaxErrorRegions, declares_unread
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.ir import nodes
from puzzledsl.language.words import DTYPES, FUNCTIONS
from puzzledsl.syntax import tree

STD = "std/"
"""Paths of files that ship with the package begin so."""


@record
class Poison:
    """The value of a faulty expression that is already reported."""


POISON = Poison()


@record
class Text:
    """A string, or a bare word such as `fp8` used as one. `words`: the closed list that it belongs to."""

    value: str
    words: tuple[str, ...] = field(default=(), compare=False)


@record
class Boolean:
    """`true`, `false` or the result of a constant comparison."""

    value: bool


@record
class Located:
    """A value and its span."""

    value: Value
    span: Span


Items = list[Located]
"""The arguments of a call."""


@record
class Options:
    """`a | b | c`, in order."""

    options: tuple[Located, ...]


@record
class ListValue:
    """`[a, b]`."""

    items: tuple[Value, ...]


@record
class RangeValue:
    """`3..78`, inclusive; every `step` from the lower end, where one is given."""

    low: Quantity
    high: Quantity
    step: Fraction | None = None


@record(eq=False)
class Constructed:
    """A constructor such as `gqa(kv_heads: 8)` or `noop`, with its scope. The declaration that takes it reads the arguments."""

    name: str
    arguments: tuple[tree.Argument, ...]
    scope: Scope
    span: Span
    base: Symbol | None = None  # `h100_sxm(gpus: 2)`: the declaration that is changed


@record(eq=False)
class Ref:
    """A reference to a declaration (`wide`, `chat`, `h100`) or to a file used `as` a name."""

    symbol: Symbol


@record(eq=False)
class Function:
    """`fn half(x) = x / 2`, with the scope of its file."""

    node: tree.Fn
    scope: Scope


@record
class BuiltIn:
    """Built-in function, such as `sum`, `count` or `min`."""

    name: str


@record
class ParentLayer:
    """`llama.layers[3]`: a layer of a parent, as it is."""

    shape: Shape
    index: int


# ---------------------------------------------------------------- a space, and what a search decides

Names = dict[int, tuple[str, ...]]
"""Layer -> canonical names of alternatives."""


@record(eq=False)
class Layers:
    """`layers`, `layers[40..]`; `single` for `layers[i]` and for the variable of `for l in layers`."""

    space: SpaceInfo
    indices: tuple[int, ...]
    single: bool = False


@record(eq=False)
class SubBlocks:
    """`attention`, `layers[i].ffn`."""

    space: SpaceInfo
    sub_block: SubBlock
    indices: tuple[int, ...]
    single: bool = False


@record(eq=False)
class ModelEnd:
    """`embedding` or `head`: an end of the whole model, which no layer has."""

    space: SpaceInfo
    site: EndName


@record(eq=False)
class Facts:
    """`attention.kv_heads` of several layers: a vector for `sum`."""

    space: SpaceInfo
    sub_block: SubBlock
    attribute: str
    indices: tuple[int, ...]


@record(eq=False)
class Matches:
    """`attention is noop` of several layers: a vector for `count`. `others` are the alternatives that do not match."""

    space: SpaceInfo
    sub_block: SubBlock
    names: Names
    others: Names
    indices: tuple[int, ...]
    text: str


TermKey = tuple[str | int | tuple[Any, ...], ...]
"""("metric", scenario, metric) | ("score", name) | ("params",) | ("judged", judge, figure) |
("fact", sub_block, attribute, layer) | ("count", sub_block, names, layer) |
("table", attention_names, ffn_names, cells, layer)"""


@record(eq=False)
class Symbolic:
    """`sum(coefficient * term) + constant`, of one dimension. `space`: the space whose layers the terms are about, if any."""

    terms: dict[TermKey, Fraction]
    constant: Fraction = Fraction(0)
    dimension: Dimension = COUNT
    space: SpaceInfo | None = None


@record(eq=False)
class Formula:
    """A statement about layers' choices; `size` counts its nodes."""

    logic: nodes.Logic
    size: int
    space: SpaceInfo


@record(eq=False)
class Tally:
    """`runs(P)`, `longest(P)`, `distinct(F)`: a whole number of the child that is not a sum over layers.

    `figure` is its node without bounds; `size` counts the node's parts.
    """

    figure: nodes.Runs | nodes.Longest | nodes.Distinct
    size: int
    space: SpaceInfo
    text: str


@record(eq=False)
class Comparison:
    """A comparison with a value that the search decides, ready to become a requirement."""

    left: Symbolic
    op: Literal["<=", ">=", "==", "<", ">"]
    bound: Fraction | None
    parent_ratio: Fraction | None
    span: Span
    bound_span: Span


@record(eq=False)
class Conjunction:
    """Comparisons and formulas joined by `and`; each becomes one requirement."""

    items: tuple[Comparison | Formula, ...] = field(default=())


Number = Quantity | Symbolic
Statement = Formula | Boolean


# ---------------------------------------------------------------- names


@dataclass(slots=True, eq=False)
class Symbol:
    """A declared name. `kind` is a declaration's kind, or `param`, `let`, `fn`, `file`.

    A name that only a part of a declaration sees is a `let`, `variable` or `parameter`; `item` is then the whole
    declaration, or the `let` itself.
    """

    name: str
    kind: str
    item: tree.Item
    file: SourceFile
    span: Span
    target: SourceFile | None = None  # of a `file`
    value: Value | None = None  # of a `let` or `param`, once evaluated
    busy: bool = False

    @property
    def place(self) -> tuple[str, int, int]:
        """Its file, line and column, by which it is known again in another check."""
        return self.file.key, self.span.line, self.span.column


def declared(item: tree.Param | tree.Fn | tree.Let | tree.Decl, file: SourceFile) -> Symbol:
    """Return the name that an item of a file declares, if no other item has taken it."""
    kind = item.kind.text if isinstance(item, tree.Decl) else type(item).__name__.lower()
    return Symbol(item.name.text, kind, item, file, item.name.span)


@dataclass(slots=True, eq=False)
class SourceFile:
    """A parsed file. `file` names it in spans, `shown` in the IR (relative to the program, never a machine path).

    `key` is its real path, the same for all ways to it.
    """

    file: str
    shown: str
    path: Path
    text: str
    module: tree.Module
    key: str
    names: dict[str, Symbol | Poison] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    error_regions: SyntaxErrorRegions = field(default_factory=SyntaxErrorRegions)
    lost_names: bool = False  # names may be declared that cannot be seen: a file used whole that is not there
    unread: int = 0  # how often a name was one that parsing may have lost

    def __post_init__(self) -> None:
        self.lines = self.text.split("\n")

    def symbols(self, *kinds: str) -> list[Symbol]:
        """Return the declarations of some kinds, of any where none is given, in order."""
        found = (s for s in self.names.values() if isinstance(s, Symbol))
        return [s for s in found if not kinds or s.kind in kinds]

    @property
    def is_std(self) -> bool:
        """True for a file that ships with the package."""
        return self.shown.startswith(STD)

    def declares_unread(self, name: str) -> bool:
        """True where the text seems to declare `name` but parsing lost it: its uses are no further mistake."""
        found = declares_unread(name, self.lines, self.module, self.error_regions)
        self.unread += found
        return found

    def is_damaged(self, span: Span, margin: int = 0) -> bool:
        """True where the parser reported something within a span, or `margin` lines of it: a part of it may be lost."""
        return self.error_regions.touches(span, margin)

    def source(self, span: Span) -> str:
        """The text a span of this file covers."""
        if span.line == span.end_line <= len(self.lines):
            return self.lines[span.line - 1][span.column - 1 : span.end_column - 1]
        return span.cut(self.lines)


T = TypeVar("T")


@record(eq=False)
class LocalNames(Generic[T]):
    """Local names with what they stand for, then an outer scope's, then the file's."""

    file: SourceFile
    names: dict[str, T] = field(default_factory=dict)
    outer: Self | None = None

    def inner(self, names: dict[str, T] | None = None) -> Self:
        """A scope inside this one."""
        return type(self)(self.file, {} if names is None else names, self)

    def local(self, name: str) -> T | None:
        """Return what stands for a name bound by a body, a `for` or a `fn`; None where there is none."""
        scope: LocalNames[T] | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None

    def all_local(self) -> dict[str, T]:
        """Every local name, nearest first."""
        outer = {} if self.outer is None else self.outer.all_local()
        return self.names | {name: found for name, found in outer.items() if name not in self.names}


class Scope(LocalNames["Value"]):
    """Names visible to an expression, with their values."""

    def visible(self) -> list[str]:
        """Every name that could be meant here, nearest first."""
        return list(dict.fromkeys((*self.all_local(), *self.file.names)))


Constant = Poison | Quantity | Text | Boolean | Options | ListValue | RangeValue | ParentLayer
Named = Constructed | Ref | Function | BuiltIn
Decided = Layers | SubBlocks | ModelEnd | Facts | Matches | Symbolic | Tally | Formula | Conjunction
Value = Constant | Named | Decided


VALUES: dict[str, Value] = {
    "true": Boolean(True),
    "false": Boolean(False),
    **{name: BuiltIn(name) for name in FUNCTIONS},
    **{name: Text(name) for name in DTYPES},
}
"""Values of names that the language itself defines. A file's own declarations take precedence."""


def located(value: Value, span: Span) -> list[Located]:
    """Return the options of a choice, or the single value."""
    return list(value.options) if isinstance(value, Options) else [Located(value, span)]


_WORDS: dict[type, str] = {
    Poison: "nothing",
    Boolean: "true or false",
    Options: "a choice",
    ListValue: "a list",
    RangeValue: "a range",
    Function: "a function",
    BuiltIn: "a function",
    ParentLayer: "a layer",
    SubBlocks: "a sub-block",
    ModelEnd: "an end of the model",
    Matches: "a statement about layers",
    Formula: "a statement about layers",
    Conjunction: "a requirement",
}


def describe(value: Value) -> str:
    """Return a value's description for diagnostics, such as `a string`, `Bytes` or `a space`."""
    match value:
        case Quantity(form="percent"):
            return "a percentage"
        case Quantity(form="times"):
            return "a multiple of the parent's"
        case Quantity(dimension=dimension) | Symbolic(dimension=dimension):
            return dimension.name
        case Text(value=text):
            return "a string" if text else "an empty string"
        case Constructed(name=name, base=base):
            return f"`{base.name if base else name}`"
        case Ref(symbol=symbol):
            return article(symbol.kind)
        case Layers(single=single):
            return "a layer" if single else "layers"
        case Facts(attribute=attribute):
            return f"one {attribute} a layer"
        case Tally(text=text):
            return f"`{text}`"
        case _:
            return _WORDS[type(value)]


def article(kind: str) -> str:
    """Return a kind with its article: `a space`, `an uptrain`."""
    if kind in ("data", "hardware"):
        return kind
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
