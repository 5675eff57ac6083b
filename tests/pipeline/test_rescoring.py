"""Scores around a child: made after its search is solved, used by the searches that ask for them, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.test_run import contents, events, pzl
from tests.pipeline.tiny_program import read, run_with

AROUND = """\
score again of pieces = replace_one(kl_divergence, samples: 128, around: best, rounds: 2)
search better of best { minimize again }
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_with(tmp_path_factory.mktemp("around"), AROUND)


def test_each_round_scores_inside_the_child_of_the_one_before(build: Path) -> None:
    rounds = [e for e in events(build) if e["event"] == "rescored"]
    assert [int(e["round"]) for e in rounds] == [1, 2]
    assert all(float(e["after"]) <= float(e["before"]) for e in rounds), (
        "a round never makes the scored text worse"
    )
    assert float(rounds[1]["before"]) == pytest.approx(float(rounds[0]["after"]), abs=1e-6)
    assert all(float(e["unseen_before"]) > 0 and float(e["unseen_after"]) > 0 for e in rounds)
    assert all(e["unseen_before"] != e["before"] for e in rounds), "the text is another"
    order = [(e["stage"], e["name"]) for e in events(build) if e["event"] == "start"]
    asked = [("score", "kl"), ("solve", "best"), ("score", "again"), ("solve", "better")]
    assert [task for task in order if task in asked] == asked


def test_the_incumbent_is_no_better_than_the_answer_by_the_new_scores(build: Path) -> None:
    table, best, better = (
        read(build / path) for path in ("scores/again.json", "solutions/best.json", "solutions/better.json")
    )
    incumbent = table["offset"] + sum(
        table[part][layer].get(choice[part], 0.0)
        for layer, choice in enumerate(best["solutions"][0]["layers"])
        for part in ("attention", "ffn")
    )
    assert table["offset"] != 0 and better["objective"] <= incumbent + 1e-12


def test_a_second_run_does_nothing(build: Path) -> None:
    before, seen = contents(build), len(events(build))
    result = pzl("run", next(build.parent.glob("*.pzl")))
    assert result.returncode == 0, result.stderr
    assert [e for e in events(build)[seen:] if e["event"] == "start"] == []
    assert contents(build) == before
