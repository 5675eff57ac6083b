"""Scores of runs of layers, after healing, and by two metrics, from the program to the answer: planned, measured, taken."""

from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.ir.tables import ScoreTable, SearchResult
from tests.commands import said
from tests.pipeline.tiny_program import events, run_with, seconds_of, told_states, write_tiny_program

MORE = """
data other = text("other.txt")
bld healed_pieces of wide {
  train = attention + ffn
  tokens = 512, context = 32, batch = 2, calibration = 512
  lr = cosine(1e-3, warmup: 10%), data = corpus, heal_data = other
}
score mended of healed_pieces = replace_one(kl_divergence, samples: 128, healed: 256)
score plain of healed_pieces = replace_one(kl_divergence, samples: 128)
score near of healed_pieces = replace_one(cosine, samples: 128)
score row of pieces = replace_one(kl_divergence, samples: 128, runs: 2..3)
search after of wide { minimize mended, require params <= 60% * tiny.params }
search shallow of wide { minimize row, require params <= 60% * tiny.params }
search nearest of wide { minimize near, require params <= 0.8x }
"""


def add_other(directory: Path, text: str) -> None:
    (directory / "other.txt").write_text("\n\n".join(f"{text} number {i} of many" for i in range(400)))


@pytest.mark.usefixtures("known_rates")
def test_a_dry_run_counts_runs_and_healing(tmp_path: Path) -> None:
    program = write_tiny_program(tmp_path, MORE)
    add_other(tmp_path, "line")
    seconds = seconds_of(program)
    assert seconds["score row"] >= seconds["score kl"]
    assert seconds["score mended"] >= seconds["score plain"]
    code, out, _ = said("run", program, "--dry-run")
    assert code == 0 and "score row (with 3 runs of layers)" in out  # layers 0-1, 1-2 and 0-2


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scores")
    add_other(folder, "line")
    return run_with(folder, MORE)


def scores(build: Path, name: str) -> ScoreTable:
    return ScoreTable.from_json((build / "scores" / f"{name}.json").read_bytes())


def test_a_search_takes_what_was_measured_of_runs(build: Path) -> None:
    table, plain = scores(build, "row"), scores(build, "kl")
    assert (table.attention, table.ffn, plain.runs) == (plain.attention, plain.ffn, ())
    runs = {(run.first, run.length): Fraction(repr(run.value)) for run in table.runs}
    assert runs.keys() == {(0, 2), (1, 2), (0, 3)}
    solution = SearchResult.from_json((build / "solutions" / "shallow.json").read_bytes()).solutions[0]
    dropped = [i for i, c in enumerate(solution.layers) if c.attention == c.ffn == "noop"]
    single = [
        Fraction(repr(table.attention[i].get(c.attention, 0.0)))
        + Fraction(repr(table.ffn[i].get(c.ffn, 0.0)))
        for i, c in enumerate(solution.layers)
    ]
    expected = sum(single, Fraction(0))
    if len(dropped) > 1 and dropped == list(range(dropped[0], dropped[-1] + 1)):
        expected += runs[dropped[0], len(dropped)] - sum(single[i] for i in dropped)
    assert solution.objective == float(expected)


def test_scores_that_differ_in_the_metric_alone_are_one_pass(build: Path) -> None:
    assert scores(build, "near").metric == "cosine"
    counted = {e["name"] for e in events(build) if e["event"] == "progress" and e["stage"] == "score"}
    assert counted == {"kl", "row", "mended"}, "the others are read from what was measured for these"


def test_scores_after_healing_follow_the_text(build: Path) -> None:
    mended, plain = scores(build, "mended"), scores(build, "plain")
    assert [layer.keys() for layer in mended.ffn] == [layer.keys() for layer in plain.ffn]
    assert mended.ffn != plain.ffn and (build / "solutions" / "after.json").is_file()
    add_other(build.parent, "verse")
    states = told_states(build.parent / "tiny.pzl")
    assert (states["score mended"][0], states["score plain"][0]) == ("stale", "done")
