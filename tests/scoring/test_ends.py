"""Scores of a rounded embedding and a rounded head are those of whole models with these matrices, wherever they are measured."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from puzzledsl.alternatives.linear import NoOpAttention
from puzzledsl.alternatives.parent import ParentAttention, ParentEmbedding, ParentFfn, ParentHead
from puzzledsl.alternatives.precision import PRECISIONS
from puzzledsl.ir.nodes import EndsChoice
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.precision.gptq import codes_of, nearest, rounded_end
from puzzledsl.scoring.run import run_score
from tests.scoring.cases import Case, ElsewhereHere, divergences

SAMPLES = 45
TYPES: tuple[Any, ...] = (None, "q8_0", "q4_1", "q4_0", "iq4_nl")
ENDS = EndsChoice(
    embedding=tuple(ParentEmbedding(dtype=d) for d in TYPES), head=tuple(ParentHead(dtype=d) for d in TYPES)
)


def made(folder: Path, family: str, *, tied: bool) -> Case:
    """A program whose space gives the ends a choice."""
    given = {"attention": (ParentAttention(), NoOpAttention()), "ffn": (ParentFfn(),)}
    case = Case.of(folder, family, model={"layers": 2, "hidden": 32, "tied": tied}, **given)
    space = case.program.spaces["w"].model_copy(update={"ends": ENDS})
    program = case.program.model_copy(update={"spaces": {"w": space}})
    return Case(folder, program)


def expected(case: Case, site: str, dtype: Any) -> dict[str, float]:
    """Metrics of the whole parent with one matrix rounded, in float64; a tied parent is untied by that."""
    parent, child = (load_parent(case.base / "parent") for _ in range(2))
    end: Any = child.get_input_embeddings() if site == "embedding" else child.get_output_embeddings()
    end.weight = torch.nn.Parameter(rounded_end(end.weight, dtype))
    tokens = case.tokens(SAMPLES)
    return divergences([m(tokens, use_cache=False).logits for m in (parent, child)], tokens, SAMPLES)


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
    nothing = pytest.approx(dict.fromkeys(wanted, 0.0), abs=1e-6)
    assert case.score(metric="cosine", samples=SAMPLES).head == nothing


def test_other_processes_give_the_same(tmp_path: Path) -> None:
    case = made(tmp_path, "llama", tied=True)
    here = case.score()
    shutil.rmtree(case.base / "build" / "scores")
    assert run_score(replace(case.inputs(), executor=ElsewhereHere())) == here
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
