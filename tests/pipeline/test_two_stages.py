"""Decoupled pieces, a search, coupled pieces of what its best children use, and a search of those."""

import json
from pathlib import Path

import pytest

from tests.commands import said
from tests.pipeline.tiny_program import read, run_with, started, write_tiny_program

SECOND = """\
space narrow of wide = used_by(best, top: 4)
bld pairs of narrow {
  train = attention * ffn
  tokens = 256, context = 32, batch = 2, calibration = 512, data = corpus
}
score together of pairs = replace_one(kl_divergence, samples: 128)
search second of narrow {
  minimize together
  require chat.throughput >= 1.2x
}
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_with(tmp_path_factory.mktemp("coupled"), SECOND)


def test_what_waits_for_the_first_search_comes_after_it(build: Path) -> None:
    asked = ["solve best", "bld pairs", "score together", "solve second"]
    assert [task for task in started(build) if task in asked] == asked


def test_the_second_search_chooses_among_what_the_first_ones_children_use(build: Path) -> None:
    first = read(build / "solutions/best.json")["solutions"]
    second = read(build / "solutions/second.json")["solutions"][0]["layers"]
    for i, layer in enumerate(second):
        for part in ("attention", "ffn"):
            assert layer[part] in {"parent", *(child["layers"][i][part] for child in first)}


def test_coupled_pieces_are_scored_as_whole_blocks(build: Path) -> None:
    table = read(build / "scores/together.json")
    assert table["unit"] == "block" and any(table["pairs"])
    chosen = read(build / "solutions/second.json")["solutions"][0]
    total = sum(
        scores.get(f"{layer['attention']}/{layer['ffn']}", 0.0)
        for scores, layer in zip(table["pairs"], chosen["layers"], strict=True)
    )
    assert chosen["objective"] == pytest.approx(total, rel=1e-9)


def test_another_programs_solution_narrows_nothing(tmp_path: Path, build: Path) -> None:
    program = write_tiny_program(tmp_path, SECOND.replace("used_by(best", "used_by(first"))
    text = program.read_text()
    program.write_text(text.replace("search best of wide", "search first of wide").replace(" | linear", ""))
    (tmp_path / "build/solutions").mkdir(parents=True)
    foreign = read(build / "solutions/best.json")
    foreign["search"] = "first"
    foreign["solutions"][0]["layers"] *= 2
    for found in foreign["solutions"], []:
        (tmp_path / "build/solutions/first.json").write_text(json.dumps({**foreign, "solutions": found}))
        assert "space narrow: known once `first` is solved" in said("compile", program)[1]
