"""Small searches of every kind, valid by construction: a hypothesis strategy, and one instance without drawing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from puzzledsl.alternatives.alternative import SUB_BLOCKS, SubBlock
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import fixed_params
from puzzledsl.ir.metric_records import TERMS
from puzzledsl.ir.nodes import (
    And,
    Is,
    LayerChoice,
    Linear,
    Logic,
    LogicRequirement,
    MetricTerm,
    Not,
    Or,
    Term,
)
from puzzledsl.ir.tables import Cost, CostTable, LayerAssignment, ScenarioCosts, ScoreTable
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.solve import solve_frontier
from puzzledsl.search.tables import Tables, tables_of
from tests.cases import cases

SHAPE = nodes.Shape(
    family="llama", layers=4, hidden=16, heads=4, kv_heads=4, head_dim=4, intermediate=32, vocab=50, tied=True
)
ATTENTION: tuple[AttentionAlternative, ...] = (
    ParentAttention(),
    GqaAttention(kv_heads=2),
    GqaAttention(kv_heads=1, window=8),
    LinearAttention(),
    NoOpAttention(),
)
FFN: tuple[FfnAlternative, ...] = (ParentFfn(), MlpFfn(width=16), MlpFfn(width=8), LinearFfn(), NoOpFfn())
HERE = nodes.Where(file="t.pzl", line=1, column=1, end_line=1, end_column=9)
KL = nodes.ScoreTerm(score="kl")


def quick(count: int, **more: Any) -> Any:
    """Settings of a law: so many cases, and no complaints that a solver is slow."""
    return settings(max_examples=cases(count), suppress_health_check=list(HealthCheck), **more)


@dataclass(frozen=True)
class Instance:
    program: nodes.Program
    costs: CostTable
    scores: dict[str, ScoreTable]

    @property
    def args(self) -> tuple[nodes.Program, str, CostTable, dict[str, ScoreTable]]:
        """In the order that every function of the search takes them."""
        return self.program, "best", self.costs, self.scores

    @property
    def search(self) -> nodes.Search:
        """The search."""
        return self.program.searches["best"]

    @property
    def layers(self) -> tuple[LayerChoice, ...]:
        """The alternatives of each layer."""
        return self.program.spaces["wide"].layers

    def with_search(self, **changes: Any) -> Instance:
        """The same with another search."""
        search = self.search.model_copy(update=changes)
        program = self.program.model_copy(update={"searches": {"best": search}})
        return Instance(program, self.costs, self.scores)

    def changed(self, change: Callable[[str, Any], Any]) -> Instance:
        """The same with other alternatives, costs and scores, by field and layer; tables that are absent stay absent."""

        def apply(model: Any, *fields: str) -> Any:
            update = {f: change(f, getattr(model, f)) for f in fields if getattr(model, f)}
            return model.model_copy(update=update)

        space = apply(self.program.spaces["wide"], "layers")
        costs = apply(self.costs, "params_attention", "params_ffn")
        chat = tuple(apply(c, "attention", "ffn", "pairs") for c in costs.scenarios["chat"])
        return Instance(
            self.program.model_copy(update={"spaces": {"wide": space}}),
            costs.model_copy(update={"scenarios": {"chat": chat}}),
            {"kl": apply(self.scores["kl"], "attention", "ffn", "pairs")},
        )


def alike(instance: Instance) -> Instance:
    """The same with what layer 0 has in every layer."""
    return instance.changed(lambda _, values: (values[0],) * len(values))


def measured(instance: Instance) -> Instance:
    method = nodes.ReplaceOne(metric="kl_divergence")
    score = instance.program.scores["kl"].model_copy(update={"method": method})
    program = instance.program.model_copy(update={"scores": {"kl": score}})
    return Instance(program, instance.costs, instance.scores)


def at(line: int) -> nodes.Where:
    return nodes.Where(file="t.pzl", line=line, column=3, end_line=line, end_column=20, text=f"line {line}")


def alone(term: Term) -> Linear:
    return total((1, term))


def total(*parts: tuple[Fraction | int, Term], constant: Fraction = Fraction(0)) -> Linear:
    """A sum of terms, each times a factor."""
    terms = tuple(nodes.WeightedTerm(coefficient=Fraction(factor), term=term) for factor, term in parts)
    return Linear(terms=terms, constant=constant)


def require(
    left: Linear | Term, op: Any, bound: Fraction | int | str | None = None, *, line: int = 1, **more: Any
) -> nodes.LinearRequirement:
    """A linear requirement. `ratio`: times the parent's; `text` of the bound."""
    ratio, where = more.get("ratio"), at(line)
    return nodes.LinearRequirement(
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
    return MetricTerm(scenario="chat", metric=metric)


def swept(instance: Instance, term: Term, low: Any, high: Any, points: int, times: bool = False) -> Any:
    """The frontier of a search along a term. `times`: the bounds are multiples of the parent's."""
    frontier = nodes.Frontier(
        name="f", search="best", term=term, low=Fraction(low), high=Fraction(high), points=points,
        times_parent=times, where=HERE,
    )  # fmt: skip
    program = instance.program.model_copy(update={"frontiers": {"f": frontier}})
    return solve_frontier(program, "f", instance.costs, instance.scores)


def program_of(layers: tuple[LayerChoice, ...], batches: tuple[int, ...], **search: Any) -> nodes.Program:
    """A program with one of everything and the search `best`."""
    shape = SHAPE.model_copy(update={"layers": len(layers)})
    usual = {"sense": "minimize", "objective": alone(KL), "solver": nodes.CpSat(time_s=Fraction(60))}
    score = nodes.ScoreFromTable(path="kl.csv")
    return nodes.Program(
        source="t.pzl",
        parents={"tiny": nodes.Parent(name="tiny", source=nodes.ShapeSource(), shape=shape, where=HERE)},
        hardware={"h": nodes.Hardware(name="h", spec=nodes.TableHardware(path="c.csv"), where=HERE)},
        scenarios={
            "chat": nodes.Scenario(name="chat", hardware="h", batches=batches, prompt=4, output=3, where=HERE)
        },
        spaces={"wide": nodes.Space(name="wide", parent="tiny", layers=layers, where=HERE)},
        scores={"kl": nodes.Score(name="kl", bld=None, space="wide", method=score, where=HERE)},
        searches={"best": nodes.Search(name="best", space="wide", where=HERE, **{**usual, **search})},
    )


# ---------------------------------------------------------------- tables


def by_name(layers: Sequence[LayerChoice], part: SubBlock) -> list[dict[str, Any]]:
    """Each layer's alternatives of a sub-block, the parent's own among them."""
    own = ParentAttention() if part == "attention" else ParentFfn()
    return [{a.name: a for a in (*getattr(choice, part), own)} for choice in layers]


def costs_at(
    batch: int, layers: Sequence[LayerChoice], cost: Callable[[Any], Cost], **more: Any
) -> ScenarioCosts:
    """Costs of a batch, by a function of alternatives."""
    parts: dict[str, Any] = {
        part: tuple({n: cost(a) for n, a in names.items()} for names in by_name(layers, part))
        for part in SUB_BLOCKS
    }
    fixed = Cost(params=9, weights_bytes=90, kv_cache_bytes=0, prefill_ns=7, decode_ns=3)
    return ScenarioCosts(scenario="chat", batch=batch, prompt=4, output=3, fixed=fixed, **parts, **more)


def cost_table_of(layers: Sequence[LayerChoice], *chat: ScenarioCosts) -> CostTable:
    """Costs of the scenario `chat`, and the numbers of parameters that alternatives have."""
    params: dict[str, Any] = {
        f"params_{part}": tuple(
            {n: a.params(SHAPE) for n, a in names.items()} for names in by_name(layers, part)
        )
        for part in SUB_BLOCKS
    }
    return CostTable(space="wide", scenarios={"chat": chat}, params_fixed=fixed_params(SHAPE), **params)


def random_costs(
    rng: Random, layers: tuple[LayerChoice, ...], batches: tuple[int, ...], auto: bool
) -> CostTable:
    """Costs of each batch, sometimes of pairs too. `auto`: the largest batch that fits is a child's own."""
    capacity = rng.randint(50, 1500) if auto else None

    def cost(batch: int, most: int = 20) -> Cost:
        numbers = [rng.randint(0, most) for _ in range(7)]
        return Cost(
            params=numbers[0],
            weights_bytes=numbers[1] * 10,
            kv_cache_bytes=numbers[2] * batch,
            prefill_ns=numbers[3],
            decode_ns=numbers[4],
            prefill_flop=numbers[5],
            decode_flop=numbers[6],
        )

    def pairs(batch: int) -> tuple[dict[str, Cost], ...]:
        if rng.random() >= 0.25:
            return ()
        both = zip(by_name(layers, "attention"), by_name(layers, "ffn"), strict=True)
        return tuple(
            {f"{a}/{f}": cost(batch) for a in names for f in others if rng.random() < 0.5}
            for names, others in both
        )

    def of_batch(batch: int) -> ScenarioCosts:
        given = {"pairs": pairs(batch), "reserve_bytes": 13, "capacity_bytes": capacity}
        return costs_at(batch, layers, lambda a: cost(batch, 0 if a.kind == "noop" else 20), **given)

    return cost_table_of(layers, *map(of_batch, batches))


def random_scores(rng: Random, layers: tuple[LayerChoice, ...], exact: bool) -> ScoreTable:
    """Scores of sub-blocks or of pairs. `exact`: of few decimals, sometimes of one, so that answers are as good as others."""
    coarse, offset = rng.random() < 0.5, rng.choice([0.0, 0.25, -1.5])

    def table(names: Sequence[str]) -> dict[str, float]:
        return {n: score() for n in names if n not in ("parent", "parent/parent")}

    def score() -> float:
        if not exact:
            return rng.uniform(0, 10)
        return rng.randint(0, 9) / 10 if coarse else rng.randint(-50, 2000) / 1000

    parts: dict[str, Any] = {
        part: tuple(table([a.name for a in getattr(c, part)]) for c in layers) for part in SUB_BLOCKS
    }
    if rng.random() < 0.5:
        names = [[f"{a.name}/{f.name}" for a in c.attention for f in c.ffn] for c in layers]
        parts = {"unit": "block", "pairs": tuple(map(table, names))}
    return ScoreTable(score="kl", metric="kl_divergence", samples=1, offset=offset, **parts)


def plain_instance(layers: tuple[LayerChoice, ...], **search: Any) -> Instance:
    """A plain instance without drawing: everything that is left out costs and scores less."""

    def cost(alternative: Any) -> Cost:
        size = alternative.params(SHAPE)
        return Cost(
            params=size, weights_bytes=2 * size, kv_cache_bytes=size, prefill_ns=3 * size, decode_ns=size
        )

    def scores(part: SubBlock) -> Any:
        full = (ParentAttention() if part == "attention" else ParentFfn()).params(SHAPE)
        return tuple(
            {n: (full - a.params(SHAPE)) / 1000 * (i + 1) for n, a in names.items()}
            for i, names in enumerate(by_name(layers, part))
        )

    table = ScoreTable(
        score="kl", metric="kl_divergence", samples=1, attention=scores("attention"), ffn=scores("ffn")
    )
    costs = cost_table_of(layers, costs_at(2, layers, cost))
    return Instance(program_of(layers, (2,), **search), costs, {"kl": table})


# ---------------------------------------------------------------- how they are drawn


def problems(
    *, logic: bool = True, exact: bool = True, max_layers: int = 4, droppable: bool = False
) -> st.SearchStrategy[Instance]:
    """Any small search. `exact`: scores of few decimals, so that the integers are exact. `droppable`: every layer may have
    neither sub-block."""

    def drawn(seed: int) -> Instance:
        rng = Random(seed)
        layers = tuple(_a_choice(rng, droppable) for _ in range(rng.randint(1, max_layers)))
        candidates = rng.choice([(2,), (2, 4), (1, 2, 4)])
        auto = len(candidates) > 1 and rng.random() < 0.5
        costs, scores = random_costs(rng, layers, candidates, auto), random_scores(rng, layers, exact)
        instance = Instance(program_of(layers, () if auto else candidates), costs, {"kl": scores})

        def some_child(tables: Tables) -> Child:
            names = [(rng.choice(c.attention).name, rng.choice(c.ffn).name) for c in tables.layers]
            chosen = tuple(LayerAssignment(attention=a, ffn=f) for a, f in names)
            return Child(tables, chosen, rng.choice([*tables.batch_choices()]))

        return with_random_search(rng, instance, lambda: _a_term(rng, len(layers)), some_child, logic=logic)

    return st.builds(drawn, st.integers(0, 10**6))


def with_random_search(
    rng: Random,
    instance: Instance,
    term: Callable[[], Term],
    some_child: Callable[[Tables], Child],
    *,
    logic: bool,
    ops: Sequence[str] = ("<=", ">=", "<=", ">=", "<", ">", "=="),
) -> Instance:
    """With a goal, perhaps a preference, and up to four requirements.

    A bound is near what some child reaches, so that it often matters and seldom rules everything out.
    """

    def linear() -> Linear:
        first, second = term(), term()
        if rng.random() < 0.6 or "throughput" in (getattr(t, "metric", "") for t in (first, second)):
            return alone(first)
        factors = [Fraction(1), Fraction(-2), Fraction(1, 3), Fraction(5, 7)]
        constant = rng.choice([Fraction(0), Fraction(3, 2)])
        return total((rng.choice(factors), first), (rng.choice(factors), second), constant=constant)

    def requirement(line: int) -> nodes.Requirement:
        if logic and rng.random() < 0.25:
            formula = random_formula(rng, lambda: _a_leaf(rng, len(instance.layers)))
            return LogicRequirement(formula=formula, where=at(line))
        left, op = linear(), rng.choice(ops)
        child = some_child(tables_of(*instance.with_search(objective=left).args))
        value, parent = child.linear(left), child.parent().linear(left)
        is_batch = any(isinstance(w.term, MetricTerm) and w.term.metric == "batch" for w in left.terms)
        if parent and not is_batch and rng.random() < 0.35:
            return require(left, op, ratio=value / parent, line=line)
        nudge = rng.choice([Fraction(0), Fraction(0), Fraction(1, 10), Fraction(-1, 10)])
        return require(left, op, value * (1 + nudge), line=line)

    def preference() -> nodes.Preference:
        return nodes.Preference(goal=linear(), sense=rng.choice(["minimize", "maximize"]), where=HERE)

    goal = alone(KL) if rng.random() < 0.4 else linear()
    return instance.with_search(
        objective=goal,
        sense=rng.choice(["minimize", "minimize", "maximize"]),
        preferences=tuple(preference() for _ in range(rng.randint(0, 1))),
        requirements=tuple(map(requirement, range(rng.randint(0, 4)))),
    )


def _a_choice(rng: Random, droppable: bool) -> LayerChoice:
    def some(pool: tuple[Any, ...]) -> tuple[Any, ...]:
        found = rng.sample(pool, rng.randint(1, 3))
        return (*found, *([pool[-1]] if droppable and pool[-1] not in found else []))

    return LayerChoice(attention=some(ATTENTION), ffn=some(FFN))


def _a_term(rng: Random, count: int) -> Term:
    layers = tuple(i for i in range(count) if rng.random() < 0.5)
    match rng.randrange(6):
        case 0:
            return KL
        case 1:
            return nodes.ParamsTerm()
        case 2:
            return chat(rng.choice(TERMS))
        case 3:
            attribute = rng.choice(["kv_heads", "window", "params"])
            return nodes.FactTerm(sub_block="attention", attribute=attribute, layers=layers)
        case 4:
            return nodes.FactTerm(sub_block="ffn", attribute=rng.choice(["width", "params"]), layers=layers)
        case _:
            names = rng.choice([("noop",), ("linear", "noop"), ("parent",), ()])
            return nodes.CountTerm(sub_block="attention", alternatives=names, layers=layers)


def _a_leaf(rng: Random, count: int) -> Logic:
    names = rng.choice([("noop",), ("parent",), ("noop", "linear"), ("gqa2", "mlp16"), ()])
    return Is(layer=rng.randrange(count), sub_block=rng.choice(SUB_BLOCKS), alternatives=names)


def formulas(count: int) -> st.SearchStrategy[Logic]:
    """Nested statements about so many layers."""

    def drawn(seed: int) -> Logic:
        rng = Random(seed)
        return random_formula(rng, lambda: _a_leaf(rng, count))

    return st.builds(drawn, st.integers(0, 10**6))


def random_formula(rng: Random, leaf: Callable[[], Logic], depth: int = 3) -> Logic:
    """Nested statements, of every kind of node."""

    def parts(least: int, most: int = 3) -> tuple[Logic, ...]:
        return tuple(random_formula(rng, leaf, depth - 1) for _ in range(rng.randint(least, most)))

    match rng.randrange(6) if depth else 0:
        case 0:
            return leaf()
        case 1:
            return Not(operand=parts(1, 1)[0])
        case 2:
            return And(operands=parts(0))
        case 3:
            return Or(operands=parts(0))
        case 4:
            condition, consequence = parts(2, 2)
            return nodes.Implies(condition=condition, consequence=consequence)
        case _:
            least = rng.randint(0, 2)
            return counted(parts(1), least, rng.choice([None, least, least + 1]))


def counted(operands: Sequence[Logic], at_least: int = 0, at_most: int | None = None) -> Logic:
    """From `at_least` to `at_most` of the operands hold."""

    def some(number: int) -> Logic:
        return Or(operands=tuple(And(operands=each) for each in combinations(operands, number)))

    most = () if at_most is None else (Not(operand=some(at_most + 1)),)
    return And(operands=(some(at_least), *most))
