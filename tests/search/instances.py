"""Small searches of every kind, valid by construction: a hypothesis strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from random import Random
from typing import Any

from hypothesis import strategies as st

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.ir.facts import fixed_params
from puzzledsl.ir.metric_records import TERMS
from puzzledsl.ir.nodes import (
    And,
    CountTerm,
    CpSat,
    FactTerm,
    Hardware,
    Implies,
    Is,
    LayerChoice,
    Linear,
    LinearRequirement,
    Logic,
    LogicRequirement,
    MetricTerm,
    Not,
    Or,
    ParamsTerm,
    Parent,
    Preference,
    Program,
    ReplaceOne,
    Requirement,
    Scenario,
    Score,
    ScoreFromTable,
    ScoreTerm,
    Search,
    Shape,
    ShapeSource,
    Space,
    TableHardware,
    Term,
    WeightedTerm,
    Where,
)
from puzzledsl.ir.tables import Cost, CostTable, LayerAssignment, ScenarioCosts, ScoreTable
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.tables import tables_of

SHAPE = Shape(
    family="llama",
    layers=4,
    hidden=16,
    heads=4,
    kv_heads=4,
    head_dim=4,
    intermediate=32,
    vocab=50,
    tied=True,
)
ATTENTION: tuple[AttentionAlternative, ...] = (
    ParentAttention(),
    GqaAttention(kv_heads=2),
    GqaAttention(kv_heads=1, window=8),
    LinearAttention(),
    NoOpAttention(),
)
FFN: tuple[FfnAlternative, ...] = (ParentFfn(), MlpFfn(width=16), MlpFfn(width=8), LinearFfn(), NoOpFfn())
HERE = Where(file="t.pzl", line=1, column=1, end_line=1, end_column=9)


@dataclass(frozen=True)
class Instance:
    """The arguments of `solve_search`."""

    program: Program
    costs: CostTable
    scores: dict[str, ScoreTable]

    @property
    def args(self) -> tuple[Program, str, CostTable, dict[str, ScoreTable]]:
        """In the order that every function of the search takes them."""
        return self.program, "best", self.costs, self.scores

    @property
    def search(self) -> Search:
        """The search."""
        return self.program.searches["best"]

    def with_search(self, **changes: Any) -> Instance:
        """The same with another search."""
        search = self.search.model_copy(update=changes)
        program = self.program.model_copy(update={"searches": {"best": search}})
        return Instance(program, self.costs, self.scores)


def measured(instance: Instance) -> Instance:
    """The same with a score that was measured."""
    score = instance.program.scores["kl"].model_copy(update={"method": ReplaceOne(metric="kl_divergence")})
    program = instance.program.model_copy(update={"scores": {"kl": score}})
    return Instance(program, instance.costs, instance.scores)


def at(line: int, text: str = "") -> Where:
    """A place in the source."""
    return Where(file="t.pzl", line=line, column=3, end_line=line, end_column=20, text=text or f"line {line}")


def alone(term: Term) -> Linear:
    """An expression of one term."""
    return Linear(terms=(WeightedTerm(coefficient=Fraction(1), term=term),))


def require(
    left: Linear | Term, op: Any, bound: Fraction | int | None = None, **more: Any
) -> LinearRequirement:
    """A linear requirement. `ratio`: times the parent's; `line`; `text` of the bound."""
    ratio, line = more.get("ratio"), more.get("line", 1)
    where = at(line)
    return LinearRequirement(
        left=left if isinstance(left, Linear) else alone(left),
        op=op,
        bound=None if bound is None else Fraction(bound),
        parent_ratio=None if ratio is None else Fraction(ratio),
        unit=more.get("unit", ""),
        because=more.get("because", ""),
        where=where,
        bound_where=where.model_copy(update={"text": more.get("text", "")}),
    )


def chat(metric: Any) -> MetricTerm:
    """A metric of scenario `chat`."""
    return MetricTerm(scenario="chat", metric=metric)


KL = ScoreTerm(score="kl")


