"""Programs by hand: Llama-3.1-70B on an H100, and a two-layer parent with a table."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.nodes import (
    Hardware,
    LayerChoice,
    MeasuredHardware,
    Parent,
    Program,
    RooflineHardware,
    Scenario,
    Shape,
    ShapeSource,
    Space,
    TableHardware,
    Where,
)

HERE = Where(file="t.pzl", line=3, column=1, end_line=3, end_column=9)
Spec = RooflineHardware | MeasuredHardware | TableHardware
Build = Callable[..., Program]


@pytest.fixture
def llama70b() -> Shape:
    return Shape(
        family="llama",
        layers=80,
        hidden=8192,
        heads=64,
        kv_heads=8,
        head_dim=128,
        intermediate=28672,
        vocab=128256,
        tied=False,
    )


@pytest.fixture
def small() -> Shape:
    return Shape(
        family="llama",
        layers=2,
        hidden=64,
        heads=4,
        kv_heads=4,
        head_dim=16,
        intermediate=128,
        vocab=100,
        tied=True,
    )


@pytest.fixture
def h100() -> RooflineHardware:
    return RooflineHardware(
        profile="h100_sxm",
        memory_bytes=80 * 2**30,
        bandwidth_bytes_per_s=Fraction(335 * 10**10),
        flop_per_s={"bf16": Fraction(989 * 10**12), "fp8": Fraction(1979 * 10**12)},
        link_bytes_per_s=Fraction(450 * 10**9),
        dtype="fp8",
        kv_dtype="fp8",
        efficiency_compute=Fraction("0.564"),
        efficiency_bandwidth=Fraction("0.92"),
        efficiency_attention=Fraction("0.23"),
        efficiency_link=Fraction("0.72"),
        overhead_s=Fraction(60, 10**6),
        link_latency_s=Fraction(10, 10**6),
        reserve_bytes=3 * 10**9,
        kv_fraction=Fraction("0.9"),
        page_tokens=64,
        max_batch=1024,
    )


@pytest.fixture
def wide() -> LayerChoice:
    """6 x 9 alternatives."""
    attention = (ParentAttention(), *(GqaAttention(kv_heads=k) for k in (4, 2, 1)), LinearAttention())
    widths = (24832, 21504, 14336, 7168, 5632, 2816)
    ffn = (ParentFfn(), *(MlpFfn(width=w) for w in widths), LinearFfn(), NoOpFfn())
    return LayerChoice(attention=(*attention, NoOpAttention()), ffn=ffn)


@pytest.fixture
def program() -> Callable[..., Program]:
    """`program(shape, choices, chat=(spec, batches, prompt, output), …)`: a space `wide` and one hardware a
    scenario."""

    def build(
        shape: Shape, layers: tuple[LayerChoice, ...], **scenarios: tuple[Spec, tuple[int, ...], int, int]
    ) -> Program:
        return Program(
            source="t.pzl",
            parents={"p": Parent(name="p", source=ShapeSource(), shape=shape, where=HERE)},
            hardware={n: Hardware(name=n, spec=s[0], where=HERE) for n, s in scenarios.items()},
            scenarios={
                n: Scenario(name=n, hardware=n, batches=b, prompt=p, output=o, where=HERE)
                for n, (_, b, p, o) in scenarios.items()
            },
            spaces={"wide": Space(name="wide", parent="p", layers=layers, where=HERE)},
        )

    return build
