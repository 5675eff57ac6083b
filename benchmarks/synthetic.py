"""Synthetic searches of any size that look like real ones.

Costs are the shipped roofline's (every layer alike) or the same with measuring noise a layer. Scores have heavy tails, as
measured ones do: what a layer loses spans three decades, a sub-block's alternatives follow the curve of trained pieces, and a
pair is worse than its two halves. Budgets are those of a child that the Lagrangian likes, cut by up to 0.4 %, so that all
of them bind and no child meets them exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.costs.table import cost_table
from puzzledsl.ir.nodes import (
    CpSat,
    FactTerm,
    Hardware,
    LayerChoice,
    Linear,
    LinearRequirement,
    MetricTerm,
    ParamsTerm,
    Parent,
    Program,
    Requirement,
    RooflineHardware,
    Scenario,
    Score,
    ScoreFromTable,
    ScoreTerm,
    Search,
    Shape,
    ShapeSource,
    Space,
    Term,
    WeightedTerm,
    Where,
)
from puzzledsl.ir.tables import Cost, CostTable, LayerAssignment, ScoreTable
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.tables import Tables, tables_of

HERE = Where(file="synthetic.pzl", line=1, column=1, end_line=1, end_column=2)
Inputs = tuple[Program, CostTable, dict[str, ScoreTable]]
Floats = NDArray[np.float64]
# hidden, heads, intermediate of a Llama of so many layers
SHAPES = {32: (4096, 32, 14336), 80: (8192, 64, 28672), 126: (16384, 128, 53248)}
# What a trained piece loses, of what the layer loses when the sub-block is removed (normalised MSE, measured).
KV_LOSS = {8: 0.0, 4: 0.16, 2: 0.25, 1: 0.34}
WIDTH_LOSS = ([0.0, 0.1, 0.25, 0.5, 0.75, 0.87, 1.0], [1.0, 0.45, 0.2, 0.04, 0.005, 0.002, 0.0])
LINEAR_LOSS = 0.55
H100 = RooflineHardware(
    profile="h100_sxm", memory_bytes=80 * 10**9, bandwidth_bytes_per_s=Fraction(335 * 10**10),
    flop_per_s={"bf16": Fraction(989 * 10**12), "fp8": Fraction(1979 * 10**12)}, dtype="fp8", kv_dtype="fp8",
    link_bytes_per_s=Fraction(450 * 10**9), efficiency_compute=Fraction("0.564"), efficiency_bandwidth=Fraction("0.92"),
    efficiency_attention=Fraction("0.23"), efficiency_link=Fraction("0.72"), overhead_s=Fraction(60, 10**6),
    link_latency_s=Fraction(10, 10**6), reserve_bytes=3 * 10**9, kv_fraction=Fraction("0.9"), page_tokens=64, max_batch=1024,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Budget:
    """A requirement to be: the term, and the side that a smaller child is on."""

    term: Term
    op: Literal["<=", ">="]


def metric(scenario: str, name: str) -> MetricTerm:
    """`scenario.name`."""
    return MetricTerm.model_validate({"scenario": scenario, "metric": name})


def budgets(layers: int) -> list[Budget]:
    """Six things that models are held to; searches with fewer requirements have the first ones."""
    every = tuple(range(layers))
    return [
        Budget(metric("chat", "memory"), "<="),
        Budget(metric("chat", "throughput"), ">="),
        Budget(metric("rag", "latency"), "<="),
        Budget(metric("think", "kv_cache"), "<="),
        Budget(FactTerm(sub_block="ffn", attribute="width", layers=every[layers // 2 :]), "<="),
        Budget(ParamsTerm(), "<="),
    ]


def single(term: Term) -> Linear:
    """An expression of one term."""
    return Linear(terms=(WeightedTerm(coefficient=Fraction(1), term=term),))


def requirement(budget: Budget, ratio: Fraction) -> LinearRequirement:
    """`term op ratio x`: times the parent's."""
    return LinearRequirement(
        left=single(budget.term), op=budget.op, bound=None, parent_ratio=ratio, where=HERE, bound_where=HERE
    )


def synthetic(
    layers: int = 80,
    attention: int = 6,
    ffn: int = 9,
    seed: int = 0,
    speedup: Fraction = Fraction(2),
    requirements: int = 3,
    noise: float | None = None,
    batches: tuple[int, ...] = (256,),
) -> Inputs:
    """A search `best`, its costs and its scores: `attention * ffn` pairs a layer, `requirements` budgets that all bind.

    `speedup` is about the throughput of an answer, times the parent's. `noise` is the relative deviation of each layer's
    measured times from the roofline; without it, none for even seeds and 2 % for odd ones. `batches` are those of `chat`.
    """
    rng = np.random.default_rng([seed, layers, attention * ffn])
    noise = (seed % 2) * 0.02 if noise is None else noise
    program = _program(layers, attention, ffn, batches)
    costs = _noisy(cost_table(program, "wide"), noise, rng)
    scores = {"kl": _scores(program, rng)}
    wanted = budgets(layers)[:requirements]
    reference = _reference(tables_of(_with(program, ()), "best", costs, scores), wanted, float(speedup), rng)
    limits = []
    for budget in wanted:
        ratio = reference.linear(single(budget.term)) / reference.parent().linear(single(budget.term))
        cut = 1 - rng.uniform(0, 0.004)
        limits.append(
            requirement(budget, Fraction(f"{float(ratio) * (cut if budget.op == '<=' else 1 / cut):.4f}"))
        )
    return _with(program, tuple(limits)), costs, scores