def program_of(layers: tuple[LayerChoice, ...], batches: tuple[int, ...], **search: Any) -> Program:
    """A program with one of everything and the search `best`."""
    shape = SHAPE.model_copy(update={"layers": len(layers)})
    settings: dict[str, Any] = {
        "sense": "minimize",
        "objective": alone(KL),
        "solver": CpSat(time_s=Fraction(60)),
        **search,
    }
    return Program(
        source="t.pzl",
        parents={"tiny": Parent(name="tiny", source=ShapeSource(), shape=shape, where=HERE)},
        hardware={"h": Hardware(name="h", spec=TableHardware(path="c.csv"), where=HERE)},
        scenarios={
            "chat": Scenario(name="chat", hardware="h", batches=batches, prompt=4, output=3, where=HERE)
        },
        spaces={"wide": Space(name="wide", parent="tiny", layers=layers, where=HERE)},
        scores={
            "kl": Score(name="kl", bld=None, space="wide", method=ScoreFromTable(path="kl.csv"), where=HERE)
        },
        searches={"best": Search(name="best", space="wide", where=HERE, **settings)},
    )


@st.composite
def problems(
    draw: st.DrawFn, logic: bool = True, exact: bool = True, max_layers: int = 4, droppable: bool = False
) -> Instance:
    """Any small search. `exact`: scores of few decimals, so that the integers are exact. `droppable`: every layer may have
    neither sub-block."""
    count, rng = draw(st.integers(1, max_layers)), Random(draw(st.integers(0, 10**6)))
    layers = tuple(draw(_choices(droppable)) for _ in range(count))
    candidates = draw(st.sampled_from([(2,), (2, 4), (1, 2, 4)]))
    auto = len(candidates) > 1 and draw(st.booleans())
    instance = Instance(
        program_of(layers, () if auto else candidates),
        _cost_table(rng, layers, candidates, auto),
        {"kl": _score_table(rng, layers, exact)},
    )
    term = _terms(count)
    sense = st.sampled_from(["minimize", "maximize"])
    instance = instance.with_search(
        objective=draw(st.one_of(st.just(alone(KL)), _linears(term))),
        sense=draw(st.one_of(st.just("minimize"), sense)),
        preferences=tuple(
            Preference(goal=draw(_linears(term)), sense=draw(sense), where=HERE)
            for _ in range(draw(st.integers(0, 1)))
        ),
    )
    requirements = []
    for line in range(draw(st.integers(0, 4))):
        if logic and draw(st.integers(0, 3)) == 0:
            requirements.append(LogicRequirement(formula=draw(_formulas(count)), where=at(line)))
        else:
            requirements.append(draw(_requirements(instance, term, line)))
    return instance.with_search(requirements=tuple(requirements))


@st.composite
def _choices(draw: st.DrawFn, droppable: bool) -> LayerChoice:
    def some(pool: tuple[Any, ...]) -> tuple[Any, ...]:
        found = draw(st.lists(st.sampled_from(range(len(pool))), min_size=1, max_size=3, unique=True))
        kept = [*found, *([len(pool) - 1] if droppable and len(pool) - 1 not in found else [])]
        return tuple(pool[i] for i in kept)

    return LayerChoice(attention=some(ATTENTION), ffn=some(FFN))


def _cost(rng: Random, zero: bool, batch: int) -> Cost:
    def number() -> int:
        return 0 if zero else rng.randint(0, 20)

    return Cost(
        params=number(),
        weights_bytes=number() * 10,
        kv_cache_bytes=number() * batch,
        prefill_ns=number(),
        decode_ns=number(),
        prefill_flop=number(),
        decode_flop=number(),
    )


