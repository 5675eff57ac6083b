"""Meaning of each kind of declaration, setting by setting, and the diagnostics of wrong ones.

`lowering/*.pzl` hold the programs. One that is right has its IR beside it in a `.json` file; one that is wrong, in a `.err` file,
what is said of it: every place, word and number. `PZL_UPDATE_GOLDENS=1` rewrites both; read them.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.frozen import Frozen
from puzzledsl.checker.check import check
from puzzledsl.ir.nodes import Where
from tests.checker.programs import checked
from tests.goldens import assert_golden

PROGRAMS = Path(__file__).parent / "lowering"
WRONG = sorted(p for p in PROGRAMS.glob("*.pzl") if p.stem.startswith("wrong"))
RIGHT = sorted(set(PROGRAMS.glob("*.pzl")) - set(WRONG))


def diagnose(program: Path) -> tuple[Iterable[Diagnostic], Mapping[str, str]]:
    checked = check(program, {})
    return checked.diagnostics, checked.sources


def default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def meaning(value: object) -> Any:
    """A part of the IR as JSON: the kind of each thing, and what is not as the kind has it by default."""
    match value:
        case Where():
            return f"{value.file}:{value.line}:{value.column} to {value.end_line}:{value.end_column} {value.text}"
        case Frozen():
            fields = type(value).model_fields
            pairs = {name: getattr(value, name) for name in fields}
            return {n: meaning(v) for n, v in pairs.items() if n == "kind" or v != default(fields[n])}
        case Mapping():
            return {str(key): meaning(item) for key, item in value.items()}
        case tuple():
            return [meaning(item) for item in value]
        case Fraction():
            return str(value)
        case _:
            return value


@pytest.mark.parametrize("program", WRONG, ids=lambda p: p.stem)
def test_what_is_said_of_each_mistake(program: Path) -> None:
    assert_golden(program, diagnose)


@pytest.mark.parametrize("program", RIGHT, ids=lambda p: p.stem)
def test_what_each_setting_means(program: Path) -> None:
    checked = check(program, {})
    assert checked.program is not None, checked.diagnostics
    got = json.dumps(meaning(checked.program), indent=1, ensure_ascii=False)
    got = got.replace(f"{program.parent}{os.sep}", "") + "\n"
    golden = program.with_suffix(".json")
    if os.environ.get("PZL_UPDATE_GOLDENS"):
        golden.write_text(got, "utf-8")
    assert got == golden.read_text("utf-8")


EVERYTHING = """\
parent p = hf("org/model", revision: "abc", shape: shape(family: llama, layers: 4, hidden: 64, heads: 8, kv_heads: 4,
  head_dim: 8, intermediate: 192, vocab: 256))
hardware h { memory = 80GB, bandwidth = 2TB/s, peak { bf16 = 300TFLOP/s } }
hardware m = measured(device: cpu)
scenario chat on h = batch(4, 128 -> 64)
space w of p { attention = gqa(kv_heads: 4 | 2) | noop, ffn = mlp(width: 100% | 33%, round: 8) | noop }
data d = text("a.txt")
bld b of w { train = attention + ffn, tokens = 1k, data = d }
score kl of b = replace_one(kl_divergence)
search s of w { minimize kl }
frontier f of s = sweep(params, 0.5x..1x)
uptrain u of s { loss = 1 * kld, tokens = 1M, data = d }
eval e of u { data = d }
export x of u = hf("out")
"""


EXPERTS = """
use "std/hardware.pzl" (h100_sxm)
hardware plain = h100_sxm(gpus: 4)
hardware node = h100_sxm(gpus: 8, expert_parallel: 4, dtype: bf16, experts: mxfp4)
hardware own of node { efficiency { experts = 17% } }
hardware later of own { efficiency { compute = 40% } }
assert node.expert_parallel == 4 and node.experts == mxfp4 and plain.experts == bf16
"""


def test_a_profile_says_what_its_experts_are_like(tmp_path: Path) -> None:
    """And a profile that says nothing of experts has nothing of them in its JSON."""
    program = checked(tmp_path, EXPERTS).program
    assert program is not None
    plain, node, own, later = (program.hardware[name].spec for name in ("plain", "node", "own", "later"))
    assert not any("expert" in name for name in plain.model_dump())
    assert (node.expert_parallel, node.expert_dtype, node.efficiency_experts) == (4, "mxfp4", None)  # type: ignore[union-attr]
    assert (own.expert_parallel, own.efficiency_experts) == (4, Fraction(17, 100))  # type: ignore[union-attr]
    assert (later.efficiency_compute, later.efficiency_experts) == (Fraction(2, 5), Fraction(17, 100))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("old", "new", "codes"),
    [
        ("hardware m = measured(device: cpu)", "hardware m", ["E0209"]),
        ("hardware m = measured(device: cpu)", "hardware m = measured(device: cpu) { memory = 1GB }", ["E0215"]),
        ("hardware m = measured(device: cpu)", "hardware m = measured(device: cpu, memory: 0GB)", ["E0304"]),
        ("hardware m = measured(device: cpu)", "hardware m = table(3)", ["E0303"]),
        ("hardware m = measured(device: cpu)", "hardware m = h(memory: 1s, bandwidth: 1GB)", ["E0303", "E0303"]),
        ("hardware m = measured(device: cpu)", "hardware m = nothing(memory: 1s)", ["E0305"]),
        ("2TB/s, peak", "2TB/s, efficiency { compute = 3 }, peak", ["E0409"]),
        ("2TB/s, peak", "2TB/s, gpus = 6, link = 1GB/s, expert_parallel = 4, peak", ["E0409"]),
        ("2TB/s, peak", "2TB/s, efficiency { experts = 0 }, peak", ["E0409"]),
        ("2TB/s, peak", "2TB/s, gqa_decode { tokens = 100 }, peak", ["E0204"]),
        ("batch(4, 128", "batch(4, 0", ["E0304"]),
        ("space w of p {", "space w {", ["E0209"]),
    ],
)  # fmt: skip
def test_a_part_that_is_wrong_is_told_and_nothing_of_it_is_kept(
    tmp_path: Path, old: str, new: str, codes: list[str]
) -> None:
    found = checked(tmp_path, EVERYTHING.replace(old, new))
    assert found.program is None
    assert [d.code for d in found.diagnostics] == codes
