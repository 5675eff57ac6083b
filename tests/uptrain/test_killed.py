"""A process that is killed outright, anywhere, and started again writes what an unbroken one writes, to the bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.uptrain.cases import make_case

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CODE = """
import sys
from pathlib import Path
import torch
from puzzledsl.ir.nodes import Program
from puzzledsl.base.progress import Silent
from puzzledsl.uptrain import train
from puzzledsl.uptrain.run import UptrainInputs, run_uptrain
torch.set_num_threads(1)
train.CHECKPOINT_S, train.CHECKPOINT_SHARE = 0.0, 1e9
class Steps(Silent):
    def log(self, event, **fields):
        if event == "uptrain_step":
            print(fields["step"], flush=True)
base, out, work = map(Path, sys.argv[1:])
program = Program.from_json((base / "program.json").read_text())
run_uptrain(UptrainInputs(program, "final", base / "parent", base / "models" / "best", out, base, work, base / "tokens", Steps()))
"""


def run(*arguments: Path, kill_at: int | None = None) -> list[int]:
    """The steps that were done until the end, or until it was killed as soon as it told of one."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", CODE, *map(str, arguments)]
    seen = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            seen.append(int(line))
            if seen[-1] == kill_at:
                process.kill()
                break
    assert process.returncode == (0 if kill_at is None else -9)
    return seen


def test_killed_it_goes_on(tmp_path: Path) -> None:
    case = make_case(tmp_path, tokens=40 * 64, dtype="bf16", micro_batch=3)
    (case.base / "program.json").write_text(case.program.model_dump_json())
    assert run(case.base, tmp_path / "unbroken", tmp_path / "work1") == list(range(1, 41))
    broken = case.base, tmp_path / "broken", tmp_path / "work2"
    assert run(*broken, kill_at=7)[-1] == 7
    first, *_, last = run(*broken, kill_at=23)
    assert 6 <= first <= 8 and last == 23
    assert 22 <= run(*broken)[0] <= 24
    for path in (tmp_path / "unbroken").iterdir():
        assert (tmp_path / "broken" / path.name).read_bytes() == path.read_bytes(), path.name
