"""Synthetic searches of any size: costs by a small roofline with noise (each shape measured once, as `pzl measure` does), scores
that grow with what is taken away."""

from __future__ import annotations

import math
import random
from fractions import Fraction

from puzzledsl.ir import facts
from puzzledsl.ir.alternatives import (
    AttentionAlternative,
    FfnAlternative,
    GqaAttention,
    LinearAttention,
    LinearFfn,
    MlpFfn,
    NoOpAttention,
    NoOpFfn,
    ParentAttention,
    ParentFfn,
    name_of,
)
from puzzledsl.ir.nodes import (
    CpSat,
    Hardware,
    LayerChoice,
    Linear,
    LinearRequirement,
    MetricTerm,
    Parent,
    Program,
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
from puzzledsl.ir.tables import Cost, CostTable, ScenarioCosts, ScoreTable

HERE = Where(file="synthetic.pzl", line=1, column=1, end_line=1, end_column=2)
BANDWIDTH_BYTES_PER_NS = 3350
OVERHEAD_NS = 60_000
Inputs = tuple[Program, CostTable, dict[str, ScoreTable]]


def single(term: Term) -> Linear:
    """An expression of one term."""
    return Linear(terms=(WeightedTerm(coefficient=Fraction(1), term=term),))


def requirement(
    term: Term, op: str, bound: Fraction | None = None, ratio: Fraction | None = None
) -> LinearRequirement:
    """`term op bound` or `term op ratio-of-the-parent`."""
    return LinearRequirement.model_validate(
        {
            "left": single(term),
            "op": op,
            "bound": bound,
            "parent_ratio": ratio,
            "where": HERE,
            "bound_where": HERE,
        }
    )


def alternatives(
    attention: int, ffn: int, shape: Shape
) -> tuple[list[AttentionAlternative], list[FfnAlternative]]:
    """`attention` and `ffn` alternatives, parent first and no-op last."""
    heads = [max(1, shape.kv_heads >> i) for i in range(1, attention - 2)]
    widths = [
        max(256, round(shape.intermediate * (1 - (i + 1) / (ffn - 2)) / 256) * 256) for i in range(ffn - 3)
    ]
    return (
        [
            ParentAttention(),
            *(GqaAttention(kv_heads=h, window=4096 + i) for i, h in enumerate(heads)),
            LinearAttention(),
            NoOpAttention(),
        ],
        [ParentFfn(), *(MlpFfn(width=w + i) for i, w in enumerate(widths)), LinearFfn(), NoOpFfn()],
    )


def synthetic(
    layers: int = 80, attention: int = 6, ffn: int = 9, seed: int = 0, speedup: Fraction = Fraction(2)
) -> Inputs:
    """A search `best` with three requirements (memory, throughput, a second scenario's latency), its costs and its scores."""
    rng = random.Random(seed)
    shape = Shape(
        family="llama", layers=layers, hidden=8192, heads=64, kv_heads=8, head_dim=128,
        intermediate=28672, vocab=128256, tied=False,
    )  # fmt: skip
    attentions, ffns = alternatives(attention, ffn, shape)
    program = Program(
        source="synthetic.pzl",
        parents={"llama": Parent(name="llama", source=ShapeSource(), shape=shape, where=HERE)},
        hardware={"h": Hardware(name="h", spec=TableHardware(path="costs.csv"), where=HERE)},
        scenarios={
            "chat": Scenario(name="chat", hardware="h", batches=(256,), prompt=128, output=1024, where=HERE),
            "rag": Scenario(name="rag", hardware="h", batches=(32,), prompt=2048, output=128, where=HERE),
        },
        spaces={
            "wide": Space(
                name="wide",
                parent="llama",
                layers=(LayerChoice(attention=tuple(attentions), ffn=tuple(ffns)),) * layers,
                where=HERE,
            )
        },
        scores={
            "kl": Score(name="kl", bld=None, space="wide", method=ScoreFromTable(path="kl.csv"), where=HERE)
        },
        searches={
            "best": Search(
                name="best",
                space="wide",
                sense="minimize",
                objective=single(ScoreTerm(score="kl")),
                requirements=_requirements(speedup),
                solver=CpSat(time_s=Fraction(60), seed=1),
                where=HERE,
            )
        },
    )
    return program, _costs(program, rng), {"kl": _scores(program, rng)}


def _requirements(speedup: Fraction) -> tuple[Requirement, ...]:
    def metric(scenario: str, name: str) -> MetricTerm:
        return MetricTerm.model_validate({"scenario": scenario, "metric": name})

    return (
        requirement(metric("chat", "memory"), "<=", ratio=Fraction(3, 5)),
        requirement(metric("chat", "throughput"), ">=", ratio=speedup),
        requirement(metric("rag", "latency"), "<=", ratio=1 / (speedup * Fraction(9, 10))),
    )


def _costs(program: Program, rng: random.Random) -> CostTable:
    space, shape = program.spaces["wide"], program.parents["llama"].shape
    attention = {name_of(a): a for a in space.layers[0].attention}
    ffn = {name_of(f): f for f in space.layers[0].ffn}

    def cost(block: AttentionAlternative | FfnAlternative, scenario: Scenario) -> Cost:
        params, batch = facts.params(block, shape), scenario.batches[0]
        cache = (
            2 * facts.kv_heads(block, shape) * shape.head_dim * batch * (scenario.prompt + scenario.output)
        )
        work = OVERHEAD_NS if params else 0
        prefill = 2 * params * batch * scenario.prompt // 1_100_000
        noise = 1 + 0.02 * rng.random()
        return Cost(
            params=params,
            weights_bytes=params,
            kv_cache_bytes=cache,
            prefill_ns=int((prefill + work) * noise),
            decode_ns=int(((params + cache) // BANDWIDTH_BYTES_PER_NS + work) * noise),
        )

    fixed = facts.fixed_params(shape)
    tables: dict[str, tuple[ScenarioCosts, ...]] = {}
    for name, scenario in program.scenarios.items():
        tables[name] = (
            ScenarioCosts(
                scenario=name,
                batch=scenario.batches[0],
                prompt=scenario.prompt,
                output=scenario.output,
                fixed=Cost(
                    params=fixed,
                    weights_bytes=2 * fixed,
                    kv_cache_bytes=0,
                    prefill_ns=5_000_000,
                    decode_ns=fixed // BANDWIDTH_BYTES_PER_NS,
                ),
                reserve_bytes=3 * 10**9,
                attention=({n: cost(a, scenario) for n, a in attention.items()},) * len(space.layers),
                ffn=({n: cost(f, scenario) for n, f in ffn.items()},) * len(space.layers),
            ),
        )
    return CostTable(
        space="wide",
        scenarios=tables,
        params_fixed=fixed,
        params_attention=tuple(
            {n: facts.params(a, shape) for n, a in attention.items()} for _ in space.layers
        ),
        params_ffn=tuple({n: facts.params(f, shape) for n, f in ffn.items()} for _ in space.layers),
    )


def _scores(program: Program, rng: random.Random) -> ScoreTable:
    space, shape = program.spaces["wide"], program.parents["llama"].shape
    attention, ffn = [], []
    for choice in space.layers:
        scale = math.exp(rng.gauss(-4, 1.0))
        attention.append(
            {
                name_of(a): _score(1 - facts.params(a, shape) / facts.attention_params(shape, 8), scale, rng)
                for a in choice.attention
            }
        )
        scale = math.exp(rng.gauss(-3, 1.0))
        ffn.append(
            {
                name_of(f): _score(1 - facts.width(f, shape) / shape.intermediate, scale, rng)
                for f in choice.ffn
            }
        )
    return ScoreTable(
        score="kl", metric="kl_divergence", samples=4096, attention=tuple(attention), ffn=tuple(ffn)
    )


def _score(removed: float, scale: float, rng: random.Random) -> float:
    return scale * removed**2 * math.exp(rng.gauss(0, 0.15)) if removed > 1e-6 else 0.0
