"""Meaning of searches: linear expressions over per-layer tables, requirements, preferences, solvers, frontiers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Annotated, Any, Literal, assert_never

from puzzledsl.alternatives.alternative import Site, SubBlock
from puzzledsl.base.frozen import BY_KIND, Checks, Frozen, left_out
from puzzledsl.base.settings import Call, call_of, calls_of, setting
from puzzledsl.base.units import BYTES, COUNT, REQ_PER_S, TIME, TOK_PER_S, Dimension
from puzzledsl.ir.base import Declaration, Exact, Where
from puzzledsl.ir.metric_records import TERMS, TRAFFIC_ALONE, place_of
from puzzledsl.ir.stage_nodes import Judged

MAX_CHILDREN = 100_000
_METRIC = {"type": "string", "enum": [*TERMS, *TRAFFIC_ALONE]}


def _known_metric(name: str) -> str:
    if name not in _METRIC["enum"]:
        raise ValueError(f"no metric of a search is called {name!r}")
    return name


class MetricTerm(Frozen, kind="metric"):
    """A scenario's metric, summed over the child."""

    scenario: str
    metric: Annotated[str, Checks(lambda p: (p.AfterValidator(_known_metric), p.WithJsonSchema(_METRIC)))]

    @property
    def place(self) -> str:
        """The scenario, or one of its numbers of sequences under traffic: `busy`, `busy@p95`, `busy@full`."""
        return place_of(self.scenario, self.metric)


class ScoreTerm(Frozen, kind="score"):
    """The sum of a score table over the child."""

    score: str


class ParamsTerm(Frozen, kind="params"):
    """The child's parameter count, embeddings included once if tied."""


class FactTerm(Frozen, kind="fact"):
    """The sum over `layers` of a number of the chosen alternative (see `facts.fact`), such as kv_heads or params.

    kv_heads and width are 0 for linear and noop; for `parent` they are the parent's.
    """

    sub_block: SubBlock
    attribute: str
    layers: tuple[int, ...]


class CountTerm(Frozen, kind="count"):
    """Number of `layers` that choose an alternative of `sub_block` named in `alternatives` (canonical names)."""

    sub_block: SubBlock
    alternatives: tuple[str, ...]
    layers: tuple[int, ...]


class _ByChoice(Frozen):
    """A table with an entry for each choice of attention and FFN, by canonical names, that holds for all of `layers`."""

    attention: tuple[str, ...]
    ffn: tuple[str, ...]
    values: Any
    layers: tuple[int, ...]

    def value(self, attention: str, ffn: str) -> Any:
        """Return the entry of one layer's choice. Raises ValueError for an alternative that is not listed."""
        row = self.attention.index(attention) if self.attention else 0
        return self.values[row][self.ffn.index(ffn) if self.ffn else 0]


class TableTerm(_ByChoice, kind="table"):
    """The sum over `layers` of the entry at the layer's choice: `values[i][j]` for `attention[i]` and `ffn[j]`.

    Both lists hold every alternative of these layers and `parent`, by canonical name. A sub-block that does not matter has
    an empty list and one place: `values` is then one row (no attention) or one column (no ffn).
    """

    values: tuple[tuple[Exact, ...], ...]


Term = Annotated[MetricTerm | ScoreTerm | ParamsTerm | FactTerm | CountTerm | TableTerm, BY_KIND]


class WeightedTerm(Frozen):
    """`coefficient * term`."""

    coefficient: Exact
    term: Term


class Linear(Frozen):
    """`sum(coefficient * term) + constant`, in base units. `throughput` stands alone with coefficient 1 or not at all."""

    terms: tuple[WeightedTerm, ...]
    constant: Exact = Fraction(0)


Unit = Literal["", "bytes", "seconds", "tokens_per_s", "requests_per_s"]
DIMENSIONS: dict[Unit, Dimension] = {"": COUNT, "bytes": BYTES, "seconds": TIME}
DIMENSIONS |= {"tokens_per_s": TOK_PER_S, "requests_per_s": REQ_PER_S}
"""Units of bounds, each with its dimension."""