def with_search(inputs: Inputs, **changes: object) -> Inputs:
    """The same tables with another search."""
    program, costs, scores = inputs
    search = program.searches["best"].model_copy(update=changes)
    return program.model_copy(update={"searches": {"best": search}}), costs, scores


def at_any_batch(inputs: Inputs) -> Inputs:
    """The same search with `chat` at the largest batch that fits; costs are the profile's, without noise."""
    program, _, scores = inputs
    auto = program.scenarios["chat"].model_copy(update={"batches": ()})
    program = program.model_copy(update={"scenarios": {**program.scenarios, "chat": auto}})
    return program, cost_table(program, "wide"), scores


def alternatives(
    attention: int, ffn: int, shape: Shape
) -> tuple[tuple[AttentionAlternative, ...], tuple[FfnAlternative, ...]]:
    """`attention` and `ffn` alternatives, parent first, linear and no-op last."""
    heads = [GqaAttention(kv_heads=h, window=w) for w in (None, 2048, 1024, 512, 256) for h in (8, 4, 2, 1)]
    shares = [0.87, 0.75, 0.5, 0.25, 0.2, 0.1] if ffn == 9 else np.linspace(0.97, 0.03, ffn - 3).tolist()
    widths = sorted({max(256, round(shape.intermediate * s / 256) * 256) for s in shares}, reverse=True)
    return (
        (ParentAttention(), *heads[1 : attention - 2], LinearAttention(), NoOpAttention()),
        (ParentFfn(), *(MlpFfn(width=w) for w in widths), LinearFfn(), NoOpFfn()),
    )


def _program(layers: int, attention: int, ffn: int, batches: tuple[int, ...]) -> Program:
    hidden, heads, intermediate = SHAPES.get(layers, SHAPES[80])
    shape = Shape(
        family="llama", layers=layers, hidden=hidden, heads=heads, kv_heads=8, head_dim=128,
        intermediate=intermediate, vocab=128256, tied=False,
    )  # fmt: skip
    attentions, ffns = alternatives(attention, ffn, shape)

    def scenario(name: str, batches: tuple[int, ...], prompt: int, output: int) -> Scenario:
        return Scenario(name=name, hardware="h", batches=batches, prompt=prompt, output=output, where=HERE)

    return Program(
        source="synthetic.pzl",
        parents={"llama": Parent(name="llama", source=ShapeSource(), shape=shape, where=HERE)},
        hardware={"h": Hardware(name="h", spec=H100, where=HERE)},
        scenarios={
            "chat": scenario("chat", batches, 128, 1024),
            "rag": scenario("rag", (32,), 2048, 128),
            "think": scenario("think", (512,), 128, 4096),
        },
        spaces={
            "wide": Space(
                name="wide",
                parent="llama",
                layers=(LayerChoice(attention=attentions, ffn=ffns),) * layers,
                where=HERE,
            )
        },
        scores={
            "kl": Score(name="kl", bld=None, space="wide", method=ScoreFromTable(path="kl.csv"), where=HERE)
        },
    )


def _with(program: Program, requirements: tuple[Requirement, ...]) -> Program:
    search = Search(
        name="best",
        space="wide",
        sense="minimize",
        objective=single(ScoreTerm(score="kl")),
        requirements=requirements,
        solver=CpSat(time_s=Fraction(60), seed=1),
        where=HERE,
    )
    return program.model_copy(update={"searches": {"best": search}})


def _noisy(costs: CostTable, noise: float, rng: np.random.Generator) -> CostTable:
    """Each layer measured on its own: its times deviate, and sizes do not."""
    if not noise:
        return costs

    def measured(table: dict[str, Cost]) -> dict[str, Cost]:
        times = np.exp(rng.normal(0, noise, (len(table), 2)))
        return {
            name: cost.model_copy(
                update={"prefill_ns": int(cost.prefill_ns * p), "decode_ns": int(cost.decode_ns * d)}
            )
            for (name, cost), (p, d) in zip(table.items(), times.tolist(), strict=True)
        }

    scenarios = {
        name: tuple(
            at.model_copy(
                update={
                    "attention": tuple(map(measured, at.attention)),
                    "ffn": tuple(map(measured, at.ffn)),
                }
            )
            for at in batches
        )
        for name, batches in costs.scenarios.items()
    }
    return costs.model_copy(update={"scenarios": scenarios})


