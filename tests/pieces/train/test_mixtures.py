"""BLD trains the router and the experts of a smaller mixture together."""

from __future__ import annotations

from pathlib import Path

import torch

from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.pieces.store.library import Library
from tests.pieces.train.bld_programs import make_program
from tests.pieces.train.test_bld_run import run

SMALLER = MoeFfn(experts=4, top_k=2, width=8)


def library(base: Path, tokens: int) -> Library:
    program = make_program(
        base,
        "qwen3_moe",
        attention=[ParentAttention()],
        ffn=[ParentFfn(), SMALLER],
        model={"layers": 1, "mlp_only_layers": []},
        tokens=tokens,
    )
    return run(program, base, f"build-{tokens}")


def test_training_moves_router_and_experts_and_lowers_the_loss(tmp_path: Path) -> None:
    untrained, trained = (library(tmp_path, tokens) for tokens in (0, 2048))
    (first,), (last,) = untrained.pieces(), trained.pieces()
    assert last.loss_final < last.loss_initial
    before, after = untrained.load(first.job.id), trained.load(last.job.id)
    assert set(before) == set(after) == set(first.job.shapes)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "gate.weight" in moved
    assert {name.split(".")[1] for name in moved if name.startswith("experts.")} == {"0", "1", "2", "3"}
