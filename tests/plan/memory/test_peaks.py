"""The plan of BLD is within a tenth of what a pretended GPU sees, in families with norms in several places."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.data.budget import Budget
from puzzledsl.ir import nodes
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.this_device import this_device
from puzzledsl.pieces.train.order import Order
from puzzledsl.pieces.train.stage import Stage
from puzzledsl.plan.bld import bld_plan
from puzzledsl.plan.memory.bld import WorkerPlan
from tests.pieces.train.bld_programs import make_program
from tests.pretended_gpu import pretended_gpu

CONTEXT, BATCH = 256, 4
MODEL = {"layers": 2, "hidden": 64, "heads": 8, "kv_heads": 4, "head_dim": 8, "intermediate": 192}
ATTENTION = (ParentAttention(), GqaAttention(kv_heads=2), LinearAttention())
FFN = (ParentFfn(), MlpFfn(width=96), LinearFfn())


def order_of(program: nodes.Program, base: Path) -> Order:
    jobs = bld_plan(program, "b")
    budget = Budget.of(jobs[0])
    tokens = torch.randint(4, 260, (budget.blocks, CONTEXT), generator=torch.Generator().manual_seed(0))
    init = program.spaces["w"].init
    return Order("b", base / "parent", jobs, budget, init, tokens, base / "library", base / "work")


@pytest.mark.parametrize("calibration", [1024, 4096], ids=["not refined", "refined"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "olmo2"])
def test_peaks_of_bld_are_those_of_the_plan(family: str, calibration: int, tmp_path: Path) -> None:
    tokens = {"tokens": 2 * BATCH * CONTEXT, "calibration_tokens": calibration}
    program = make_program(
        tmp_path, family, attention=ATTENTION, ffn=FFN, model=MODEL, context=CONTEXT, batch=BATCH, **tokens
    )
    order = order_of(program, tmp_path)
    with pretended_gpu() as gpu:
        model = load_parent(order.parent_dir, dtype=torch.bfloat16, device="cuda")
        device, shape = this_device(model.device, model.dtype), program.parents["p"].shape
        plan = WorkerPlan(shape, order.jobs, 0, 2, device, whole=True)
        assert plan.micro_blocks == BATCH, "80 GiB hold the whole batch"
        stage = Stage(order, 0, 2, model)
        gpu.reset_peak()
        stage.initialise(*map(stage.embed, order.calibration_batches()))
        assert sum(plan.calibration.values()) == pytest.approx(gpu.peak_bytes, rel=0.1)
        for batch in order.held_out_batches():
            stage.evaluate(stage.embed(batch))
        stage.begin()
        for blocks, batch in zip((BATCH, 1), order.training_batches(), strict=True):
            stage._micro.blocks = blocks
            gpu.reset_peak()
            stage.step(stage.embed(batch))
            assert sum(plan.training(blocks).values()) == pytest.approx(gpu.peak_bytes, rel=0.1), blocks


def test_a_gpu_that_is_too_small_goes_on_with_less(tmp_path: Path) -> None:
    """With the memory of the plan for one sequence, a batch of four goes on with fewer at a time, and says so."""
    tokens = {"tokens": 2 * BATCH * CONTEXT, "calibration_tokens": 1024}
    program = make_program(
        tmp_path, attention=ATTENTION, ffn=FFN, model=MODEL, context=CONTEXT, batch=BATCH, **tokens
    )
    order, said = order_of(program, tmp_path), []
    with pretended_gpu() as gpu:
        model = load_parent(order.parent_dir, dtype=torch.bfloat16, device="cuda")
        stage = Stage(order, 0, 2, model, tell=said.append)
        stage.initialise(*map(stage.embed, order.calibration_batches()))
        for batch in order.held_out_batches():
            stage.evaluate(stage.embed(batch))
        stage.begin()
        plan = WorkerPlan(program.parents["p"].shape, order.jobs, 0, 2, stage.device(), whole=True)
        gpu.limit_bytes = int(1.1 * sum(plan.training(1).values()))
        for batch in order.training_batches():
            stage.step(stage.embed(batch))
    assert said[-1].endswith("going on with 1 of 4 sequences at a time")
    pieces = [piece for trainer in stage._trainers.values() for piece in trainer.pieces]
    assert {piece.done for piece in pieces if piece.student.needs_training} == {2}