class LinearRequirement(Frozen, kind="linear"):
    """`left op bound`, or `left op ratio * (left at the all-parent model)` where `parent_ratio` is set (`>= 2.17x`).

    Strict `<` and `>` are kept; `==` is allowed for counts, facts and params. `judged`: the figure of measured children that the
    requirement is about; `left` and `bound` are then the score's sum that is expected to meet it.
    """

    left: Linear
    op: Literal["<=", ">=", "==", "<", ">"]
    bound: Exact | None
    parent_ratio: Exact | None = None
    unit: Unit = ""
    because: str = ""
    where: Where
    bound_where: Where
    judged: Judged | None = left_out(None)

    @property
    def limit(self) -> Fraction:
        """The bound, or the ratio of a requirement that is relative to the parent."""
        limit = self.bound if self.parent_ratio is None else self.parent_ratio
        assert limit is not None, "a requirement has a bound or a ratio"
        return limit


class Is(Frozen, kind="is"):
    """True when layer `layer` chooses one of `alternatives` (canonical names; empty: never) for `sub_block`.

    The ends of the model, `embedding` and `head`, are chosen in the layer after the last.
    """

    layer: int
    sub_block: Site
    alternatives: tuple[str, ...]


class Not(Frozen, kind="not"):
    """Negation."""

    operand: Logic


class And(Frozen, kind="and"):
    """All hold (an empty one is true)."""

    operands: tuple[Logic, ...]


class Or(Frozen, kind="or"):
    """At least one holds (an empty one is false)."""

    operands: tuple[Logic, ...]


class Implies(Frozen, kind="implies"):
    """If `condition` then `consequence`."""

    condition: Logic
    consequence: Logic


class _Bounded(Frozen):
    """Bounds on a whole number; `at_most` None: no upper limit."""

    at_least: int = 0
    at_most: int | None = None


class Compare(Frozen, kind="compare"):
    """`left op bound`, where every term of `left` is a sum over layers: a fact, a count or a table."""

    left: Linear
    op: Literal["<=", ">=", "==", "<", ">"]
    bound: Exact


class Runs(_Bounded, kind="runs"):
    """From `at_least` to `at_most` runs of consecutive statements hold. Each is about one layer, in their order, or constant."""

    statements: tuple[Logic, ...]


class Longest(_Bounded, kind="longest"):
    """The longest run of consecutive statements that hold has from `at_least` to `at_most`; `statements` as in Runs."""

    statements: tuple[Logic, ...]


class Taken(_ByChoice):
    """The value that each of `layers` takes, as text, with `values` as in TableTerm. Without layers it is always taken."""

    values: tuple[tuple[str, ...], ...]


class Distinct(_Bounded, kind="distinct"):
    """The layers take from `at_least` to `at_most` different values; `at_most` None: no upper limit."""

    taken: tuple[Taken, ...]


class Same(Frozen, kind="same"):
    """Layers `left` and `right` choose the same alternative for each of `sub_blocks`."""

    left: int
    right: int
    sub_blocks: tuple[SubBlock, ...]


Logic = Annotated[Is | Not | And | Or | Implies | Compare | Runs | Longest | Distinct | Same, BY_KIND]


class LogicRequirement(Frozen, kind="logic"):
    """A propositional requirement over choices (one for each instance of a `for`)."""

    formula: Logic
    because: str = ""
    where: Where


Requirement = Annotated[LinearRequirement | LogicRequirement, BY_KIND]


def written(requirement: Requirement) -> str:
    """Return a requirement as its program writes it behind `require`: `chat.throughput >= 2.1x`."""
    text = requirement.where.text.removeprefix("require").strip()
    if isinstance(requirement, LinearRequirement):
        bound = requirement.bound_where.text.strip()
        if bound and bound not in text:  # each side has its own place
            op = requirement.op if requirement.judged is None else requirement.judged.op
            text = f"{text} {op} {bound}"
    return text or "…"


