"""Every program of examples/ compiles without a word; those that need no downloads are solved, and do as they promise."""

import csv
import json
from itertools import groupby
from pathlib import Path

import pytest

from examples.mixtures.scores import rows
from puzzledsl.checker.check import check
from puzzledsl.ir import facts
from puzzledsl.ir.nodes import Program
from tests.cases import more
from tests.commands import said, told
from tests.examples import EXAMPLES
from tests.sizes import active_params

PROGRAMS = sorted(path for path in EXAMPLES.rglob("*.pzl") if path.name != "tour_parts.pzl")
MIXTURES = EXAMPLES / "mixtures"
PUBLISHED = {  # parameters, and those of one token, as the models' cards round them
    "gpt_oss_120b": (116_829_156_672, "116.83B", "5.71B"),  # 5.13B without the embedding
    "qwen3_30b_a3b": (30_532_122_624, "30.53B", "3.35B"),
    "nemotron_3_nano": (31_577_940_288, "31.58B", "3.58B"),
    "gemma3_27b": (27_009_346_304, "27.01B", "27.01B"),
}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_it_compiles_without_a_word(program: Path, tmp_path: Path) -> None:
    code, _, err = said("compile", program, "-o", tmp_path)
    assert code == 0 and "warning" not in err, err


@pytest.mark.parametrize(
    ("program", "speedup"), [("nemotron49b.pzl", 2.17), ("llama8b_4090.pzl", 1.73)], ids=["49b", "4090"]
)
def test_the_largest_child_that_is_fast_enough(program: str, speedup: float, tmp_path: Path) -> None:
    (answer,) = told("solve", EXAMPLES / program, "largest", "-o", tmp_path)
    assert answer["status"] == "optimal" and answer["gap"] <= 1e-6
    metrics = answer["solutions"][0]["metrics"]
    parent = json.loads((tmp_path / "solutions" / "largest.json").read_text())["parent_metrics"]
    assert metrics["chat.throughput"] >= speedup * parent["chat.throughput"] * (1 - 1e-9)
    assert answer["objective"] == metrics["params"] < parent["params"]


def test_the_frontier_is_proven_and_rises(tmp_path: Path) -> None:
    assert said("frontier", EXAMPLES / "frontier.pzl", "-o", tmp_path)[0] == 0
    with (tmp_path / "search" / "speed.csv").open() as file:
        points = list(csv.DictReader(file))
    assert [point["status"] for point in points] == ["optimal"] * 9
    losses = [float(point["objective"]) for point in points]
    assert losses == sorted(losses)


def test_the_simple_child_is_simple(tmp_path: Path) -> None:
    (answer,) = told("solve", EXAMPLES / "structure.pzl", "simple", "-o", tmp_path)
    layers = answer["solutions"][0]["layers"]
    gaps = [len(list(run)) for gone, run in groupby(layer["attention"] == "noop" for layer in layers) if gone]
    assert 1 <= len(gaps) <= 3 and max(gaps) <= 2
    ffns = [layer["ffn"] for layer in layers]
    assert len(set(ffns)) <= 3 and ffns[::2] == ffns[1::2]


def test_the_infeasible_one_says_why_and_what_would_do(tmp_path: Path) -> None:
    (answer,) = told("solve", EXAMPLES / "infeasible.pzl", "small", "-o", tmp_path, code=1)
    assert answer["status"] == "infeasible"
    assert [part["text"].split()[0] for part in answer["conflict"]] == ["chat.throughput", "params"]
    err = said("solve", EXAMPLES / "infeasible.pzl", "-o", tmp_path)[2]
    assert "these 2 of 4 conflict" in err and "(solved and verified)" in err


def mixture(name: str) -> Program:
    checked = check(MIXTURES / f"{name}.pzl", {})
    assert checked.program is not None and not checked.diagnostics
    return checked.program


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_mixture_has_its_published_size_and_scores_that_say_that_they_are_made_up(name: str) -> None:
    program = mixture(name)
    (parent,) = program.parents.values()
    params, total, active = PUBLISHED[name]
    assert facts.total_params(parent.shape) == params
    assert f"{params / 1e9:.2f}B" == total
    assert f"{active_params(parent.shape) / 1e9:.2f}B" == active
    assert [*program.scores] == ["synthetic"]
    head = (MIXTURES / f"{name}.pzl").read_text("utf-8").splitlines()[:4]
    assert any("SYNTHETIC" in line for line in head)
    lines = (MIXTURES / f"{name}_synthetic.csv").read_text("utf-8").splitlines()
    assert lines == ["layer,attention,ffn,synthetic", *(",".join(map(str, row)) for row in rows(program))]


@pytest.mark.parametrize("name", ["gemma3_27b", *more("nemotron_3_nano", "gpt_oss_120b", "qwen3_30b_a3b")])
def test_a_mixture_costs_compiles_and_solves_without_weights(name: str, tmp_path: Path) -> None:
    file = MIXTURES / f"{name}.pzl"
    assert told("cost", file, "-o", tmp_path)
    for search in told("solve", file, "-o", tmp_path):
        assert search["status"] == "optimal"
        (answer,) = search["solutions"]
        assert answer["metrics"]["params"] < PUBLISHED[name][0]
        for part in ("attention", "ffn"):
            assert len({layer[part] for layer in answer["layers"]}) > 1, "layers differ"
