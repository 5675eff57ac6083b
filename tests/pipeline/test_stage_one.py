"""What a block library takes on a cluster, by arithmetic: the pieces' own FLOP, and the figures of docs/scale.md."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.scale import estimate, rows
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.tables import BldJob
from puzzledsl.models.alternatives.build import build_alternative
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.pieces.train.losses import loss_of
from puzzledsl.pieces.train.student import Student
from puzzledsl.pipeline.planning.stage_one import _Counts
from puzzledsl.plan.bld import bld_plan
from tests.pieces.train.bld_programs import make_program

ROOT = Path(__file__).parents[2]


def flop_of_a_step(parent: Path, job: BldJob) -> int:
    """What torch counts in one forward and backward pass of a piece, a token."""
    runner = LayerRunner(model := load_parent(parent))
    made = build_alternative(model, job.layer, job.attention or job.ffn, dtype=torch.float32)  # type: ignore[arg-type]
    weights = {name: torch.randn_like(weight) for name, weight in made.state_dict().items()}
    student = Student.restore(job, model, weights)
    tokens = torch.randint(4, 260, (2, job.context))
    hidden = runner.embed(tokens)
    with torch.no_grad():
        trace = runner.trace_layer(job.layer, hidden)
    with FlopCounterMode(display=False) as counter:
        loss = loss_of("normalized_mse", student.forward(hidden, trace), student.target(trace))
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
    count = _Counts(program.parents["p"].shape, jobs)
    for job in jobs:
        counted, measured = count._training(job), flop_of_a_step(tmp_path / "parent", job)
        if isinstance(job.ffn, MlpFfn):
            assert counted == measured
        elif job.attention is not None:  # torch counts scores of later tokens too, and their recomputation
            assert counted == pytest.approx(measured, rel=0.25)
        else:
            assert counted == 0, "a linear piece is not trained"


def test_the_figures_of_the_document_are_the_code_s() -> None:
    found = estimate("llama3_1_405b", "h200", 64, "1B", 4096)
    assert found is not None
    page = (ROOT / "docs" / "scale.md").read_text()
    for name, value in rows(found):
        assert f"| {name} | {value} |" in page, "python -m benchmarks.scale"


def test_405b_by_hand() -> None:
    """The largest figures, from nothing but the model's sizes."""
    found = estimate("llama3_1_405b", "h200", 64, "1B", 4096)
    assert found is not None
    hidden, intermediate, kv = 16384, 53248, 8 * 128
    attention, ffn = 2 * hidden * hidden + 2 * hidden * kv, 3 * hidden * intermediate
    assert found.parent_bytes == 2 * 2 * (attention + ffn + 2 * hidden)
    matrices = 2 * (attention + ffn) + 4 * hidden * 8192 // 2
    gqa = sum(2 * hidden * hidden + 2 * hidden * heads * 128 for heads in (4, 2))
    inner = 2 * hidden * hidden  # o_proj of both
    narrow = sum(3 * hidden * width for width in (26624, 13312, 5325))
    pieces = 6 * (gqa + narrow) - 2 * (gqa - inner + narrow * 2 // 3) + 2 * 3 * 4 * hidden * 8192 // 2
    per_token = 126 * (found.passes * matrices + pieces)
    assert found.training_flop == pytest.approx(1e9 * per_token, rel=0.005)
    assert found.library_bytes == 2 * 126 * (gqa + narrow + 2 * hidden * hidden)


def test_too_few_workers_are_none() -> None:
    assert estimate("llama3_1_405b", "h100_sxm", 8, "1B", 4096) is None