def _cost_table(
    rng: Random, layers: tuple[LayerChoice, ...], batches: tuple[int, ...], auto: bool
) -> CostTable:
    attention = [{a.name: a for a in (*c.attention, ParentAttention())} for c in layers]
    ffn = [{f.name: f for f in (*c.ffn, ParentFfn())} for c in layers]
    capacity = rng.randint(50, 1500) if auto else None
    scenarios = []
    for batch in batches:
        pairs: tuple[dict[str, Cost], ...] = ()
        if rng.random() < 0.25:
            pairs = tuple(
                {f"{a}/{f}": _cost(rng, False, batch) for a in names for f in ffn[i] if rng.random() < 0.5}
                for i, names in enumerate(attention)
            )
        scenarios.append(
            ScenarioCosts(
                scenario="chat",
                batch=batch,
                prompt=4,
                output=3,
                fixed=Cost(params=9, weights_bytes=90, kv_cache_bytes=0, prefill_ns=7, decode_ns=3),
                reserve_bytes=13,
                attention=tuple({n: _cost(rng, n == "noop", batch) for n in names} for names in attention),
                ffn=tuple({n: _cost(rng, n == "noop", batch) for n in names} for names in ffn),
                pairs=pairs,
                capacity_bytes=capacity,
            )
        )
    return CostTable(
        space="wide",
        scenarios={"chat": tuple(scenarios)},
        params_fixed=fixed_params(SHAPE),
        params_attention=tuple({n: a.params(SHAPE) for n, a in names.items()} for names in attention),
        params_ffn=tuple({n: f.params(SHAPE) for n, f in names.items()} for names in ffn),
    )


def _score_table(rng: Random, layers: tuple[LayerChoice, ...], exact: bool) -> ScoreTable:
    coarse = rng.random() < 0.5

    def table(names: list[str]) -> dict[str, float]:
        return {n: score() for n in names if n not in ("parent", "parent/parent")}

    def score() -> float:
        if not exact:
            return rng.uniform(0, 10)
        return rng.randint(0, 9) / 10 if coarse else rng.randint(-50, 2000) / 1000

    def names(choice: LayerChoice, part: str) -> list[str]:
        return [a.name for a in getattr(choice, part)]

    offset = rng.choice([0.0, 0.25, -1.5])
    if rng.random() < 0.5:
        pairs = tuple(
            table([f"{a}/{f}" for a in names(c, "attention") for f in names(c, "ffn")]) for c in layers
        )
        return ScoreTable(
            score="kl", metric="kl_divergence", samples=1, unit="block", pairs=pairs, offset=offset
        )
    return ScoreTable(
        score="kl",
        metric="kl_divergence",
        samples=1,
        attention=tuple(table(names(c, "attention")) for c in layers),
        ffn=tuple(table(names(c, "ffn")) for c in layers),
        offset=offset,
    )


@st.composite
def _terms(draw: st.DrawFn, count: int) -> Term:
    layers = tuple(i for i in range(count) if draw(st.booleans()))
    return draw(
        st.one_of(
            st.just(KL),
            st.just(ParamsTerm()),
            st.sampled_from(tuple(TERMS)).map(chat),
            st.sampled_from(["kv_heads", "window", "params"]).map(
                lambda a: FactTerm(sub_block="attention", attribute=a, layers=layers)
            ),
            st.sampled_from(["width", "params"]).map(
                lambda a: FactTerm(sub_block="ffn", attribute=a, layers=layers)
            ),
            st.sampled_from([("noop",), ("linear", "noop"), ("parent",), ()]).map(
                lambda names: CountTerm(sub_block="attention", alternatives=names, layers=layers)
            ),
        )
    )


@st.composite
def _linears(draw: st.DrawFn, term: st.SearchStrategy[Term]) -> Linear:
    first = draw(term)
    throughput = isinstance(first, MetricTerm) and first.metric == "throughput"
    if throughput or draw(st.booleans()):
        return alone(first)
    second = draw(term.filter(lambda t: not (isinstance(t, MetricTerm) and t.metric == "throughput")))
    factor = st.sampled_from([Fraction(1), Fraction(-2), Fraction(1, 3), Fraction(5, 7)])
    return Linear(
        terms=(
            WeightedTerm(coefficient=draw(factor), term=first),
            WeightedTerm(coefficient=draw(factor), term=second),
        ),
        constant=draw(st.sampled_from([Fraction(0), Fraction(3, 2)])),
    )


