"""Meaning of searches: linear expressions over per-layer tables, requirements, preferences, solvers, frontiers."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, WithJsonSchema

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.frozen import Frozen
from puzzledsl.ir.base import Exact
from puzzledsl.ir.metrics import TERMS
from puzzledsl.ir.source_location import Where


def _known_metric(name: str) -> str:
    if name not in TERMS:
        raise ValueError(f"no metric of a search is called {name!r}")
    return name


class MetricTerm(Frozen):
    """A scenario's metric, summed over the child."""

    kind: Literal["metric"] = "metric"
    scenario: str
    metric: Annotated[
        str, AfterValidator(_known_metric), WithJsonSchema({"type": "string", "enum": list(TERMS)})
    ]


class ScoreTerm(Frozen):
    """The sum of a score table over the child."""

    kind: Literal["score"] = "score"
    score: str


class ParamsTerm(Frozen):
    """The child's parameter count, embeddings included once if tied."""

    kind: Literal["params"] = "params"


class FactTerm(Frozen):
    """The sum over `layers` of a number of the chosen alternative: attention kv_heads, window, params; ffn width, params.

    kv_heads and width are 0 for linear and noop; for `parent` they are the parent's.
    """

    kind: Literal["fact"] = "fact"
    sub_block: SubBlock
    attribute: str
    layers: tuple[int, ...]


class CountTerm(Frozen):
    """Number of `layers` that choose an alternative of `sub_block` named in `alternatives` (canonical names)."""

    kind: Literal["count"] = "count"
    sub_block: SubBlock
    alternatives: tuple[str, ...]
    layers: tuple[int, ...]


class TableTerm(Frozen):
    """The sum over `layers` of the entry at the layer's choice: `values[i][j]` for `attention[i]` and `ffn[j]`.

    Both lists hold every alternative of these layers and `parent`, by canonical name. A sub-block that does not matter has
    an empty list and one place: `values` is then one row (no attention) or one column (no ffn).
    """

    kind: Literal["table"] = "table"
    attention: tuple[str, ...]
    ffn: tuple[str, ...]
    values: tuple[tuple[Exact, ...], ...]
    layers: tuple[int, ...]

    def value(self, attention: str, ffn: str) -> Fraction:
        """The entry of one layer's choice. Raises ValueError for an alternative that is not listed."""
        row = self.attention.index(attention) if self.attention else 0
        return self.values[row][self.ffn.index(ffn) if self.ffn else 0]


Term = Annotated[
    MetricTerm | ScoreTerm | ParamsTerm | FactTerm | CountTerm | TableTerm,
    Field(discriminator="kind"),
]


class WeightedTerm(Frozen):
    """`coefficient * term`."""

    coefficient: Exact
    term: Term


class Linear(Frozen):
    """`sum(coefficient * term) + constant`, in base units. `throughput` stands alone with coefficient 1 or not at all."""

    terms: tuple[WeightedTerm, ...]
    constant: Exact = Fraction(0)


class LinearRequirement(Frozen):
    """`left op bound`, or `left op ratio * (left at the all-parent model)` where `parent_ratio` is set (`>= 2.17x`).

    Strict `<` and `>` are kept; `==` is allowed for counts, facts and params.
    """

    kind: Literal["linear"] = "linear"
    left: Linear
    op: Literal["<=", ">=", "==", "<", ">"]
    bound: Exact | None
    parent_ratio: Exact | None = None
    unit: Literal["", "bytes", "seconds", "tokens_per_s"] = ""
    because: str = ""
    where: Where
    bound_where: Where


class Is(Frozen):
    """True when layer `layer` chooses one of `alternatives` (canonical names; empty: never) for `sub_block`."""

    kind: Literal["is"] = "is"
    layer: int
    sub_block: SubBlock
    alternatives: tuple[str, ...]


class Not(Frozen):
    """Negation."""

    kind: Literal["not"] = "not"
    operand: Logic


