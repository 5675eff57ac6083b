"""Programs of examples/mixtures: published sizes, whole searches without weights, and scores that say that they are made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from examples.mixtures.scores import rows
from puzzledsl.checker.check import check
from puzzledsl.ir import facts
from puzzledsl.ir.nodes import Program
from tests.cases import more
from tests.forked import pzl
from tests.sizes import active_params

FOLDER = Path(__file__).parents[2] / "examples" / "mixtures"
PUBLISHED = {  # parameters, and those of one token, as the models' cards round them
    "gpt_oss_120b": (116_829_156_672, "116.83B", "5.71B"),  # 5.13B without the embedding
    "qwen3_30b_a3b": (30_532_122_624, "30.53B", "3.35B"),
    "nemotron_3_nano": (31_577_940_288, "31.58B", "3.58B"),
    "gemma3_27b": (27_009_346_304, "27.01B", "27.01B"),
}


def program_of(name: str) -> Program:
    checked = check(FOLDER / f"{name}.pzl", {})
    assert checked.program is not None and not checked.diagnostics
    return checked.program


def test_there_is_a_program_for_each_model() -> None:
    assert {path.stem for path in FOLDER.glob("*.pzl")} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_parent_has_its_published_size(name: str) -> None:
    (parent,) = program_of(name).parents.values()
    params, total, active = PUBLISHED[name]
    assert facts.total_params(parent.shape) == params
    assert f"{params / 1e9:.2f}B" == total
    assert f"{active_params(parent.shape) / 1e9:.2f}B" == active


@pytest.mark.parametrize("name", PUBLISHED)
def test_its_scores_are_the_formula_s_and_say_so(name: str) -> None:
    program = program_of(name)
    assert [*program.scores] == ["synthetic"]
    head = (FOLDER / f"{name}.pzl").read_text("utf-8").splitlines()[:4]
    assert any("SYNTHETIC" in line for line in head)
    lines = (FOLDER / f"{name}_synthetic.csv").read_text("utf-8").splitlines()
    made = [",".join(map(str, row)) for row in rows(program)]
    assert lines == ["layer,attention,ffn,synthetic", *made]


@pytest.mark.parametrize("name", ["nemotron_3_nano", "gemma3_27b", *more("gpt_oss_120b", "qwen3_30b_a3b")])
def test_it_costs_compiles_and_solves_without_weights(name: str, tmp_path: Path) -> None:
    file = FOLDER / f"{name}.pzl"
    costs = pzl("cost", file, "-o", tmp_path, "--json")
    assert costs.returncode == 0, costs.stderr
    solved = pzl("solve", file, "-o", tmp_path, "--json")
    assert solved.returncode == 0, solved.stderr
    for search in json.loads(solved.stdout):
        assert search["status"] == "optimal"
        (answer,) = search["solutions"]
        assert answer["metrics"]["params"] < PUBLISHED[name][0]
        for part in ("attention", "ffn"):
            assert len({layer[part] for layer in answer["layers"]}) > 1, "layers differ"
