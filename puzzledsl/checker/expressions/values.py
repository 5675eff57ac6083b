"""Values of expressions, and what is known of a space for reading patterns, overrides and the expressions of its searches.

`POISON` is the value of an expression whose mistake is already reported: every operation on it is silent and gives
POISON again. Symbolic values are those that only a search decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, EndName, SubBlock
from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.diagnostics import Span
from puzzledsl.base.frozen import Record
from puzzledsl.base.units import COUNT, Dimension, Quantity
from puzzledsl.checker.names.names import POISON as POISON
from puzzledsl.checker.names.names import LocalNames as LocalNames
from puzzledsl.checker.names.names import Poison as Poison
from puzzledsl.checker.names.names import SourceFile as SourceFile
from puzzledsl.checker.names.names import Symbol as Symbol
from puzzledsl.ir import nodes
from puzzledsl.language.words import DTYPES, FUNCTIONS
from puzzledsl.syntax import tree

Choice = tuple[Alternative, ...]
"""Alternatives that a layer can choose for one sub-block, or the model for one end, in the order written."""


@dataclass(slots=True, eq=False)
class SpaceInfo:
    """All that the checker knows of a space. `parent` is its parent's name in the source, `parent_id` that in the IR.

    `chosen`: sub-block -> the alternatives of each layer, by its index.
    `ends`: embedding or head -> its alternatives; an end that is not there stays as the parent's.
    `asked`: (100 % of a width, a width after rounding) -> the exact widths that were written for it, all in channels.

    `incomplete`: a part of a choice could not be read, so diagnostics about what it lacks are suppressed.
    `guessed`: the parent is unknown, and the shape is a placeholder that almost anything fits.
    """

    name: str
    parent: str
    parent_id: str
    shape: Shape
    chosen: dict[SubBlock, list[Choice]]
    ends: dict[EndName, Choice] = field(default_factory=dict)
    asked: dict[tuple[int, int], set[Fraction]] = field(default_factory=dict)
    roundings: list[nodes.Rounding] = field(default_factory=list)
    incomplete: bool = False
    guessed: bool = False

    @property
    def all_layers(self) -> tuple[int, ...]:
        """The indices of all layers: 0 to layers - 1."""
        return tuple(range(self.shape.layers))

    def choose(self, site: SubBlock, found: Sequence[Sequence[Alternative]]) -> None:
        """Set the alternatives of a sub-block in every layer; a layer without any keeps the parent's own."""
        alike = {id(choice): tuple(choice) or (PARENTS[site],) for choice in found}
        self.chosen[site] = [alike[id(choice)] for choice in found]

    def alternatives(self, site: SubBlock, layers: tuple[int, ...]) -> list[Alternative]:
        """Return the distinct alternatives that `layers` can choose, in the order written."""
        return list(dict.fromkeys(each for layer in layers for each in self.chosen[site][layer]))

    def derived(self, name: str) -> SpaceInfo:
        """Return a copy under another name, which can be edited without changing this one."""
        return replace(
            self,
            name=name,
            chosen={site: [*rows] for site, rows in self.chosen.items()},
            asked={width: set(exact) for width, exact in self.asked.items()},
            ends=dict(self.ends),
            roundings=[*self.roundings],
        )


_HEADS: dict[str, Any] = {"heads": 720_720, "kv_heads": 720_720, "head_dim": 128}  # divided by all up to 16
_SIZES: dict[str, Any] = {"layers": 128, "hidden": 8192, "intermediate": 2**40, "vocab": 2**17, **_HEADS}


def guessed(name: str) -> SpaceInfo:
    """Return a placeholder for a space that could not be read, so that its statements and searches can still be checked."""
    info = all_parent(name, name, name, Shape(family="llama", tied=False, **_SIZES))
    info.incomplete = info.guessed = True
    return info


def all_parent(name: str, parent: str, parent_id: str, shape: Shape) -> SpaceInfo:
    """Return a space in which every layer can only keep the parent's sub-blocks."""
    return SpaceInfo(name, parent, parent_id, shape, {s: [(PARENTS[s],)] * shape.layers for s in SUB_BLOCKS})


class Text(Record):
    """A string, or a bare word such as `fp8` used as one. `words`: the closed list that the word is from, if any."""

    value: str
    words: tuple[str, ...] = field(default=(), compare=False)


class Boolean(Record):
    """`true`, `false` or the result of a constant comparison."""

    value: bool


class Located(Record):
    """A value and its span."""

    value: Value
    span: Span


Items = list[Located]
"""The values of a call's arguments."""


class Options(Record):
    """`a | b | c`, in order."""

    options: tuple[Located, ...]


class ListValue(Record):
    """`[a, b]`."""

    items: tuple[Value, ...]


class RangeValue(Record):
    """`3..78`, both ends included. With a `step` it has `low`, `low + step` and so on."""

    low: Quantity
    high: Quantity
    step: Fraction | None = None


