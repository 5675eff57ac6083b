"""A dry run estimates by the dtype that parents run in, and for a device that is not here loads nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.scale import SOURCE
from puzzledsl.base.build_dir import BuildDir
from puzzledsl.checker.check import check
from puzzledsl.checker.shipped import shipped_profiles
from puzzledsl.measure import probe
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.planning.dry_run import dry_run
from puzzledsl.pipeline.planning.estimate import Estimator
from puzzledsl.plan.memory.device import device_of
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
    monkeypatch.setattr(
        probe, "matrix_product_flop_per_s", lambda device, dtype: probed.append(dtype) or 1e12
    )
    with pretended_gpu():
        found = Estimator(ctx).device
    assert probed == [torch.bfloat16] and found.is_gpu and found.dtype == "bf16"


def test_a_dry_run_for_a_device_has_each_stage_s_bytes_hours_and_choices(ctx: Context) -> None:
    found = dry_run(ctx, None, None, device_of(shipped_profiles()["h100_sxm"], 8, "h100_sxm"))
    plans = {plan.stage: plan for step in found.steps for plan in step.plans}
    assert {"calibrate", "bld", "score", "realise", "uptrain", "eval", "export"} == plans.keys()
    assert all(plan.fits(found.device) for plan in plans.values())
    assert found.seconds == pytest.approx(sum(plan.seconds for plan in plans.values()), rel=0.01, abs=5)
    text = found.as_text()
    assert "8 x h100_sxm" in text and "micro-batch: 4 of 64 sequences" in text and "sharding: 8 ranks" in text
    steps = json.loads(json.dumps(found.as_json()))["steps"]
    bld = next(step for step in steps if step["stage"] == "bld")
    assert [plan["stage"] for plan in bld["memory"]] == ["calibrate", "bld"] and bld["memory"][1]["fits"]


def test_a_dry_run_for_a_device_loads_no_torch(ctx: Context) -> None:
    code = (
        "import sys; from puzzledsl.cli.main import main\n"
        f"sys.argv = ['pzl', 'run', {str(ctx.file)!r}, '--dry-run', '--device', 'h100_sxm', '--gpus', '8']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "uptrain child" in done.stdout


def test_unknown_devices_and_lone_options_are_refused(ctx: Context) -> None:
    for options, expected in (
        (["--dry-run", "--device", "h1000"], "h100_sxm"),
        (["--device", "h100_sxm"], "--dry-run"),
        (["--dry-run", "--gpus", "2"], "--device"),
    ):
        command = [sys.executable, "-m", "puzzledsl.cli.main", "run", str(ctx.file), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and expected in done.stderr, done.stderr
