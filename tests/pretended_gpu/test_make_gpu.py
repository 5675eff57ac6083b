"""`make gpu` at toy size: every stage runs on the pretended GPU and is compared with a CPU's."""

import json
from pathlib import Path

import pytest

from benchmarks import gpu
from tests.pretended_gpu import pretended_gpu


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