@st.composite
def _requirements(
    draw: st.DrawFn, instance: Instance, term: st.SearchStrategy[Term], line: int
) -> Requirement:
    """A bound near what some child reaches, so that it often matters and seldom rules everything out."""
    left = draw(_linears(term))
    op = draw(st.sampled_from(["<=", ">=", "<=", ">=", "<", ">", "=="]))
    tables = tables_of(*instance.with_search(objective=left).args)
    layers = tuple(
        LayerAssignment(
            attention=draw(st.sampled_from(c.attention)).name, ffn=draw(st.sampled_from(c.ffn)).name
        )
        for c in tables.layers
    )
    child = Child(tables, layers, draw(st.sampled_from([*tables.batch_choices()])))
    value = child.linear(left)
    parent = child.parent().linear(left)
    if parent and draw(st.integers(0, 2)) == 0:
        return require(left, op, ratio=value / parent, line=line)
    nudge = draw(st.sampled_from([Fraction(0), Fraction(0), Fraction(1, 10), Fraction(-1, 10)]))
    return require(left, op, value * (1 + nudge), line=line)


def counted(operands: Sequence[Logic], at_least: int = 0, at_most: int | None = None) -> Logic:
    """From `at_least` to `at_most` of the operands hold."""

    def some(number: int) -> Logic:
        return Or(operands=tuple(And(operands=each) for each in combinations(operands, number)))

    most = () if at_most is None else (Not(operand=some(at_most + 1)),)
    return And(operands=(some(at_least), *most))


def _formulas(count: int) -> st.SearchStrategy[Logic]:
    def leaf(layer: int, part: Any, names: tuple[str, ...]) -> Logic:
        return Is(layer=layer, sub_block=part, alternatives=names)

    leaves = st.builds(
        leaf,
        st.integers(0, count - 1),
        st.sampled_from(["attention", "ffn"]),
        st.sampled_from([("noop",), ("parent",), ("noop", "linear"), ("gqa2", "mlp16"), ()]),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(lambda f: Not(operand=f), inner),
            st.builds(lambda fs: And(operands=tuple(fs)), st.lists(inner, max_size=3)),
            st.builds(lambda fs: Or(operands=tuple(fs)), st.lists(inner, max_size=3)),
            st.builds(lambda a, b: Implies(condition=a, consequence=b), inner, inner),
            st.builds(
                lambda fs, low, more: counted(fs, low, None if more is None else low + more),
                st.lists(inner, max_size=3),
                st.integers(0, 2),
                st.one_of(st.none(), st.integers(0, 2)),
            ),
        ),
        max_leaves=5,
    )


def plain_instance(layers: tuple[LayerChoice, ...], **search: Any) -> Instance:
    """A plain instance without drawing: everything that is left out costs and scores less."""
    attention = [{a.name: a for a in (*c.attention, ParentAttention())} for c in layers]
    ffn = [{f.name: f for f in (*c.ffn, ParentFfn())} for c in layers]

    def cost(alternative: Any) -> Cost:
        size = alternative.params(SHAPE)
        return Cost(
            params=size, weights_bytes=2 * size, kv_cache_bytes=size, prefill_ns=3 * size, decode_ns=size
        )

    costs = CostTable(
        space="wide",
        scenarios={
            "chat": (
                ScenarioCosts(
                    scenario="chat",
                    batch=2,
                    prompt=4,
                    output=3,
                    fixed=Cost(params=9, weights_bytes=90, kv_cache_bytes=0, prefill_ns=7, decode_ns=3),
                    attention=tuple({n: cost(a) for n, a in names.items()} for names in attention),
                    ffn=tuple({n: cost(f) for n, f in names.items()} for names in ffn),
                ),
            )
        },
        params_fixed=fixed_params(SHAPE),
        params_attention=tuple({n: a.params(SHAPE) for n, a in names.items()} for names in attention),
        params_ffn=tuple({n: f.params(SHAPE) for n, f in names.items()} for names in ffn),
    )
    full = ParentAttention().params(SHAPE), ParentFfn().params(SHAPE)
    scores = ScoreTable(
        score="kl",
        metric="kl_divergence",
        samples=1,
        attention=tuple(
            {n: (full[0] - a.params(SHAPE)) / 1000 * (i + 1) for n, a in names.items()}
            for i, names in enumerate(attention)
        ),
        ffn=tuple(
            {n: (full[1] - f.params(SHAPE)) / 1000 * (i + 1) for n, f in names.items()}
            for i, names in enumerate(ffn)
        ),
    )
    return Instance(program_of(layers, (2,), **search), costs, {"kl": scores})