class And(Frozen):
    """All hold (an empty one is true)."""

    kind: Literal["and"] = "and"
    operands: tuple[Logic, ...]


class Or(Frozen):
    """At least one holds (an empty one is false)."""

    kind: Literal["or"] = "or"
    operands: tuple[Logic, ...]


class Implies(Frozen):
    """If `condition` then `consequence`."""

    kind: Literal["implies"] = "implies"
    condition: Logic
    consequence: Logic


class Cardinality(Frozen):
    """From `at_least` to `at_most` of the operands hold; `at_most` None: no upper limit."""

    kind: Literal["cardinality"] = "cardinality"
    operands: tuple[Logic, ...]
    at_least: int = 0
    at_most: int | None = None


Logic = Annotated[Is | Not | And | Or | Implies | Cardinality, Field(discriminator="kind")]


class LogicRequirement(Frozen):
    """A propositional requirement over choices (one for each instance of a `for`)."""

    kind: Literal["logic"] = "logic"
    formula: Logic
    because: str = ""
    where: Where


Requirement = Annotated[LinearRequirement | LogicRequirement, Field(discriminator="kind")]


def written(requirement: Requirement) -> str:
    """Return a requirement as its program writes it behind `require`: `chat.throughput >= 2.1x`."""
    text = requirement.where.text.removeprefix("require").strip()
    if isinstance(requirement, LinearRequirement):
        bound = requirement.bound_where.text.strip()
        if bound and bound not in text:  # each side has its own place
            text = f"{text} {requirement.op} {bound}"
    return text or "…"


class CpSat(Frozen):
    """Proven optimal within `gap` (relative), or the best found in `time_s` with its bound."""

    kind: Literal["cpsat"] = "cpsat"
    time_s: Exact
    gap: Exact = Fraction(0)
    seed: int = 0


BaselineKind = Literal[
    "greedy",
    "max_params",
    "uniform",
    "random",
    "noop_only",
    "uniform_width",
    "block_influence",
    "angular_run",
]
BASELINES: tuple[BaselineKind, ...] = get_args(BaselineKind)


class Baseline(Frozen):
    """The paper's baselines: budget-constrained greedy, most parameters that fit, best uniform layer, random, only no-ops.

    Rivals': one width everywhere (Minitron), whole layers dropped by block influence (ShortGPT), one run of layers dropped by
    angular distance (Gromov et al.).
    """

    kind: BaselineKind
    seed: int = 0


class Refine(Frozen):
    """Measure children whole, after healing, and answer with the best of them.

    "measured": the exact solver proposes, after each refit of the scores to what was measured. "evolutionary": mutation, and
    selection by measuring (EvoPress). `healed`: tokens each child is healed on (0: none is). `samples`: positions of `data` that
    are compared with the parent (None: the data of the score that the goal minimises).
    """

    method: Literal["measured", "evolutionary"]
    children: int = Field(ge=1)
    healed: int = 4096
    samples: int = Field(default=2048, ge=1)
    data: str | None = None
    where: Where


class Preference(Frozen):
    """A soft goal, in order of writing: optimised lexicographically after the objective."""

    goal: Linear
    sense: Literal["minimize", "maximize"]
    because: str = ""
    where: Where


class Search(Frozen):
    """Choose one alternative a sub-block a layer."""

    name: str
    space: str
    sense: Literal["minimize", "maximize"]
    objective: Linear
    requirements: tuple[Requirement, ...] = ()
    preferences: tuple[Preference, ...] = ()
    solutions: int = 1
    apart: int = 1
    solver: CpSat | Baseline
    refine: Refine | None = None
    doc: str = ""
    where: Where


class Frontier(Frozen):
    """A search solved at `points` values of one metric's bound, evenly spaced from `low` to `high`.

    At each of them so many `children` are measured, as the search's `refine` says (0: none).
    """

    name: str
    search: str
    term: Term
    low: Exact
    high: Exact
    times_parent: bool
    points: int
    children: int = 0
    doc: str = ""
    where: Where
