"""`pzl uptrain` under torchrun: rank 0 runs the stage, the others do their part and end as it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.tiny_program import write_tiny_program

pytestmark = pytest.mark.slow
PZL = ("-m", "puzzledsl.cli.main")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "NO_COLOR": "1",
    "PYTHONPATH": str(Path(__file__).parents[2]),
}


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    full = [sys.executable, *map(str, command)]
    return subprocess.run(full, env=ENVIRONMENT, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained in float32: processors with bfloat16 products would round shards and whole weights differently."""
    path = write_tiny_program(tmp_path_factory.mktemp("torchrun"))
    path.write_text(
        path.read_text().replace("lr = cosine(1e-3), data", "dtype = fp32, lr = cosine(1e-3), data")
    )
    assert "dtype = fp32" in path.read_text()
    done = run(*PZL, "run", path, "--until", "realise")
    assert done.returncode == 0, done.stderr
    return path


def steps(build: Path) -> list[dict[str, float]]:
    events = [json.loads(line) for line in (build / "log.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "uptrain_step"]


def test_two_processes_train_as_one_and_then_have_nothing_to_do(program):
    build = program.parent / "build"
    assert run(*PZL, "uptrain", program).returncode == 0
    alone = steps(build)
    (build / "stamps" / "uptrain-final.json").unlink()
    both = run(*TORCHRUN, *PZL, "uptrain", program)
    assert both.returncode == 0, both.stderr
    together = steps(build)[len(alone) :]
    assert len(together) == len(alone) == 8
    for one, two in zip(alone, together, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-4)
    again = run(*TORCHRUN, *PZL, "uptrain", program)
    assert again.returncode == 0, again.stderr
    assert len(steps(build)) == 2 * len(alone)


def test_a_diagnostic_is_shown_once_and_ends_all(program):
    source = program.read_text().replace("cosine(1e-3), data", "constant(1e3), data")
    wrong = program.with_name("wrong.pzl")
    wrong.write_text(source)
    done = run(*TORCHRUN, *PZL, "uptrain", wrong)
    assert done.returncode != 0
    assert done.stderr.count("error[E1702]") == 1, done.stderr
