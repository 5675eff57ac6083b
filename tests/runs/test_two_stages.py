"""Decoupled pieces, a search, coupled pieces of what its best children use, and a search of those."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.runs.test_run import contents, events, pzl
from tests.runs.tiny_program import write_tiny_program

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
    program = write_tiny_program(tmp_path_factory.mktemp("coupled"))
    text = program.read_text()
    program.write_text(text[: text.index("search greedy")] + SECOND)
    result = pzl("run", program)
    assert result.returncode == 0, result.stderr
    return program.parent / "build"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_what_waits_for_the_first_search_comes_after_it(build: Path) -> None:
    order = [(e["stage"], e["name"]) for e in events(build) if e["event"] == "start"]
    asked = [("solve", "best"), ("bld", "pairs"), ("score", "together"), ("solve", "second")]
    assert [task for task in order if task in asked] == asked


def test_the_second_search_chooses_among_what_the_first_ones_children_use(build: Path) -> None:
    used = [
        [
            {
                layers[i][part]
                for layers in (s["layers"] for s in read(build / "solutions/best.json")["solutions"])
            }
            for part in ("attention", "ffn")
        ]
        for i in range(3)
    ]
    for (attention, ffn), layer in zip(
        used, read(build / "solutions/second.json")["solutions"][0]["layers"], strict=True
    ):
        assert layer["attention"] in attention | {"parent"} and layer["ffn"] in ffn | {"parent"}


def test_coupled_pieces_are_scored_as_whole_blocks(build: Path) -> None:
    table = read(build / "scores/together.json")
    assert table["unit"] == "block" and any(table["pairs"])
    chosen = read(build / "solutions/second.json")["solutions"][0]
    total = sum(
        scores.get(f"{layer['attention']}/{layer['ffn']}", 0.0)
        for scores, layer in zip(table["pairs"], chosen["layers"], strict=True)
    )
    assert chosen["objective"] == pytest.approx(total, rel=1e-9)


def test_a_second_run_does_nothing(build: Path) -> None:
    before, seen = contents(build), len(events(build))
    result = pzl("run", next(build.parent.glob("*.pzl")))
    assert result.returncode == 0, result.stderr
    assert [e for e in events(build)[seen:] if e["event"] == "start"] == []
    assert contents(build) == before
