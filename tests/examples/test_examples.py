"""Every program of examples/ compiles without a word; those that need no downloads are solved, and do as they promise."""

from __future__ import annotations

import csv
import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.forked import pzl

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = sorted(path for path in EXAMPLES.rglob("*.pzl") if path.name != "tour_parts.pzl")


def solved(program: str, search: str, build: Path, code: int = 0) -> Any:
    result = pzl("solve", EXAMPLES / program, search, "-o", build, "--json")
    assert result.returncode == code, result.stderr
    return json.loads(result.stdout)[0]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_it_compiles_without_a_word(program: Path, tmp_path: Path) -> None:
    result = pzl("compile", program, "-o", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr


def test_the_set_is_whole() -> None:
    named = (
        "nemotron51b nemotron49b llama8b_4090 noop_only coupled frontier infeasible smollm2 structure".split()
    )
    assert set(named) <= {path.stem for path in PROGRAMS}


@pytest.mark.parametrize(
    ("program", "speedup"), [("nemotron49b.pzl", 2.17), ("llama8b_4090.pzl", 1.73)], ids=["49b", "4090"]
)
def test_the_largest_child_that_is_fast_enough(program: str, speedup: float, tmp_path: Path) -> None:
    answer = solved(program, "largest", tmp_path)
    assert answer["status"] == "optimal" and answer["gap"] <= 1e-6
    metrics = answer["solutions"][0]["metrics"]
    parent = json.loads((tmp_path / "solutions" / "largest.json").read_text())["parent_metrics"]
    assert metrics["chat.throughput"] >= speedup * parent["chat.throughput"] * (1 - 1e-9)
    assert answer["objective"] == metrics["params"] < parent["params"]


def test_the_frontier_is_proven_and_rises(tmp_path: Path) -> None:
    result = pzl("frontier", EXAMPLES / "frontier.pzl", "-o", tmp_path)
    assert result.returncode == 0, result.stderr
    with (tmp_path / "search" / "speed.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["optimal"] * 9
    losses = [float(row["objective"]) for row in rows]
    assert losses == sorted(losses)


def test_the_simple_child_is_simple(tmp_path: Path) -> None:
    layers = solved("structure.pzl", "simple", tmp_path)["solutions"][0]["layers"]
    gaps = [len(list(run)) for gone, run in groupby(layer["attention"] == "noop" for layer in layers) if gone]
    assert 1 <= len(gaps) <= 3 and max(gaps) <= 2
    ffns = [layer["ffn"] for layer in layers]
    assert len(set(ffns)) <= 3 and ffns[::2] == ffns[1::2]


def test_the_infeasible_one_says_why_and_what_would_do(tmp_path: Path) -> None:
    answer = solved("infeasible.pzl", "small", tmp_path, code=1)
    assert answer["status"] == "infeasible"
    texts = [part["text"] for part in answer["conflict"]]
    assert [text.split()[0] for text in texts] == ["chat.throughput", "params"]
    said = pzl("solve", EXAMPLES / "infeasible.pzl", "-o", tmp_path).stderr
    assert "these 2 of 4 conflict" in said and "(solved and verified)" in said
