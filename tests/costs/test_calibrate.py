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
from puzzledsl.checker.check import check, shipped_profiles, shipped_shapes
from puzzledsl.costs.metrics import metrics_of
from puzzledsl.costs.table import cost_table
from puzzledsl.ir.tables import LayerAssignment

SHIPPED = {"h100_sxm": "1.0", "a100": "0.17_a100", "l40s": "0.17_l40s"}
PROFILES, SHAPES = shipped_profiles(), shipped_shapes()
TRUE = {
    "efficiency_compute": Fraction("0.45"),
    "efficiency_bandwidth": Fraction("0.7"),
    "overhead_s": Fraction(20, 10**6),
    "link_latency_s": Fraction(5, 10**6),
}


def made_up(model: str, gpus: int, prompt: int, output: int, batch: int | None) -> Cell:
    profile = PROFILES["h100_sxm"].model_copy(update={"gpus": gpus})
    cell = Cell(profile, SHAPES[model], model, prompt, output, 1.0, batch)
    return replace(cell, tokens_per_s=predicted_tokens_per_s(profile.model_copy(update=TRUE), cell))


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


def test_a_prediction_is_the_cost_table_s(tmp_path: Path) -> None:
    """The figure a calibration compares is the throughput that a program's scenario has."""
    program = tmp_path / "p.pzl"
    program.write_text(
        'use "std/parents.pzl" (llama3_1_70b)\nuse "std/hardware.pzl" (h100_sxm)\nparent p = llama3_1_70b\n'
        "space w of p { attention = parent | noop }\nhardware h = h100_sxm(gpus: 2, dtype: fp8, kv_cache: fp8)\n"
        "scenario chat on h = batch(64, 1000 -> 500)\n"
    )
    checked = check(program, {}).program
    assert checked is not None
    (costs,) = cost_table(checked, "w").scenarios["chat"]
    parent = [LayerAssignment(attention="parent", ffn="parent")] * 80
    spec = checked.hardware["h"].spec
    cell = Cell(spec, SHAPES["llama3_1_70b"], "llama3_1_70b", 1000, 500, 1.0, 64)  # type: ignore[arg-type]
    expected = float(metrics_of(costs, parent)["throughput"])
    assert predicted_tokens_per_s(cell.profile, cell) == pytest.approx(
        expected, rel=1e-5
    )  # whole nanoseconds


def test_one_number_of_gpus_says_nothing_of_the_link() -> None:
    two, eight = (made_up("llama3_1_70b", gpus, 128, 128, 8) for gpus in (2, 8))
    assert not set(determined_by([two, two])) & set(LINK_CONSTANTS)
    assert set(determined_by([two, eight])) == set(BOUNDS) - {"efficiency_experts"}
    mixture = made_up("qwen3_30b_a3b", 2, 128, 128, 8)
    assert set(determined_by([mixture, eight])) == set(BOUNDS)


def test_the_efficiency_of_experts_comes_back() -> None:
    profile = PROFILES["h100_sxm"]
    true = {"efficiency_experts": Fraction("0.12")}
    cells = []
    for prompt, output in ((128, 128), (1000, 1000), (2048, 128)):
        cell = Cell(profile, SHAPES["qwen3_30b_a3b"], "qwen3_30b_a3b", prompt, output, 1.0, 64)
        speed = predicted_tokens_per_s(profile.model_copy(update=true), cell)
        cells.append(replace(cell, tokens_per_s=speed))
    fit = fit_constants(cells[:2], cells[2:], ("efficiency_experts",))
    assert float(fit.constants["efficiency_experts"]) == pytest.approx(0.12, rel=0.01)
    assert fit.error_held_out is not None and fit.error_held_out < 0.002


@pytest.mark.parametrize("release", ["1.0_experts", "1.2_experts"])
def test_published_cells_of_mixtures_read_and_are_predicted_as_the_docs_say(release: str) -> None:
    """With Llama's constants alone: Qwen3-235B on Hopper within 20 %; gpt-oss, in another format, is not."""
    cells = cells_of(release)
    assert cells.fitted and cells.held_out
    hopper = [c for c in (*cells.fitted, *cells.held_out) if c.profile.profile != "b200"]
    error = mean_absolute(relative_errors(hopper, {}))
    assert (error < 0.2) == (release == "1.0_experts")


def test_constants_stay_within_what_hardware_can_do() -> None:
    """Figures four times too good: the constants stop at their bounds."""
    cells = [
        replace(cell, tokens_per_s=4 * cell.tokens_per_s)
        for cell in (
            made_up("llama3_1_8b", 1, *lengths, 32) for lengths in ((128, 128), (4096, 64), (64, 4096))
        )
    ]
    constants = fit_constants(cells, [], ("efficiency_compute", "efficiency_bandwidth")).constants
    assert constants == {n: Fraction(str(BOUNDS[n][2])) for n in constants}
