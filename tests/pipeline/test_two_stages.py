"""Decoupled pieces, a search, coupled pieces of a smaller space, and a search of those."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.test_run import contents, events, pzl
from tests.pipeline.tiny_program import read, run_with

SECOND = """\
space narrow of wide { attention = parent | gqa(kv_heads: 1), ffn = parent | mlp(width: 50%) | noop }
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
