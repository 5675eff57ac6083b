"""Scores of a rounded embedding and a rounded head are those of whole models with these matrices, wherever they are measured."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from puzzledsl.alternatives.linear import NoOpAttention
from puzzledsl.alternatives.parent import ParentAttention, ParentEmbedding, ParentFfn, ParentHead
from puzzledsl.alternatives.precision import PRECISIONS
from puzzledsl.ir.nodes import EndsChoice
from puzzledsl.ir.tables import ScoreTable
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.precision.gptq import codes_of, nearest, rounded_end
from puzzledsl.scoring import run
from tests.pieces.train.bld_programs import make_program
from tests.scoring.cases import Case, ElsewhereHere

SAMPLES = 45
TYPES: tuple[Any, ...] = (None, "q8_0", "q4_1", "q4_0", "iq4_nl")
ENDS = EndsChoice(
    embedding=tuple(ParentEmbedding(dtype=d) for d in TYPES), head=tuple(ParentHead(dtype=d) for d in TYPES)
)


def made(folder: Path, family: str, *, tied: bool) -> Case:
    """A program whose space gives the ends a choice."""
    given = {"attention": (ParentAttention(), NoOpAttention()), "ffn": (ParentFfn(),)}
    model = {"layers": 2, "hidden": 32, "tied": tied}
    program = make_program(folder, family, model=model, tokens=64, calibration_tokens=128, **given)
    space = program.spaces["w"].model_copy(update={"ends": ENDS})
    return Case(folder, program.model_copy(update={"spaces": {"w": space}}))


def expected(case: Case, site: str, dtype: Any) -> dict[str, float]:
    """Metrics of the whole parent with one matrix rounded, in float64; a tied parent is untied by that."""
    tokens, parent, child = (
        case.tokens(SAMPLES),
        load_parent(case.base / "parent"),
        load_parent(case.base / "parent"),
    )
    end: Any = child.get_input_embeddings() if site == "embedding" else child.get_output_embeddings()
    end.weight = torch.nn.Parameter(rounded_end(end.weight, dtype))
    p, q = (
        m(tokens, use_cache=False).logits.double().log_softmax(-1).flatten(0, 1)[:SAMPLES]
        for m in (parent, child)
    )
    following = F.pad(tokens[:, 1:], (0, 1), value=-1).flatten()[:SAMPLES]
    known = following >= 0
    return {
        "kl_divergence": float((p.exp() * (p - q)).sum(-1).mean()),
        "lm_loss": float((p - q)[known, following[known]].mean()),
    }


@torch.no_grad()
@pytest.mark.states("score.ends")
@pytest.mark.parametrize(("family", "tied"), [("llama", False), ("llama", True), ("gemma3_text", True)])
def test_scores_are_those_of_whole_models(family: str, tied: bool, tmp_path: Path) -> None:
    case = made(tmp_path, family, tied=tied)
    for metric in ("kl_divergence", "lm_loss"):
        table = case.score(metric=metric, samples=SAMPLES)
        for site in ("embedding", "head"):
            found: dict[str, float] = getattr(table, site)
            wanted = {f"parent@{d}": expected(case, site, d)[metric] for d in TYPES if d}
            assert found == pytest.approx(wanted, abs=2e-6, rel=1e-3)
            assert len({*found.values()}) == len(found)
        assert table.attention[0].keys() == {"noop"}
    assert case.score(metric="cosine", samples=SAMPLES).head == pytest.approx(
        dict.fromkeys(wanted, 0.0), abs=1e-6
    )


def test_other_processes_give_the_same(tmp_path: Path) -> None:
    case = made(tmp_path, "llama", tied=True)

    def table(work: str, **changes: Any) -> ScoreTable:
        inputs = case.inputs(work)
        shutil.rmtree(case.base / "build" / "scores", ignore_errors=True)
        return run.run_score(replace(inputs, **changes))

    here = table("one")
    assert table("two", executor=ElsewhereHere()) == here
    assert len(here.head) == len(here.embedding) == len(TYPES) - 1


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_a_rounded_end_is_on_its_grid_and_no_further_than_the_nearest(dtype: Any) -> None:
    generator = torch.Generator().manual_seed(7)
    weight: Tensor = torch.randn(70, 64, generator=generator) * torch.rand(70, 1, generator=generator)
    found = rounded_end(weight, dtype)
    held = codes_of(found, PRECISIONS[dtype])
    assert held is not None and torch.equal(held.values(64), found)
    assert torch.equal(torch.cat([rounded_end(row[None], dtype) for row in weight]), found)
    assert (found - weight).square().sum() <= (nearest(weight, PRECISIONS[dtype]) - weight).square().sum()
