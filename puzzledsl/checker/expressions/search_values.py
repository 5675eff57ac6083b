"""Values that refer to a space's layers, and symbolic values that only a search decides."""

from __future__ import annotations

from dataclasses import field
from fractions import Fraction
from typing import Any, Literal

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.diagnostics import Span
from puzzledsl.base.frozen import record
from puzzledsl.base.units import COUNT, Dimension, Quantity
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.ir import nodes

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


# ---------------------------------------------------------------- what a search decides

TermKey = tuple[str | int | tuple[Any, ...], ...]
"""("metric", scenario, metric) | ("score", name) | ("params",) | ("fact", sub_block, attribute, layer) |
("count", sub_block, names, layer) | ("table", attention_names, ffn_names, cells, layer)"""


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
