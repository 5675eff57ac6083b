"""The shipped files: they check, and their numbers are those of the datasheets and of the published checkpoints."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.ir import nodes
from puzzledsl.ir.check import check
from puzzledsl.ir.facts import total_params
from puzzledsl.resources import listing, resource
from tests.ir.programs import lowered

# Dense TFLOP/s bf16 / fp8, bandwidth in TB/s, capacity in GB, link in GB/s.
DATASHEETS = {
    "h100_sxm": ("989", "1979", "3.35", 80, 450),
    "h200": ("989", "1979", "4.8", 141, 450),
    "a100": ("312", None, "2.04", 80, 300),
    "l40s": ("362", "733", "0.864", 48, 32),
    "b200": ("2250", "4500", "7.7", 180, 900),
    "rtx4090": ("165", "330", "1.008", 24, 32),
    "rtx5090": ("209", "419", "1.792", 32, 64),
    "mi300x": ("1307", "2615", "5.3", 192, 448),
}

# What the published checkpoints hold, each tensor once.
PUBLISHED_PARAMS = {
    "llama3_1_8b": 8_030_261_248,
    "llama3_1_70b": 70_553_706_496,
    "llama3_1_405b": 405_853_388_800,
    "llama3_2_1b": 1_235_814_400,
    "llama3_2_3b": 3_212_749_824,
    "llama3_3_70b": 70_553_706_496,
    "mistral_7b_v0_3": 7_248_023_552,
    "qwen2_5_0_5b": 494_032_768,
    "qwen2_5_7b": 7_615_616_512,
    "qwen2_5_72b": 72_706_203_648,
    "qwen3_0_6b": 596_049_920,
    "qwen3_8b": 8_190_735_360,
    "qwen3_32b": 32_762_123_264,
    "smollm2_135m": 134_515_008,
    "smollm2_360m": 361_821_120,
    "smollm2_1_7b": 1_711_376_384,
}


@pytest.mark.parametrize("name", listing("spaces"))
def test_every_file_checks(name: str) -> None:
    assert check(resource("spaces", name), {}).diagnostics == ()


def test_hardware_is_what_the_datasheets_say(tmp_path: Path) -> None:
    program = check(resource("spaces", "std/hardware.pzl"), {}).program
    assert program is not None
    assert set(program.hardware) == set(DATASHEETS)
    for name, (bf16, fp8, bandwidth, memory, link) in DATASHEETS.items():
        spec = program.hardware[name].spec
        assert isinstance(spec, nodes.RooflineHardware)
        peaks = {"bf16": Fraction(bf16) * 10**12} | ({"fp8": Fraction(fp8) * 10**12} if fp8 else {})
        assert spec.flop_per_s == peaks, name
        assert spec.bandwidth_bytes_per_s == Fraction(bandwidth) * 10**12, name
        assert (spec.memory_bytes, spec.link_bytes_per_s) == (memory * 10**9, Fraction(link * 10**9)), name
        assert (spec.gpus, spec.dtype, spec.kv_dtype, spec.embedding_dtype) == (1, "bf16", "bf16", "bf16")


def test_the_fitted_constants_are_every_profiles(tmp_path: Path) -> None:
    program = check(resource("spaces", "std/hardware.pzl"), {}).program
    assert program is not None
    for hardware in program.hardware.values():
        spec = hardware.spec
        assert isinstance(spec, nodes.RooflineHardware)
        efficiencies = (
            spec.efficiency_compute, spec.efficiency_bandwidth, spec.efficiency_attention, spec.efficiency_link,
        )  # fmt: skip
        assert efficiencies == (Fraction("0.564"), Fraction("0.92"), Fraction("0.23"), Fraction("0.72"))
        assert (spec.overhead_s, spec.link_latency_s) == (Fraction(60, 10**6), Fraction(10, 10**6))
        assert (spec.reserve_bytes, spec.kv_fraction, spec.page_tokens) == (3 * 10**9, Fraction(9, 10), 64)


def test_every_number_names_its_source() -> None:
    for line in resource("spaces", "std/hardware.pzl").read_text("utf-8").splitlines():
        if line.startswith(" ") and "=" in line:
            assert "#" in line, line


def test_parents_are_the_published_checkpoints(tmp_path: Path) -> None:
    text = resource("spaces", "std/parents.pzl").read_text("utf-8")
    declared = [line.split()[1] for line in text.splitlines() if line.startswith("let ")]
    assert declared == list(PUBLISHED_PARAMS)
    uses = f'use "std/parents.pzl" ({", ".join(declared)})\n'
    program = lowered(tmp_path, uses + "".join(f"parent p_{name} = {name}\n" for name in declared))
    assert {n: total_params(program.parents[f"p_{n}"].shape) for n in declared} == PUBLISHED_PARAMS


def test_shipped_choices_fit_their_parents(tmp_path: Path) -> None:
    text = (
        'use "std/parents.pzl" as parents\nuse "std/spaces.pzl"\n'
        "parent big = parents.llama3_1_70b\nparent small = parents.smollm2_135m\nparent medium = parents.smollm2_360m\n"
        "parent seven = parents.qwen2_5_7b\nparent half = parents.qwen2_5_0_5b\n"
        "space a of big { attention = puzzle_attention, ffn = puzzle_ffn, assert size(layer) == 54 }\n"
        "space b of small { attention = puzzle_attention_kv3, ffn = puzzle_ffn_rounded(64) }\n"
        "space c of medium { attention = puzzle_attention_kv5, ffn = puzzle_ffn_rounded(32) }\n"
        "space d of seven { attention = puzzle_attention_kv4, ffn = puzzle_ffn }\n"
        "space e of half { attention = puzzle_attention_kv2, ffn = linear_or_noop }\n"
        "space f of big { attention = noop_only, ffn = noop_only, assert size(layer) == 4 }\n"
    )
    program = lowered(tmp_path, text)
    assert list(program.spaces) == ["a", "b", "c", "d", "e", "f"]
