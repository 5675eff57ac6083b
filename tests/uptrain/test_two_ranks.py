"""Uptraining in processes of its own: two under torchrun do what one does, and a killed one goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from puzzledsl.alternatives.linear import NoOpAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.models.families.load import load_parent
from tests.children import Choice, define, random_pieces
from tests.pieces.train.bld_programs import make_program
from tests.tiny import save_tiny
from tests.uptrain.cases import Recorder, make_case, run, with_chats, with_uptrain

pytestmark = pytest.mark.timeout(900)
TORCHRUN = (
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node=2",
    "-m",
    "pytest",
)
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def assert_both_pass(base: Path, which: str, **variables: str) -> None:
    """Let two processes run laws of two_ranks.py."""
    environment = {**ENVIRONMENT, **variables, "PZL_TEST_BASE": str(base)}
    laws = str(Path(__file__).with_name("two_ranks.py"))
    command = [*TORCHRUN, laws, "-x", "-q", "-m", "not nothing", "-p", "no:cacheprovider", "-k", which]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert done.stdout.count(" passed") == 2


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    """20 steps of 5 blocks, with recomputation; of documents, and of the answers of chats."""
    for text in ("documents", "answers"):
        case = make_case(tmp_path / text, tokens=20 * 80, batch=5, micro_batch=2, recompute=True)
        case = case if text == "documents" else with_chats(case)
        (case.base / "program.json").write_text(case.program.model_dump_json())
        alone = Recorder()
        run(case, case.base / "alone", tmp_path / "work", alone)
        told = {name: alone.named(name) for name in ("uptrain_step", "uptrain_heldout")}
        (case.base / "alone.json").write_text(json.dumps(told))
    assert_both_pass(tmp_path, "not memory")


def test_each_of_two_processes_takes_half_of_the_memory(tmp_path: Path) -> None:
    sizes = {"hidden": 512, "heads": 8, "kv_heads": 8, "head_dim": 64, "intermediate": 2048}
    parent = save_tiny(tmp_path / "parent", layers=24, scale=0.02, **sizes)
    layers: list[Choice] = [(ParentAttention(), ParentFfn())] * 24
    layers[3], layers[7] = (ParentAttention(), MlpFfn(width=1024)), (NoOpAttention(), ParentFfn())
    realise(define(layers), parent, random_pieces(load_parent(parent), layers), tmp_path / "models" / "best")
    (tmp_path / "text.txt").write_text("\n\n".join(f"document {i} of many" for i in range(200)))
    program = make_program(tmp_path, attention=[ParentAttention()], ffn=[ParentFfn()])
    (tmp_path / "program.json").write_text(with_uptrain(program, tokens=128).model_dump_json())
    # freed memory goes back to the system at once, so that what is measured is what is in use
    at_once = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), "131072")
    assert_both_pass(tmp_path, "memory", **at_once)


CODE = """
import sys
from pathlib import Path
from puzzledsl.ir.nodes import Program
from puzzledsl.uptrain import train
from tests.uptrain.cases import Case, Recorder, run
train.CHECKPOINT_S, train.CHECKPOINT_SHARE = 0.0, 1e9
class Steps(Recorder):
    def log(self, event, **fields):
        if event == "uptrain_step":
            print(fields["step"], flush=True)
base = Path(sys.argv[1])
run(Case(base, Program.from_json((base / "program.json").read_text())), base / "broken", base / "work", Steps())
"""


def steps_until(kill_at: int | None, base: Path) -> list[int]:
    """The steps that were done until the end, or until the process was killed as soon as it told of one."""
    command, seen = [sys.executable, "-c", CODE, str(base)], []
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            seen.append(int(line))
            if seen[-1] == kill_at:
                process.kill()
                break
    assert process.returncode == (0 if kill_at is None else -9)
    return seen


def test_killed_outright_it_goes_on_and_writes_what_an_unbroken_run_writes(tmp_path: Path) -> None:
    case = make_case(tmp_path, tokens=40 * 64, dtype="bf16", micro_batch=3)
    (case.base / "program.json").write_text(case.program.model_dump_json())
    run(case, tmp_path / "unbroken", tmp_path / "work1")
    assert steps_until(7, tmp_path)[-1] == 7
    first, *_, last = steps_until(23, tmp_path)
    assert 6 <= first <= 8 and last == 23
    assert 22 <= steps_until(None, tmp_path)[0] <= 24
    for path in (tmp_path / "unbroken").iterdir():
        assert (tmp_path / "broken" / path.name).read_bytes() == path.read_bytes(), path.name
