"""Long work is never silent, and says how long it still takes from its first unit on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from puzzledsl.pipeline.process import reporter
from puzzledsl.pipeline.process.reporter import Reporter
from tests.pipeline.tiny_program import read, run_with


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(reporter, "time", made)
    return made


def test_a_unit_or_a_stage_that_takes_long_is_not_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reporter, "PLAIN_INTERVAL_S", 0.1)
    with Reporter(None) as progress:
        progress.log("start", stage="refine", name="best")
        time.sleep(0.5)
        progress.start("refine best", 8)
        time.sleep(0.5)
    said = capsys.readouterr().err.splitlines()
    assert "  refine best: < 1 s" in said and "  refine best: 0/8, < 1 s" in said
    assert len(said) >= 4


def test_what_is_left_is_known_after_the_first_unit(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(None) as progress:
        progress.start("score kl", 31)
        progress.advance(20, kept=True)
        clock.now += 12
        progress.advance(score=0.5)
        assert "  score kl: 21/31, about 2 min left  score 0.5\n" in capsys.readouterr().err
        for _ in range(5):
            clock.now += 3  # the first unit loaded the model
            progress.advance()
        assert "score kl: 25/31, about 18 s left" in capsys.readouterr().err
        clock.now += 11  # within a unit, what is left only falls
        progress.advance(0)
        assert "score kl: 26/31, about 4 s left" in capsys.readouterr().err
    assert "score kl: 26/31 in 38 s" in capsys.readouterr().err


def left(said: str) -> str:
    """Return the estimate in the last line of a bar."""
    return said.rstrip().splitlines()[-1].partition(", ")[2]


def test_units_that_end_together_are_one_step_of_the_pace(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Reporter(None) as progress:
        progress.start("score kl", 100)
        clock.now += 90
        progress.advance()
        progress.advance()  # of two at once
        assert left(capsys.readouterr().err) == "about 2.5 h left"
        for _ in range(2):
            clock.now += 20
            progress.advance()
            progress.advance()
        assert left(capsys.readouterr().err) == "about 21 min left"


def test_scores_that_differ_in_the_metric_alone_are_one_pass(tmp_path: Path) -> None:
    build = run_with(
        tmp_path,
        "score near of pieces = replace_one(cosine, samples: 256)\n"
        "score far of pieces = replace_one(kl_divergence, samples: 256)\n"
        "search nearest of wide { minimize near, require params <= 0.8x }\n",
    )
    assert read(build / "scores/near.json")["metric"] == "cosine"
    measured = [*(build / "scores" / "figures").glob("*.jsonl")]
    assert len(measured) == 2, "`far` is read from what `near` measured"
