"""Values of expressions: constants, choices, references, and symbolic values that only a search decides.

`POISON` is the value of an expression whose mistake is already reported: every operation on it is silent and gives
POISON again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.units import COUNT, Dimension, Quantity
from puzzledsl.ir import nodes
from puzzledsl.ir.alternatives import SubBlock
from puzzledsl.syntax import tree

if TYPE_CHECKING:
    from puzzledsl.checker.names.names import Scope, Symbol
    from puzzledsl.checker.spaces.space_info import SpaceInfo


@dataclass(frozen=True, slots=True)
class Poison:
    """The value of a faulty expression that is already reported."""


POISON = Poison()


@dataclass(frozen=True, slots=True)
class Text:
    """A string, or a bare word such as `fp8` used as one. `words`: the closed list that it belongs to."""

    value: str
    words: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Boolean:
    """`true`, `false` or the result of a constant comparison."""

    value: bool


@dataclass(frozen=True, slots=True)
class Located:
    """A value and its span."""

    value: Value
    span: Span


@dataclass(frozen=True, slots=True)
class Options:
    """`a | b | c`, in order."""

    options: tuple[Located, ...]


@dataclass(frozen=True, slots=True)
class ListValue:
    """`[a, b]`."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class RangeValue:
    """`3..78`, inclusive; every `step` from the lower end, where one is given."""

    low: Quantity
    high: Quantity
    step: Fraction | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Constructed:
    """A constructor such as `gqa(kv_heads: 8)` or `noop`, with its scope. The declaration that takes it reads the arguments."""

    name: str
    arguments: tuple[tree.Argument, ...]
    scope: Scope
    span: Span
    base: Symbol | None = None  # `h100_sxm(gpus: 2)`: the declaration that is changed


@dataclass(frozen=True, slots=True, eq=False)
class Ref:
    """A reference to a declaration (`wide`, `chat`, `h100`) or to a file used `as` a name."""

    symbol: Symbol


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """`fn half(x) = x / 2`, with the scope of its file."""

    node: tree.Fn
    scope: Scope


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A built-in function: `sum`, `count`, `min` …"""

    name: str


# ---------------------------------------------------------------- layers


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """`layers`, `layers[40..]`; `single` for `layers[i]` and for the variable of `for l in layers`."""

    space: SpaceInfo
    indices: tuple[int, ...]
    single: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class SubBlocks:
    """`attention`, `layers[i].ffn`."""

    space: SpaceInfo
    sub_block: SubBlock
    indices: tuple[int, ...]
    single: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """`attention.kv_heads` of several layers: a vector for `sum`."""

    space: SpaceInfo
    sub_block: SubBlock
    attribute: str
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """`attention is noop` of several layers: a vector for `count`. `others` are the alternatives that do not match."""

    space: SpaceInfo
    sub_block: SubBlock
    names: tuple[str, ...]
    others: tuple[str, ...]
    indices: tuple[int, ...]
    text: str


# ---------------------------------------------------------------- what a search decides

TermKey = tuple[str | int | tuple[Any, ...], ...]
"""("metric", scenario, metric) | ("score", name) | ("params",) | ("fact", sub_block, attribute, layer) |
("count", sub_block, names, layer) | ("table", attention_names, ffn_names, cells, layer)"""


@dataclass(frozen=True, slots=True, eq=False)
class Symbolic:
    """`sum(coefficient * term) + constant`, of one dimension. `space`: the space whose layers the terms are about, if any."""

    terms: dict[TermKey, Fraction]
    constant: Fraction = Fraction(0)
    dimension: Dimension = COUNT
    space: SpaceInfo | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Formula:
    """A statement about layers' choices; `size` counts its nodes. `whole`: `and` and `or` treat it as one operand."""

    logic: nodes.Logic
    size: int
    space: SpaceInfo
    whole: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """`runs(P)`, `longest(P)`, `distinct(F)`: a whole number of the child that is not a sum over layers.

    `statements` holds P for each layer, or "some layer takes this value" for each value; `size` counts their nodes.
    """

    function: Literal["runs", "longest", "distinct"]
    statements: tuple[nodes.Logic, ...]
    size: int
    space: SpaceInfo
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A comparison with a value that the search decides, ready to become a requirement."""

    left: Symbolic
    op: Literal["<=", ">=", "==", "<", ">"]
    bound: Fraction | None
    parent_ratio: Fraction | None
    span: Span
    bound_span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Conjunction:
    """Comparisons and formulas joined by `and`; each becomes one requirement."""

    items: tuple[Comparison | Formula, ...] = field(default=())


Number = Quantity | Symbolic
Value = (
    Poison
    | Quantity
    | Text
    | Boolean
    | Options
    | ListValue
    | RangeValue
    | Constructed
    | Ref
    | Function
    | BuiltIn
    | Layers
    | SubBlocks
    | Facts
    | Matches
    | Symbolic
    | Tally
    | Formula
    | Conjunction
)


def describe(value: Value) -> str:
    """Return a value's description for diagnostics: `a string`, `Bytes`, `a space` …"""
    match value:
        case Quantity(form="percent"):
            return "a percentage"
        case Quantity(form="times"):
            return "a multiple of the parent's"
        case Quantity(dimension=dimension) | Symbolic(dimension=dimension):
            return dimension.name
        case Text(value=text):
            return "a string" if text else "an empty string"
        case Boolean():
            return "true or false"
        case Options():
            return "a choice"
        case ListValue():
            return "a list"
        case RangeValue():
            return "a range"
        case Constructed(name=name, base=base):
            return f"`{base.name if base else name}`"
        case Ref(symbol=symbol):
            return f"{article(symbol.kind)}"
        case Function() | BuiltIn():
            return "a function"
        case Layers(single=True):
            return "a layer"
        case Layers():
            return "layers"
        case SubBlocks():
            return "a sub-block"
        case Facts(attribute=attribute):
            return f"one {attribute} a layer"
        case Matches() | Formula():
            return "a statement about layers"
        case Tally(text=text):
            return f"`{text}`"
        case Conjunction():
            return "a requirement"
        case Poison():
            return "nothing"


def article(kind: str) -> str:
    """Return a kind with its article: `a space`, `an uptrain`."""
    if kind in ("data", "hardware"):
        return kind
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
