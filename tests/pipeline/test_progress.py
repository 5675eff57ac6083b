"""Long work is never silent, and says how long it still takes from its first unit on."""

import time
from collections.abc import Callable

import pytest

from puzzledsl.base.progress import Part
from puzzledsl.pipeline import process as reporter
from puzzledsl.pipeline.process import Reporter


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


@pytest.fixture
def left(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """The estimate in the last line of a bar, or the whole line where it has none."""
    return lambda: capsys.readouterr().err.rstrip().splitlines()[-1].rpartition(", ")[2]


def test_a_unit_or_a_stage_that_takes_long_is_not_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reporter, "PLAIN_INTERVAL_S", 0.1)
    with Reporter(None) as progress:
        progress.log("start", stage="refine", name="best")
        time.sleep(0.3)
        progress.start("refine best", 8)
        time.sleep(0.3)
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


def test_set_up_is_not_repeated_and_units_count_by_their_work(clock: Clock, left: Callable[[], str]) -> None:
    with Reporter(None) as progress:
        progress.start("bld pieces", 61)
        progress.advance(1, kept=True)
        clock.now += 60  # the model is loaded
        progress.ready(work=30.0 + 4)
        clock.now += 20
        progress.advance(work=1.0)  # the first layer, whose other pieces end with it
        assert left() == "about 11 min left"
        progress.advance(work=0.0)
        for _ in range(2, 30):
            clock.now += 20
            progress.advance(work=1.0)
            progress.advance(work=0.0)
        assert left() == "about 2 min left"  # a layer, and the head


def test_units_that_run_at_once_set_the_pace_together(clock: Clock, left: Callable[[], str]) -> None:
    with Reporter(None) as progress:
        progress.start("score kl", 100)
        clock.now += 1
        progress.ready(at_once=2, cold=1)
        clock.now += 90
        progress.advance()  # caches fill
        clock.now += 11
        progress.advance()
        assert "left" not in left()  # of two at once, the other one ends now
        progress.advance()
        clock.now += 11
        progress.advance()
        assert left() == "about 12 min left"


def test_a_part_of_a_bar_has_its_own_measure(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(None) as progress:
        progress.start("refine best", 2 * (30 + 8))
        progress.ready(2 * (300 + 80))
        healing = Part(progress, 30, 300, {"child": "1 of 2"})
        healing.start("heal", 30)
        healing.ready(30)
        healing.advance(10, kept=True, work=10)  # below the first change
        for _ in range(20):
            clock.now += 10
            healing.advance(work=1)
        healing.end()
        assert ", about 8 min left  child 1 of 2" in capsys.readouterr().err.splitlines()[-1]
        judging = Part(progress, 8, 80, {})
        judging.ready(16)
        judging.advance(4, work=8)
        clock.now += 11
        judging.end()
        assert "refine best: 38/76, " in capsys.readouterr().err