class Constructed(Record, eq=False):
    """A constructor such as `gqa(kv_heads: 8)` or `noop`. The declaration that takes it evaluates the arguments in `scope`."""

    name: str
    arguments: tuple[tree.Argument, ...]
    scope: Scope
    span: Span
    base: Symbol | None = None  # `h100_sxm(gpus: 2)`: the declaration that is changed


class Ref(Record, eq=False):
    """A reference to a declaration (`wide`, `chat`, `h100`) or to a file used `as` a name."""

    symbol: Symbol


class Function(Record, eq=False):
    """`fn half(x) = x / 2`, with the scope of its file."""

    node: tree.Fn
    scope: Scope


class BuiltIn(Record):
    """Built-in function, such as `sum`, `count` or `min`."""

    name: str


class ParentLayer(Record):
    """`llama.layers[3]`: a layer of a parent, as it is."""

    shape: Shape
    index: int


Names = dict[int, tuple[str, ...]]
"""Layer -> canonical names of alternatives."""


class Layers(Record, eq=False):
    """`layers` or `layers[40..]`. `single` is True for `layers[i]` and for the variable of `for l in layers`."""

    space: SpaceInfo
    indices: tuple[int, ...]
    single: bool = False


class SubBlocks(Record, eq=False):
    """A sub-block of some layers: `attention`, or `layers[i].ffn`, which is `single`."""

    space: SpaceInfo
    sub_block: SubBlock
    indices: tuple[int, ...]
    single: bool = False


class ModelEnd(Record, eq=False):
    """`embedding` or `head`: an end of the whole model, which no layer has."""

    space: SpaceInfo
    site: EndName


class Facts(Record, eq=False):
    """`attention.kv_heads` of several layers: a vector for `sum`."""

    space: SpaceInfo
    sub_block: SubBlock
    attribute: str
    indices: tuple[int, ...]


class Matches(Record, eq=False):
    """`attention is noop` of several layers: a vector for `count`. `names` are the alternatives that match, `others` the rest."""

    space: SpaceInfo
    sub_block: SubBlock
    names: Names
    others: Names
    indices: tuple[int, ...]
    text: str


TermKey = tuple[str | int | tuple[Any, ...], ...]
"""Key of a term: ("metric", scenario, metric) | ("score", name) | ("params",) | ("judged", judge, figure) |
("fact", sub_block, attribute, layer) | ("count", sub_block, names, layer), 1 where one of these alternatives is chosen |
("table", attention_names, ffn_names, cells, layer)"""


class Symbolic(Record, eq=False):
    """`sum(coefficient * term) + constant`, of one dimension. `space`: the space whose layers the terms are about, if any."""

    terms: dict[TermKey, Fraction]
    constant: Fraction = Fraction(0)
    dimension: Dimension = COUNT
    space: SpaceInfo | None = None


class Formula(Record, eq=False):
    """A statement about layers' choices; `size` counts its nodes."""

    logic: nodes.Logic
    size: int
    space: SpaceInfo


class Tally(Record, eq=False):
    """`runs(P)`, `longest(P)` or `distinct(F)`, none a sum over layers. `figure` has no bounds yet; `size` counts its parts."""

    figure: nodes.Runs | nodes.Longest | nodes.Distinct
    size: int
    space: SpaceInfo
    text: str


class Comparison(Record, eq=False):
    """`left op bound` or, if `bound` is None, `left op parent_ratio` times the parent's `left`. The search decides `left`."""

    left: Symbolic
    op: Literal["<=", ">=", "==", "<", ">"]
    bound: Fraction | None
    parent_ratio: Fraction | None
    span: Span
    bound_span: Span


class Conjunction(Record, eq=False):
    """Comparisons and formulas joined by `and`; each becomes one requirement."""

    items: tuple[Comparison | Formula, ...] = field(default=())


Number = Quantity | Symbolic
Statement = Formula | Boolean


class Scope(LocalNames["Value"], eq=False):
    """Names visible to an expression, with their values."""

    def visible(self) -> list[str]:
        """Every name that could be meant here, nearest first."""
        return list(dict.fromkeys((*self.all_local(), *self.file.names)))


Constant = Poison | Quantity | Text | Boolean | Options | ListValue | RangeValue | ParentLayer
Named = Constructed | Ref | Function | BuiltIn
Decided = Layers | SubBlocks | ModelEnd | Facts | Matches | Symbolic | Tally | Formula | Conjunction
Value = Constant | Named | Decided
VALUES: dict[str, Value] = {"true": Boolean(True), "false": Boolean(False)}
VALUES |= {name: BuiltIn(name) for name in FUNCTIONS}
VALUES |= {name: Text(name) for name in DTYPES}
"""Values of names that the language itself defines. A file's own declarations take precedence."""


def located(value: Value, span: Span) -> list[Located]:
    """Return the options of a choice; another value is its only option, at `span`."""
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
    """Return a kind with its article, if it takes one: `a space`, `an uptrain`, `hardware`."""
    if kind in ("data", "hardware"):
        return kind
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
