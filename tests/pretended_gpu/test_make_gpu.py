"""`make gpu` at toy size: every stage runs on the pretended GPU and is compared with a CPU's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import gpu, gpu_checks
from tests.pretended_gpu import pretended_gpu


def test_without_a_gpu_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["-o", str(tmp_path)]) == 2
    assert "no CUDA device" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_differences_are_relative_and_never_hidden() -> None:
    assert gpu_checks.off(2.0, 2.2) == pytest.approx(0.1) and gpu_checks.off(0.0, 0.001) == pytest.approx(0.1)
    assert gpu_checks.largest({"a": 1.0}, {"b": 1.0}) == gpu_checks.largest({}, {}) == float("inf")
    assert not gpu_checks.Check("bld", "loss", float("nan"), 1.0).ok


@pytest.mark.slow
@pytest.mark.timeout(1200)  # three runs of every stage
def test_the_whole_pipeline_is_checked_and_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pretended_gpu(replays=1):
        status = gpu.main(["--size", "toy", "-o", str(tmp_path)])
    printed = capsys.readouterr().out
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert status == 0 and content["ok"], printed
    assert content["card"]["name"] == "pretended" and content["dtype"] == "bfloat16"
    stages = {check["stage"] for check in content["checks"]}
    assert stages == {"measure", "bld", "score", "solve", "realise", "uptrain", "eval"}
    tasks = {task["task"]: task for task in content["tasks"]}
    assert {name.split()[0] for name in tasks} >= stages | {"export"}
    for name in ("bld pieces", "score kl", "uptrain final", "eval quality"):
        assert min(tasks[name][figure] for figure in ("tokens_per_s", "utilisation", "peak_bytes")) > 0
