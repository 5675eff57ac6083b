"""Random profiles, alternatives and programs on them, small enough that every batch can be tried."""

from fractions import Fraction
from random import Random

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.alternatives.shape import StateShape
from puzzledsl.costs.flops import Workload
from puzzledsl.costs.roofline import AnyBatch, line_of
from puzzledsl.ir.nodes import LayerChoice, RooflineHardware, Scenario, Shape, Where
from puzzledsl.ir.tables import LayerAssignment

HERE = Where(file="t.pzl", line=1, column=1, end_line=1, end_column=9)
ATTENTION: tuple[AttentionAlternative, ...] = (
    ParentAttention(),
    GqaAttention(kv_heads=2),
    GqaAttention(kv_heads=1, window=8),
    GqaAttention(kv_heads=4, window=6, sinks=2),
    GqaAttention(kv_heads=1, dtype="q8_0"),
    GqaAttention(kv_heads=2, kv_cache="q8_0"),
    ParentAttention(kv_cache="fp8"),
    LinearAttention(),
    NoOpAttention(),
)
FFN: tuple[FfnAlternative, ...] = (
    ParentFfn(),
    MlpFfn(width=16),
    MoeFfn(experts=4, top_k=2, width=8),
    MoeFfn(experts=4, top_k=2, width=8, dtype="int8"),
    LinearFfn(),
    NoOpFfn(),
)
DTYPES = ("fp32", "bf16", "fp8", "int4")


def kv_cache_bytes(hardware: RooflineHardware, shape: Shape, alternative: Alternative, work: Workload) -> int:
    """The bytes of a batch's KV cache and states in one layer."""
    return line_of(hardware, shape, alternative, work).cache_at(work.batch)


def a_shape(rng: Random, layers: int | None = None) -> Shape:
    """A shape of a few thousand parameters."""
    return Shape(
        family="llama",
        layers=rng.randint(1, 4) if layers is None else layers,
        hidden=16,
        heads=4,
        kv_heads=4,
        head_dim=4,
        intermediate=32,
        vocab=rng.choice([50, 500]),
        tied=rng.random() < 0.5,
        window=rng.choice([None, None, 5]),
    )


def a_mixed_shape(rng: Random) -> Shape:
    """A shape of two to four layers of any kinds: mixtures, windows, states, absent sub-blocks."""
    shape = a_shape(rng, rng.randint(2, 4)).model_copy(
        update={
            "experts": rng.randint(3, 6),
            "top_k": rng.randint(1, 3),
            "expert_width": 8,
            "shared_width": rng.choice([0, 16]),
            "state": StateShape(heads=4, head_dim=8, groups=2, state=4, conv=3),
        }
    )
    kinds = [
        {
            "mixer": rng.choice(["attention", "attention", "mamba2", "delta_net", "none"]),
            "ffn": rng.choice(["moe", "moe", "dense", "none"]),
            "window": rng.choice([None, 5]),
            "kv_heads": rng.choice([2, 4]),
        }
        for _ in range(shape.layers)
    ]
    return shape.with_layers(kinds)


def a_profile(rng: Random, max_batch: int) -> RooflineHardware:
    """A profile whose times are nanoseconds, so that rounding shows; its memory is set later."""
    return RooflineHardware(
        profile="random",
        gpus=rng.choice([1, 1, 2]),
        memory_bytes=1,
        bandwidth_bytes_per_s=Fraction(rng.choice([10**9, 10**10, 10**12])),
        flop_per_s={dtype: Fraction(rng.choice([10**9, 10**11, 10**13])) for dtype in DTYPES},
        link_bytes_per_s=Fraction(10**9),
        dtype=rng.choice(DTYPES),
        kv_dtype=rng.choice(DTYPES),
        efficiency_compute=Fraction(rng.randint(1, 10), 10),
        efficiency_bandwidth=Fraction(rng.randint(1, 10), 10),
        efficiency_attention=Fraction(rng.randint(1, 10), 10),
        efficiency_link=Fraction(rng.randint(1, 10), 10),
        overhead_s=Fraction(rng.choice([0, 3, 200]), 10**9),
        link_latency_s=Fraction(rng.choice([0, 7]), 10**9),
        reserve_bytes=rng.choice([0, 333]),
        kv_fraction=Fraction(rng.choice(["1", "0.9", "0.37"])),
        kv_policy=rng.choice(["full", "mean"]),
        page_tokens=rng.choice([1, 4]),
        max_batch=max_batch,
    )


