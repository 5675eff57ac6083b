"""A process that is killed outright, anywhere, and started again writes what an unbroken one writes, to the bit."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.uptrain.cases import make_case

pytestmark = pytest.mark.slow
CODE = """
import sys
from pathlib import Path
import torch
from puzzledsl.ir.nodes import Program
from puzzledsl.progress import Silent
from puzzledsl.uptrain import train
from puzzledsl.uptrain.run import run_uptrain
torch.set_num_threads(1)
train.CHECKPOINT_S, train.CHECKPOINT_SHARE = 0.0, 1e9
base, out, work = map(Path, sys.argv[1:])
program = Program.model_validate_json((base / "program.json").read_text())
print("ready", flush=True)
run_uptrain(program, "final", base / "parent", base / "models" / "best", out, base, work, base / "tokens", Silent())
"""


def start(*arguments: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", CODE, *map(str, arguments)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_killed_at_random_moments(tmp_path: Path) -> None:
    case = make_case(tmp_path, tokens=40 * 64, ema=0.9, dtype="bf16", micro_batch=3)
    (case.base / "program.json").write_text(case.program.model_dump_json())
    began = time.monotonic()
    with start(case.base, tmp_path / "unbroken", tmp_path / "work1") as process:
        assert process.wait() == 0
    whole_s, dice, kills = time.monotonic() - began, random.Random(0), 0
    for _ in range(5):
        with start(case.base, tmp_path / "broken", tmp_path / "work2") as process:
            try:
                process.wait(dice.uniform(0, 0.8) * whole_s)
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
    with start(case.base, tmp_path / "broken", tmp_path / "work2") as process:
        assert process.wait() == 0
    assert kills >= 1
    for path in (tmp_path / "unbroken").iterdir():
        assert (tmp_path / "broken" / path.name).read_bytes() == path.read_bytes(), path.name
