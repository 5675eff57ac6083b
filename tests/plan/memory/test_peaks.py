"""Plans of BLD, scoring and uptraining are within a tenth of what a pretended GPU sees."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.progress import Silent
from puzzledsl.data.counts import Budget
from puzzledsl.data.streams import TokenRows
from puzzledsl.ir import nodes
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.placement import this_device
from puzzledsl.pieces.store.library import Library, StageInputs
from puzzledsl.pieces.train.layer_trainer import Order
from puzzledsl.pieces.train.run import run_bld
from puzzledsl.pieces.train.stage import Stage
from puzzledsl.plan.bld import bld_plan
from puzzledsl.plan.memory.bld import WorkerPlan, weights_of
from puzzledsl.plan.memory.stages import UptrainChoice, UptrainSizes, forward_plan, uptrain_plan
from puzzledsl.scoring.run import ScoreInputs, run_score
from puzzledsl.uptrain.model import Student, Teacher
from puzzledsl.uptrain.train import Trainer
from tests.blocks import stream_in_memory
from tests.cases import more
from tests.pieces.train.bld_programs import WHERE, make_program, write_text
from tests.pretended_gpu import Gpu, pretended_gpu
from tests.tiny import save_tiny

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


def checked_calibration(
    gpu: Gpu, order: Order, program: nodes.Program, layers: int
) -> tuple[Stage, WorkerPlan]:
    """A stage that has initialised its pieces, within a tenth of the plan's peak, and the plan."""
    model = load_parent(order.parent_dir, dtype=torch.bfloat16, device="cuda")
    device, shape = this_device(model.device, model.dtype), program.parents["p"].shape
    plan = WorkerPlan(shape, order.jobs, 0, layers, device, whole=True)
    stage = Stage(order, 0, layers, model)
    gpu.reset_peak()
    for batch in order.calibration_batches():
        stage.calibrate(stage.embed(batch))
    stage.initialise()
    assert sum(plan.calibration.values()) == pytest.approx(gpu.peak_bytes, rel=0.1)
    return stage, plan


@pytest.mark.parametrize("calibration", [4096, *more(1024)], ids=["refined", "not refined"])
@pytest.mark.parametrize("family", ["llama", *more("qwen3", "olmo2")])
def test_peaks_of_bld_are_those_of_the_plan(
    family: str, calibration: int, tmp_path: Path, pretended: Gpu
) -> None:
    tokens = {"tokens": 2 * BATCH * CONTEXT, "calibration_tokens": calibration}
    program = make_program(
        tmp_path, family, attention=ATTENTION, ffn=FFN, model=MODEL, context=CONTEXT, batch=BATCH, **tokens
    )
    order = order_of(program, tmp_path)
    stage, plan = checked_calibration(pretended, order, program, 2)
    assert plan.micro_blocks == BATCH, "80 GiB hold the whole batch"
    for batch in order.held_out_batches():
        stage.evaluate(stage.embed(batch))
    stage.begin()
    for blocks, batch in zip((BATCH, 1), order.training_batches(), strict=True):
        stage._micro.blocks = blocks
        pretended.reset_peak()
        stage.step(stage.embed(batch))
        assert sum(plan.training(blocks).values()) == pytest.approx(pretended.peak_bytes, rel=0.1), blocks


def test_the_peak_of_a_wide_ffn_is_that_of_eliminating_its_channels(tmp_path: Path, pretended: Gpu) -> None:
    """Matrices of F^2 numbers in float64 are nearly all of it."""
    wide = {**MODEL, "layers": 1, "hidden": 32, "heads": 2, "kv_heads": 1, "intermediate": 1024}
    tokens = {"context": CONTEXT, "batch": BATCH, "tokens": BATCH * CONTEXT, "calibration_tokens": 512}
    ffn = (ParentFfn(), MlpFfn(width=512))
    program = make_program(tmp_path, attention=(ParentAttention(),), ffn=ffn, model=wide, **tokens)
    checked_calibration(pretended, order_of(program, tmp_path), program, 1)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("cosine", [0.0, 1.0])
def test_peaks_of_uptraining_are_those_of_the_plan(
    cosine: float, recompute: bool, tmp_path: Path, pretended: Gpu
) -> None:
    save_tiny(tmp_path / "parent", **MODEL)
    sizes = {"tokens": 2 * BATCH * CONTEXT, "context": CONTEXT, "batch": BATCH, "micro_batch": BATCH}
    losses = {"kld": 1.0, "cosine": cosine, "lr": nodes.Schedule(peak=1e-3)}
    named = {"name": "u", "search": "s", "dtype": "bf16", "recompute": recompute, "where": WHERE}
    declaration = nodes.Uptrain(**named, **losses, **sizes)
    parent = load_parent(tmp_path / "parent", dtype=torch.bfloat16, device="cuda")
    child = load_parent(tmp_path / "parent", dtype=torch.float32, device="cuda")
    tokens = torch.randint(4, 260, (3 * BATCH, CONTEXT), generator=torch.Generator().manual_seed(0))
    stream = stream_in_memory(tokens.numpy().astype(np.int32).ravel())
    rows = TokenRows([stream], np.zeros(len(tokens), "u2"), np.arange(len(tokens)), CONTEXT)
    given = (
        Teacher(parent),
        Student(child),
        rows.part(BATCH),
        rows.part(0, BATCH),
        tmp_path / "work",
        Silent(),
    )
    trainer = Trainer(declaration, *given)
    pretended.reset_peak()
    trainer.step(0)
    trainer.step(1)
    peak, shape = pretended.peak_bytes, shape_of(child.config)
    device = this_device(parent.device, parent.dtype)
    plan, choice = uptrain_plan(UptrainSizes(declaration, shape, shape), device)
    assert choice == UptrainChoice(BATCH, recompute, offload=False)
    assert plan.peak_bytes == pytest.approx(peak, rel=0.1)


def test_the_peak_of_scoring_is_that_of_the_plan(tmp_path: Path) -> None:
    method = nodes.ReplaceOne(metric="kl_divergence", samples=4096)
    program = make_program(
        tmp_path, attention=ATTENTION[:2], ffn=FFN[:2], model=MODEL, method=method, tokens=64
    )
    write_text(tmp_path, words=12_000)
    jobs, library = bld_plan(program, "b"), Library(tmp_path / "build" / "library")
    run_bld(StageInputs(program, "b", tmp_path / "parent", tmp_path, library, jobs, tmp_path / "w", Silent()))
    with pretended_gpu() as gpu:
        given = (program, "s", tmp_path / "parent", tmp_path, library, jobs, tmp_path / "s", Silent())
        run_score(ScoreInputs(*given))
        peak = gpu.peak_bytes
        device = replace(this_device(torch.device("cuda"), torch.bfloat16), flop_per_s=1.0)
    weights = max(map(weights_of, jobs))
    more = {"piece": weights * device.number_bytes}
    plan = forward_plan("score", "s", program.parents["p"].shape, device, 1.0, tokens=4096, more=more)
    assert plan.peak_bytes == pytest.approx(peak, rel=0.2)
