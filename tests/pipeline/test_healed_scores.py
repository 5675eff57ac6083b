"""Scores after healing from the program to the table: planned, measured, and made again when the text is another."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.ir.tables import ScoreTable
from tests.pipeline.test_status import told, told_states
from tests.pipeline.tiny_program import run_with, write_tiny_program

MORE = """
data other = text("other.txt")
bld healed_pieces of wide {
  train = attention + ffn
  tokens = 512, context = 32, batch = 2, calibration = 512
  lr = cosine(1e-3, warmup: 10%), data = corpus, heal_data = other
}
score mended of healed_pieces = replace_one(kl_divergence, samples: 128, healed: 256)
score plain of healed_pieces = replace_one(kl_divergence, samples: 128)
search after of wide { minimize mended, require params <= 60% * tiny.params }
"""


def add_other(directory: Path, text: str) -> None:
    (directory / "other.txt").write_text("\n\n".join(f"{text} number {i} of many" for i in range(400)))


@pytest.mark.usefixtures("known_rates")
def test_a_dry_run_counts_healing(tmp_path: Path) -> None:
    program = write_tiny_program(tmp_path)
    add_other(tmp_path, "line")
    program.write_text(program.read_text() + MORE)
    steps = told("run", program, "--dry-run")["steps"]
    seconds = {f"{step['stage']} {step['name']}": step["seconds"] for step in steps}
    assert seconds["score mended"] >= seconds["score plain"]


def test_a_search_takes_scores_after_healing_and_they_follow_the_text(tmp_path: Path) -> None:
    add_other(tmp_path, "line")
    build = run_with(tmp_path, MORE)
    mended, plain = (
        ScoreTable.from_json((build / "scores" / f"{name}.json").read_bytes()) for name in ("mended", "plain")
    )
    assert [layer.keys() for layer in mended.ffn] == [layer.keys() for layer in plain.ffn]
    assert mended.ffn != plain.ffn and (build / "solutions" / "after.json").is_file()
    add_other(tmp_path, "verse")
    states = told_states(tmp_path / "tiny.pzl")
    assert (states["score mended"][0], states["score plain"][0]) == ("stale", "done")
