"""A dry run estimates by the dtype that parents run in, and for a device that is not here loads nothing."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from benchmarks.scale import SOURCE
from puzzledsl.base.build_dir import BuildDir
from puzzledsl.checker.check import check, shipped_profiles
from puzzledsl.cli import loading
from puzzledsl.measure import stopwatch
from puzzledsl.measure.stopwatch import Rates
from puzzledsl.models import machine
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.dry_run import LIBRARIES_BYTES, DryRun, Estimator, dry_run, statuses
from puzzledsl.pipeline.estimates import item_tokens
from puzzledsl.pipeline.process import Reporter
from puzzledsl.plan.memory.stage_plan import device_of
from tests.commands import said
from tests.pipeline.tiny_program import write_tiny_program
from tests.pretended_gpu import pretended_gpu


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    file = tmp_path / "scale.pzl"
    file.write_text(SOURCE.format(parent="llama3_1_8b", profile="h100_sxm"))
    program = check(file).program
    assert program is not None
    return Context(file, program, BuildDir(tmp_path / "build"), "")


def test_a_gpu_is_estimated_by_its_bfloat16_rate(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    probed: list[torch.dtype] = []
    rates = Rates(flop_per_s=1e12, bytes_per_s=1e11)
    monkeypatch.setattr(stopwatch, "rates_of", lambda device, dtype: probed.append(dtype) or rates)
    with pretended_gpu():
        found = Estimator(ctx).device
    assert probed == [torch.bfloat16] and found.is_gpu and found.dtype == "bf16"


@pytest.fixture
def tiny(tmp_path: Path, known_rates: Rates) -> Context:
    return loading.context(write_tiny_program(tmp_path), None, None)


def test_every_task_with_a_model_says_its_peak_memory(tiny: Context) -> None:
    found = dry_run(tiny, None, None)
    assert item_tokens(tiny.base, [str(tiny.file)], 1) == item_tokens(tiny.base, [tiny.file.name], 1) > 0
    peaks = {(s.status.task.stage, s.status.task.name): s.peak_bytes for s in found.steps}
    assert peaks.pop(("solve", "best")) == peaks.pop(("report", "")) == 0
    models = {key: peak for key, peak in peaks.items() if key[0] != "solve"}
    assert all(peak > LIBRARIES_BYTES for peak in models.values())
    assert found.peak_bytes == max(peaks.values()) == found.as_json()["peak_bytes"]
    assert "memory" in found.as_text().splitlines()[0] and "of memory, " in found.as_text().splitlines()[-1]


def seconds(found: DryRun, stage: str) -> float:
    (step,) = (step for step in found.steps if step.status.task.stage == stage)
    return step.seconds


def test_a_finished_task_sets_the_pace_of_the_others(tiny: Context) -> None:
    before = dry_run(tiny, None, None)
    score, bld = seconds(before, "score"), seconds(before, "bld")
    with Reporter(tiny.build.log) as progress:
        progress.log("end", stage="bld", name="pieces", seconds=4 * bld)
    after = dry_run(tiny, None, None)
    assert seconds(after, "bld") == pytest.approx(4 * bld)
    assert score < seconds(after, "score") < 4 * score + 1e-6


def test_what_an_interrupted_task_has_done_is_counted(tiny: Context) -> None:
    before = dry_run(tiny, None, None)
    with Reporter(tiny.build.log) as progress:
        done = {"stage": "score", "name": "kl", "done": 21, "total": 24, "seconds_left": 90.0}
        progress.log("progress", **done)
        after = dry_run(tiny, None, None)
        assert seconds(after, "score") == 90 and "90 s (21 of 24 are done)" in after.as_text()
        assert "not finished: 21 of 24 are done" in {status.why for status in statuses(tiny)}
        assert seconds(after, "uptrain") == seconds(before, "uptrain")
        progress.log("end", stage="score", name="kl", seconds=7.0)
    assert seconds(dry_run(tiny, None, None), "score") == 7


def test_a_dry_run_for_a_device_has_each_stage_s_bytes_hours_and_choices(ctx: Context) -> None:
    found = dry_run(ctx, None, None, device_of(shipped_profiles()["h100_sxm"], 8, "h100_sxm"))
    plans = {plan.stage: plan for step in found.steps for plan in step.plans}
    assert {"bld", "score", "realise", "uptrain", "eval", "export"} == plans.keys()
    assert all(plan.fits(found.device) for plan in plans.values())
    assert found.seconds == pytest.approx(sum(plan.seconds for plan in plans.values()), rel=0.01, abs=5)
    text = found.as_text()
    assert "8 x h100_sxm" in text and "micro-batch: 4 of 64 sequences" in text and "sharding: 8 ranks" in text
    steps = json.loads(json.dumps(found.as_json()))["steps"]
    bld = next(step for step in steps if step["stage"] == "bld")
    assert [plan["stage"] for plan in bld["memory"]] == ["bld"] and bld["memory"][0]["fits"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--dry-run --device h1000", "h100_sxm"),
        ("--device h100_sxm", "--dry-run"),
        ("--dry-run --gpus 2", "--device"),
    ],
)
def test_unknown_devices_and_lone_options_are_refused(ctx: Context, options: str, expected: str) -> None:
    code, _, err = said("run", ctx.file, *options.split())
    assert code == 2 and expected in err


def test_a_verdict_on_memory_is_the_same_beside_other_programs(
    tiny: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free memory changes from one moment to the next, so a verdict reads the whole; one of too much says what would help."""
    disk = shutil.disk_usage(tiny.base)  # another program may write
    monkeypatch.setattr(shutil, "disk_usage", lambda path: disk)
    verdicts = []
    for free in (16 << 30, 1 << 20):
        monkeypatch.setattr(machine, "_table", lambda path, free=free: {"MemAvailable": free})
        verdicts.append(dry_run(tiny, None, None).as_text().partition("memory on")[2].partition("to do")[0])
    assert verdicts[0] == verdicts[1] and "too much" not in verdicts[0]
    monkeypatch.setattr(machine, "_left", lambda *_, **__: iter([1 << 16]))
    text = dry_run(tiny, None, None).as_text()
    assert "(too much: it is tried all the same, and what is finished is kept)" in text
    assert "(too much: it does not begin, and says what would do)" in text