def describe(linear: Linear) -> str:
    """Return an objective as text: `kl`, `2 * chat.latency + kl`."""
    parts = []
    for weighted in linear.terms:
        factor = "" if weighted.coefficient == 1 else f"{float(weighted.coefficient):.4g} * "
        parts.append(factor + describe_term(weighted.term))
    if linear.constant or not parts:
        parts.append(f"{float(linear.constant):.4g}")
    return " + ".join(parts)


def describe_term(term: Term) -> str:
    """Return a term as a program writes it; a table, which no program writes, in words."""
    match term:
        case MetricTerm(scenario=scenario, metric=metric):
            return f"{scenario}.{metric}"
        case ScoreTerm(score=score):
            return score
        case ParamsTerm():
            return "params"
        case FactTerm(sub_block=sub_block, attribute=attribute):
            return f"sum({sub_block}.{attribute})"
        case CountTerm(sub_block=sub_block, alternatives=names):
            return f"count({sub_block} is {' | '.join(names)})"
        case TableTerm(layers=layers):
            return f"a table over {len(layers)} layer{'s' if len(layers) > 1 else ''}"
        case _:
            assert_never(term)


class CpSat(Frozen, kind="cpsat"):
    """Proven optimal within the gap, or the best found in time with its bound."""

    time_s: Exact = setting(
        "Time limit.", word="time", unit=TIME, default=Fraction(60), at_least=Fraction(1, 1000), at_most=10**8
    )
    gap: Exact = setting(
        "Distance from the optimum that will do.", default=Fraction(0), at_least=0, at_most=1, shown="`0%`"
    )
    seed: int = setting("Makes the answer repeatable.", default=0, at_most=2**31 - 1)


SOLVERS = calls_of(CpSat)  # `solver = …`.


class Refine(Frozen):
    """Measure children whole, after healing, and answer with the best of them."""

    children: int = setting("Children that are measured.", at_least=1, at_most=MAX_CHILDREN, positional=True)
    healed: int = setting("Tokens each child is healed on before it is measured; `0`: none.", default=4096)
    samples: int = setting("Token positions that are compared with the parent.", default=2048, at_least=1)
    data: str | None = setting(
        "The text that is measured on.", default=None, kinds=("data",), shown="the score's, else the bld's"
    )
    where: Where


REFINES = {
    "measured": replace(
        call_of(Refine, "The exact solver proposes children, which are measured, and scores are refitted."),
        write="write `measured(24)`: children that are measured",
    ),
    "none": Call("Not refined: the child is the optimum of the scores."),
}


class Preference(Frozen):
    """A soft goal, in order of writing: optimised lexicographically after the objective."""

    goal: Linear
    sense: Literal["minimize", "maximize"]
    because: str = ""
    where: Where


class Search(Declaration):
    """Choose one alternative a sub-block a layer."""

    space: str
    sense: Literal["minimize", "maximize"]
    objective: Linear
    requirements: tuple[Requirement, ...] = ()
    preferences: tuple[Preference, ...] = ()
    solutions: int = 1
    apart: int = 1
    solver: CpSat = setting("The solver.", calls=SOLVERS, noun="solver")
    realise: bool = setting(
        "`false`: the search is solved and looked at, and no child is built.", default=True, left_out=True
    )
    refine: Refine | None = setting(
        "Measures children whole around the solver's answer, and takes the best.",
        default=None,
        calls=REFINES,
        noun="way to refine",
    )


class Frontier(Declaration):
    """A search solved at `points` values of one metric's bound, evenly spaced from `low` to `high`."""

    search: str
    term: Term = setting("The amount: `chat.throughput`, `params`, a score.", word="metric", positional=True)
    low: Exact = setting(
        "From .. to, in its unit or times the parent's: `1x..3x`.", word="range", wide=True, positional=True
    )
    high: Exact
    times_parent: bool
    points: int = setting("The number of bounds, evenly spaced.", default=10, at_least=2, at_most=10_000)


SWEEP = call_of(Frontier, "Solves the search at several bounds of one amount.")