def _scores(program: Program, rng: np.random.Generator) -> ScoreTable:
    """A score a pair of each layer, to six significant digits. The first and last layers matter most."""
    space, shape = program.spaces["wide"], program.parents["llama"].shape
    attention, ffn = space.layers[0].attention, space.layers[0].ffn
    pairs = []
    for layer in range(shape.layers):
        edge = 2.0 * np.exp(-layer / 2) + 1.0 * np.exp(-(shape.layers - 1 - layer) / 2)
        a = np.exp(rng.normal(-4.5, 1.3) + edge) * _spread([_attention_loss(x) for x in attention], rng)
        f = np.exp(rng.normal(-3.0, 1.3) + edge) * _spread([_ffn_loss(x, shape) for x in ffn], rng)
        together = a[:, None] + f[None, :] + rng.uniform(0, 0.3) * np.sqrt(np.outer(a, f))
        pairs.append(
            {
                f"{x.name}/{y.name}": float(f"{together[i, j]:.6g}")
                for i, x in enumerate(attention)
                for j, y in enumerate(ffn)
            }
        )
    return ScoreTable(score="kl", metric="kl_divergence", samples=4096, unit="block", pairs=tuple(pairs))


def _spread(curve: list[float], rng: np.random.Generator) -> Floats:
    """The curve, bent and blurred as each layer's own is."""
    return np.asarray(
        np.array(curve) ** rng.uniform(0.7, 1.5) * np.exp(rng.normal(0, 0.1, len(curve))), dtype=np.float64
    )


def _attention_loss(alternative: AttentionAlternative) -> float:
    match alternative:
        case GqaAttention(kv_heads=heads, window=window):
            return KV_LOSS[heads] + (0.0 if window is None else 20 / window)
        case LinearAttention():
            return LINEAR_LOSS
        case NoOpAttention():
            return 1.0
    return 0.0


def _ffn_loss(alternative: FfnAlternative, shape: Shape) -> float:
    if isinstance(alternative, LinearFfn):
        return LINEAR_LOSS
    share = alternative.alone(shape).ffn_width / shape.intermediate
    return float(np.interp(share, WIDTH_LOSS[0], WIDTH_LOSS[1]))


def _reference(tables: Tables, wanted: list[Budget], speedup: float, rng: np.random.Generator) -> Child:
    """The child that is cheapest at random prices of all budgets, whose latency is the parent's over `speedup`."""
    chat = tables.costs.scenarios["chat"][0]
    batches = {"chat": chat.batch, "rag": 32, "think": 512}
    keys = [(a.name, f.name) for a in tables.layers[0].attention for f in tables.layers[0].ffn]
    layers = range(len(tables.layers))
    score = np.array([[tables.scores["kl"].pairs[i][f"{a}/{f}"] for a, f in keys] for i in layers])
    uses = []
    for budget in wanted:
        term = budget.term
        if isinstance(term, MetricTerm) and term.metric == "throughput":
            term = metric(term.scenario, "latency")
        use = np.array([[_use(tables, term, batches, i, a, f) for a, f in keys] for i in layers], dtype=float)
        uses.append(use / max(use.max(axis=1).sum(), 1e-300))
    latency = np.array(
        [[_use(tables, metric("chat", "latency"), batches, i, a, f) for a, f in keys] for i in layers]
    )
    weights = rng.dirichlet(np.ones(len(wanted)) * 4)
    priced = np.tensordot(weights, np.array(uses), axes=1)
    goal = (latency[:, 0].sum()) / speedup
    low, high = 1e-6, 1e9
    for _ in range(60):
        price = float(np.sqrt(low * high))
        chosen = np.argmin(score + price * priced, axis=1)
        spent = np.take_along_axis(latency, chosen[:, None], axis=1).sum()
        low, high = (price, high) if spent > goal else (low, price)
    chosen = np.argmin(score + high * priced, axis=1)
    return Child(
        tables, tuple(LayerAssignment(attention=keys[c][0], ffn=keys[c][1]) for c in chosen.tolist()), batches
    )


def _use(tables: Tables, term: Term, batches: dict[str, int], layer: int, attention: str, ffn: str) -> float:
    """Share of a budget that one pair of one layer takes."""
    if isinstance(term, MetricTerm):
        at = tables.at(term.scenario, batches[term.scenario])
        parts = (at.attention[layer][attention], at.ffn[layer][ffn])
        if term.metric == "memory":
            return float(sum(c.weights_bytes + c.kv_cache_bytes for c in parts))
        if term.metric == "kv_cache":
            return float(sum(c.kv_cache_bytes for c in parts))
        return float(sum(c.prefill_ns + at.output * c.decode_ns for c in parts))
    choice = LayerAssignment(attention=attention, ffn=ffn)
    if isinstance(term, FactTerm):
        return float(tables.fact("ffn", "width", layer, ffn) if layer in term.layers else 0)
    return float(tables.params(layer, choice))
