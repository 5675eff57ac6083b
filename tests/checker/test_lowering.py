"""Meaning of each kind of declaration, setting by setting: `lowering/*.pzl`, and beside each its IR in a `.json` file."""

import dataclasses
import json
import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.base.frozen import Frozen
from puzzledsl.checker.check import check
from puzzledsl.ir.nodes import Where
from tests.checker.programs import checked

PROGRAMS = Path(__file__).parent / "lowering"
RIGHT = sorted(p for p in PROGRAMS.glob("*.pzl") if not p.stem.startswith("wrong"))


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


@pytest.mark.states(
    "data.text", "data.jsonl", "data.parquet", "data.hf", "data.only", "data.messages", "data.loss", "data.part", "data.take",
    "data.duplicates", "hardware.profile", "hardware.of", "hardware.literal", "hardware.measured", "hardware.engine",
    "hardware.table", "hardware.running", "scenario.batch", "scenario.batches", "scenario.auto", "bld.train", "bld.tokens",
    "bld.heal", "lr.schedule", "score.replace-one", "score.unit", "score.settings", "score.runs", "score.healed",
    "require.comparison", "require.and", "require.ratio", "require.throughput", "search.inherits", "solver.choice",
    "frontier.sweep", "frontier.ends", "uptrain.loss", "uptrain.memory", "uptrain.dtype", "uptrain.keep", "eval.lm-eval",
    "eval.texts", "eval.dtype", "eval.prompts", "eval.tasks", "export.formats",
)  # fmt: skip
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
