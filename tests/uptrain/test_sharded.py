"""Two processes under torchrun, each with half of both models, do what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from puzzledsl.child.checkpoint.contents import load_child
from tests.uptrain.cases import Recorder, make_case, run, with_chats
from tests.uptrain.worker import STOP

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
STEPS = 20
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


@pytest.fixture(scope="module", params=["text", "answers of chats"])
def runs(request, tmp_path_factory):
    """One process's run and two processes', of the same program: 20 steps of 5 blocks, recomputation."""
    case = make_case(
        tmp_path_factory.mktemp("sharded"), tokens=STEPS * 80, batch=5, micro_batch=2, recompute=True
    )
    if request.param != "text":
        case = with_chats(case)
    (case.base / "program.json").write_text(case.program.model_dump_json())
    alone = Recorder()
    run(case, case.base / "alone", case.base / "work1", alone)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, "-m", "tests.uptrain.worker", str(case.base)]
    done = subprocess.run(
        command, env=environment, cwd=case.base, capture_output=True, text=True, timeout=560
    )
    assert done.returncode == 0, done.stderr
    return case.base, alone, json.loads((case.base / "seen.json").read_text())


def figures(events, name):
    return [fields for event, fields in events if event == name]


def test_losses_are_those_of_one_process(runs):
    _, alone, seen = runs
    for name, count in (("uptrain_step", STEPS), ("uptrain_heldout", 6)):
        ours, theirs = figures(seen["whole"], name), alone.named(name)
        assert len(ours) == len(theirs) == count
        for one, two in zip(ours, theirs, strict=True):
            assert one == pytest.approx(two, abs=1e-4)
    losses = [entry["loss"] for entry in figures(seen["whole"], "uptrain_step")]
    assert losses[-1] < 0.9 * losses[0]


def test_the_export_is_a_checkpoint_like_one_process_writes(runs):
    base, *_ = runs
    ours, theirs = (load_file(base / name / "model.safetensors") for name in ("whole", "alone"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=2e-4)
    assert {p.name for p in (base / "whole").iterdir()} == {p.name for p in (base / "alone").iterdir()}
    load_child(base / "whole")


def test_stopped_and_resumed_is_unbroken_to_the_bit(runs):
    base, _, seen = runs
    (first, *_), whole = figures(seen["resumed"], "uptrain_resumed"), figures(seen["whole"], "uptrain_step")
    assert first["step"] == STOP - 1
    assert figures(seen["resumed"], "uptrain_step") == whole[STOP - 1 :]
    name = "model.safetensors"
    assert (base / "resumed" / name).read_bytes() == (base / "whole" / name).read_bytes()
    assert not (base / "work").exists()
