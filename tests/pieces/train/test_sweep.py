"""A sweep has the pieces and the statistics of one layer in memory at a time."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.progress import Silent
from puzzledsl.pieces.store.library import Library, StageInputs
from puzzledsl.pieces.train import sweep
from puzzledsl.pieces.train.piece_state import PieceState
from puzzledsl.pieces.train.run import run_bld
from puzzledsl.plan.bld import bld_plan
from tests.pieces.train.bld_programs import make_program


def test_a_layer_is_gone_before_the_next_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = make_program(tmp_path, attention=(ParentAttention(),), ffn=(ParentFfn(), MlpFfn(width=16)))
    build, made, left = sweep.initialised, [], []

    def noted(*given: object) -> list[PieceState]:
        gc.collect()
        left.extend(kind for kind, reference in made if reference() is not None)
        pieces = build(*given)  # type: ignore[arg-type]
        made.extend((type(each).__name__, weakref.ref(each)) for each in (*pieces, given[-1]))
        return pieces

    monkeypatch.setattr(sweep, "initialised", noted)
    given = program, "b", tmp_path / "parent", tmp_path, Library(tmp_path / "library")
    run_bld(StageInputs(*given, bld_plan(program, "b"), tmp_path / "work", Silent()))
    assert len(made) >= 4 and not left
