"""Constants that are known come back from figures made with them; the shipped ones are those of the shipped data."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks.published import (
    BOUNDS,
    LINK_CONSTANTS,
    Cell,
    cells_of,
    determined_by,
    fit_constants,
    mean_absolute,
    predicted_tokens_per_s,
    relative_errors,
)
from puzzledsl.costs.metrics import metrics_of
from puzzledsl.costs.table import cost_table
from tests.costs.cases import H100, LLAMA_70B, OWN, PARENT, PROFILES, SHAPES, program

PAGE = (Path(__file__).parents[2] / "docs" / "costs.md").read_text("utf-8")
SHIPPED = {"h100_sxm": "1.0", "a100": "0.17_a100", "l40s": "0.17_l40s"}
TRUE = {
    "efficiency_compute": Fraction("0.45"),
    "efficiency_bandwidth": Fraction("0.7"),
    "overhead_s": Fraction(20, 10**6),
    "link_latency_s": Fraction(5, 10**6),
}


def made_up(model: str, gpus: int, prompt: int, output: int, batch: int | None, **more: Fraction) -> Cell:
    profile = PROFILES["h100_sxm"].model_copy(update={"gpus": gpus})
    cell = Cell(profile, SHAPES[model], model, prompt, output, 1.0, batch)
    return replace(cell, tokens_per_s=predicted_tokens_per_s(profile.model_copy(update=TRUE | more), cell))


@pytest.mark.parametrize("profile", SHIPPED)
def test_shipped_constants_are_fitted_to_the_shipped_data(profile: str) -> None:
    """And predict what they were not fitted to within 7 %: as well as the profile says."""
    cells, shipped = cells_of(SHIPPED[profile]), PROFILES[profile]
    fit = fit_constants(cells.fitted, cells.held_out)
    for name, value in fit.constants.items():
        flat = 25e-3 if name == "link_latency_s" else 5e-3  # all latencies of a link that near fit as well
        assert float(value) == pytest.approx(float(getattr(shipped, name)), rel=flat), name
    own = {name: getattr(shipped, name) for name in fit.constants}
    assert mean_absolute(relative_errors(cells.fitted, own)) == pytest.approx(fit.error_fitted, abs=5e-4)
    assert set(fit.constants) == set(BOUNDS) - {"efficiency_experts"}
    assert fit.error_held_out is not None and shipped.calibration_error is not None
    assert fit.error_held_out < 0.07
    assert abs(fit.error_held_out - float(shipped.calibration_error)) < 0.001
    assert f"{float(shipped.calibration_error) * 100:.1f} %" in PAGE, "docs/costs.md states it"


def test_known_constants_come_back() -> None:
    cells = [
        made_up(model, gpus, prompt, output, batch)
        for model, gpus, batch in (("llama3_1_8b", 1, 4), ("llama3_1_70b", 2, 64), ("llama3_1_70b", 8, None))
        for prompt, output in ((128, 128), (128, 2048), (2048, 128), (5000, 500))
    ]
    fit = fit_constants(cells[::2], cells[1::2], tuple(TRUE))
    for name, value in TRUE.items():
        assert float(fit.constants[name]) == pytest.approx(float(value), rel=0.02), name
    assert fit.error_fitted < 0.002 and fit.error_held_out is not None and fit.error_held_out < 0.005
    lengths = ((128, 128), (1000, 1000), (2048, 128))
    mixtures = [
        made_up("qwen3_30b_a3b", 1, *each, 64, efficiency_experts=Fraction("0.12")) for each in lengths
    ]
    known = [replace(cell, profile=cell.profile.model_copy(update=TRUE)) for cell in mixtures]
    fit = fit_constants(known[:2], known[2:], ("efficiency_experts",))
    assert float(fit.constants["efficiency_experts"]) == pytest.approx(0.12, rel=0.01)
    assert fit.error_held_out is not None and fit.error_held_out < 0.002


def test_a_prediction_is_the_cost_table_s() -> None:
    """The figure a calibration compares is the throughput that a program's scenario has."""
    two = H100.model_copy(update={"gpus": 2})
    (costs,) = cost_table(program(LLAMA_70B, (OWN,) * 80, chat=(two, (64,), 1000, 500)), "wide").scenarios[
        "chat"
    ]
    predicted = predicted_tokens_per_s(two, Cell(two, LLAMA_70B, "llama3_1_70b", 1000, 500, 1.0, 64))
    assert predicted == pytest.approx(float(metrics_of(costs, [PARENT] * 80)["throughput"]), rel=1e-5)


def test_one_number_of_gpus_says_nothing_of_the_link() -> None:
    two, eight = (made_up("llama3_1_70b", gpus, 128, 128, 8) for gpus in (2, 8))
    assert not set(determined_by([two, two])) & set(LINK_CONSTANTS)
    assert set(determined_by([two, eight])) == set(BOUNDS) - {"efficiency_experts"}
    mixture = made_up("qwen3_30b_a3b", 2, 128, 128, 8)
    assert set(determined_by([mixture, eight])) == set(BOUNDS)


def test_constants_stay_within_what_hardware_can_do() -> None:
    """Figures four times too good: the constants stop at their bounds."""
    true = [made_up("llama3_1_8b", 1, *each, 32) for each in ((128, 128), (4096, 64), (64, 4096))]
    cells = [replace(cell, tokens_per_s=4 * cell.tokens_per_s) for cell in true]
    constants = fit_constants(cells, [], ("efficiency_compute", "efficiency_bandwidth")).constants
    assert constants == {n: Fraction(str(BOUNDS[n][2])) for n in constants}