def shared_out(profile: RooflineHardware, rng: Random) -> RooflineHardware:
    """The same, with a type of experts and perhaps with experts shared out to its GPUs."""
    groups = rng.choice([1, profile.gpus])
    return profile.model_copy(update={"expert_parallel": groups, "expert_dtype": rng.choice([None, "mxfp4"])})


def a_choice(rng: Random, own: Shape | None = None) -> LayerChoice:
    """One to three alternatives of each sub-block, of those that a layer of this shape can have."""
    attention, ffn = ATTENTION, FFN
    if own is not None and own.mixer != "attention":
        attention = ATTENTION[:1] if own.mixer == "none" else (ATTENTION[0], *ATTENTION[-2:])
    if own is not None and own.ffn == "none":
        ffn = FFN[:1]
    return LayerChoice(
        attention=tuple(rng.sample(attention, rng.randint(1, min(3, len(attention))))),
        ffn=tuple(rng.sample(ffn, rng.randint(1, min(3, len(ffn))))),
    )


def a_scenario(rng: Random, name: str, hardware: str) -> Scenario:
    """A few tokens at any batch."""
    prompt, output = rng.randint(1, 9), rng.randint(1, 6)
    return Scenario(name=name, hardware=hardware, batches=(), prompt=prompt, output=output, where=HERE)


def mixed_any_batch(rng: Random, max_batch: int = 40) -> AnyBatch:
    """As `any_batch`, for a parent whose layers are of any kinds."""
    shape = a_mixed_shape(rng)
    layers = tuple(a_choice(rng, own) for own in shape.each)
    profile = shared_out(a_profile(rng, max_batch), rng)
    return with_memory(AnyBatch(profile, shape, layers, a_scenario(rng, "chat", "h")), rng)


def any_batch(rng: Random, max_batch: int = 40) -> AnyBatch:
    """A scenario on a profile whose memory holds none, some or all batches of the space's models."""
    shape = a_shape(rng)
    layers = tuple(a_choice(rng) for _ in range(shape.layers))
    made = AnyBatch(a_profile(rng, max_batch), shape, layers, a_scenario(rng, "chat", "h"))
    return with_memory(made, rng)


def with_memory(made: AnyBatch, rng: Random) -> AnyBatch:
    """The same with a memory near what some model and some batch need."""
    layers = a_child(made.layers, rng)
    costs = made.at(rng.randint(1, made.hardware.max_batch))
    parts = [costs.fixed]
    for index, choice in enumerate(layers):
        parts += [costs.attention[index][choice.attention], costs.ffn[index][choice.ffn]]
    weights, cache = sum(c.weights_bytes for c in parts), sum(c.kv_cache_bytes for c in parts)
    needed = costs.reserve_bytes + weights + int(cache / made.hardware.kv_fraction) + rng.randint(-1, 1)
    hardware = made.hardware.model_copy(update={"memory_bytes": max(1, needed)})
    return AnyBatch(hardware, made.shape, made.layers, made.scenario)


def a_child(layers: tuple[LayerChoice, ...], rng: Random) -> tuple[LayerAssignment, ...]:
    """A random model."""
    return tuple(
        LayerAssignment(attention=rng.choice(c.attention).name, ffn=rng.choice(c.ffn).name) for c in layers
    )
