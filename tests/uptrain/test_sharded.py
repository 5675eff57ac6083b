"""Two processes under torchrun, each with half of both models, do what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.uptrain.ranks import Ranks, announce, ranks_of, shares
from puzzledsl.uptrain.run import UptrainInputs, run_uptrain
from tests.uptrain.cases import Recorder, make_case, with_chats
from tests.uptrain.worker import STOP

pytestmark = pytest.mark.timeout(600)
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
    directories = (
        case.parent,
        case.child,
        case.base / "alone",
        case.base,
        case.base / "work1",
        case.base / "tokens",
    )
    run_uptrain(UptrainInputs(case.program, "final", *directories, alone))
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


@pytest.mark.slow
def test_losses_are_those_of_one_process(runs):
    _, alone, seen = runs
    for name, count in (("uptrain_step", STEPS), ("uptrain_heldout", 6)):
        ours, theirs = figures(seen["whole"], name), alone.named(name)
        assert len(ours) == len(theirs) == count
        for one, two in zip(ours, theirs, strict=True):
            assert one == pytest.approx(two, abs=1e-4)
    losses = [entry["loss"] for entry in figures(seen["whole"], "uptrain_step")]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
def test_each_holds_half_of_parent_and_child(runs):
    for held, whole in runs[2]["held"].values():
        assert 0.45 * whole <= held <= 0.55 * whole


@pytest.mark.slow
def test_the_export_is_a_checkpoint_like_one_process_writes(runs):
    base, *_ = runs
    ours, theirs = (load_file(base / name / "model.safetensors") for name in ("whole", "alone"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=2e-4)
    assert {p.name for p in (base / "whole").iterdir()} == {p.name for p in (base / "alone").iterdir()}
    load_child(base / "whole")


@pytest.mark.slow
def test_stopped_and_resumed_is_unbroken_to_the_bit(runs):
    base, _, seen = runs
    (first, *_), whole = figures(seen["resumed"], "uptrain_resumed"), figures(seen["whole"], "uptrain_step")
    assert first["step"] == STOP - 1
    assert figures(seen["resumed"], "uptrain_step") == whole[STOP - 1 :]
    name = "model.safetensors"
    assert (base / "resumed" / name).read_bytes() == (base / "whole" / name).read_bytes()
    assert not (base / "work").exists()


@settings(deadline=None)
@given(blocks=st.integers(1, 20), micro=st.integers(1, 25), world=st.integers(1, 6))
def test_shares_are_the_step_once(blocks, micro, world):
    """Every block once, all processes equally long, shares that sum to one."""
    rows = torch.arange(blocks)[:, None]
    each = [shares(rows, micro, Ranks(rank, world)) for rank in range(world)]
    assert len({len(mine) for mine in each}) == 1
    taken = [int(block) for mine in each for part, share in mine if share for block in part[:, 0]]
    assert sorted(taken) == list(range(blocks))
    assert sum(share for mine in each for _, share in mine) == pytest.approx(1)
    assert all(len(part) <= micro for mine in each for part, _ in mine)


def test_without_torchrun_there_is_one():
    assert ranks_of({}) == Ranks(0, 1) and ranks_of({"RANK": "1", "WORLD_SIZE": "2"}) == Ranks(1, 2)
    alone = Ranks()
    assert alone.leads and alone.broadcast(True) and not alone.broadcast(False) and alone.sum([1.5]) == [1.5]
    announce(alone, None)  # nobody to tell
