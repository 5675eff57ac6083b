"""FLOP of pieces in training are those that torch counts; least squares and refinement are counted as they run."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.tables import BldJob
from puzzledsl.models.alternatives.realisation import build_alternative
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.least_squares.grams import elimination_order
from puzzledsl.pieces.train.piece_state import normalized_mse
from puzzledsl.pieces.train.student import Student
from puzzledsl.plan.bld import bld_plan
from puzzledsl.plan.flop import (
    StageOneFlop,
    eliminated_numbers,
)
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
    count = StageOneFlop(program.parents["p"].shape, jobs)
    for job in jobs:
        counted, measured = count.training(job), flop_of_a_step(tmp_path / "parent", job)
        if isinstance(job.ffn, MlpFfn):
            assert counted == measured
        elif job.attention is not None:  # torch counts scores of later tokens too, and their recomputation
            assert counted == pytest.approx(measured, rel=0.25)
        else:
            assert counted == 0, "a linear piece is not trained"


def test_the_elimination_of_channels_is_counted_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum over rounds of the square of the channels left, as the updates of the inverse show."""
    sizes: list[int] = []
    solve = torch.linalg.solve
    monkeypatch.setattr(torch.linalg, "solve", lambda a, b: sizes.append(sum(b.shape)) or solve(a, b))
    generator = torch.Generator().manual_seed(0)
    for channels in (40, 200):
        x = torch.randn(300, channels, generator=generator, dtype=torch.float64)
        elimination_order(x.T @ x, torch.randn(channels, 4, generator=generator))
        assert sum(size**2 for size in sizes) == eliminated_numbers(channels), channels
        sizes.clear()
