"""FLOP of pieces in training are those that torch counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.tables import BldJob
from puzzledsl.models.alternatives.build import build_alternative
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.pieces.train.losses import normalized_mse
from puzzledsl.pieces.train.student import Student
from puzzledsl.plan.bld import bld_plan
from puzzledsl.plan.flop import training_flop
from tests.pieces.train.bld_programs import make_program


def flop_of_a_step(parent: Path, job: BldJob) -> int:
    """FLOP that torch counts in one forward and backward pass of a piece, a token."""
    runner = LayerRunner(model := load_parent(parent))
    made = build_alternative(model, job.layer, job.attention or job.ffn, dtype=torch.float32)  # type: ignore[arg-type]
    weights = {name: torch.randn_like(weight) for name, weight in made.state_dict().items()}
    student = Student.restore(job, model, weights)
    tokens = torch.randint(4, 260, (2, job.context))
    hidden = runner.embed(tokens)
    with torch.no_grad():
        trace = runner.trace_layer(job.layer, hidden)
    with FlopCounterMode(display=False) as counter:
        loss = normalized_mse(student.forward(hidden, trace), student.target(trace))
        torch.autograd.backward(loss)
    return counter.get_total_flops() // tokens.numel()


def test_pieces_cost_what_torch_counts(tmp_path: Path) -> None:
    program = make_program(
        tmp_path,
        attention=(ParentAttention(), GqaAttention(kv_heads=1)),
        ffn=(ParentFfn(), MlpFfn(width=24), LinearFfn()),
        model={"layers": 1, "hidden": 64},
    )
    jobs = bld_plan(program, "b")
    shape = program.parents["p"].shape
    for job in jobs:
        counted, measured = training_flop(job, shape.at(job.layer)), flop_of_a_step(tmp_path / "parent", job)
        if isinstance(job.ffn, MlpFfn):
            assert counted == measured
        elif job.attention is not None:  # torch counts scores of later tokens too, and their recomputation
            assert counted == pytest.approx(measured, rel=0.25)
        else:
            assert counted == 0, "a linear piece is not trained"
