"""Scores of runs of dropped layers are those of whole forward passes without them."""

import copy

import pytest
import torch

from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.nodes import LayerChoice, ReplaceOne
from puzzledsl.ir.tables import ScoreTable
from puzzledsl.scoring import measures
from tests.scoring.cases import DROPPED, PARENT, Case

LAYERS = 5
RUNS = ReplaceOne(metric="kl_divergence", samples=40, runs=(2, 4))


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    attention, ffn = (ParentAttention(), NoOpAttention()), (ParentFfn(), MlpFfn(width=16), NoOpFfn())
    base = tmp_path_factory.mktemp("runs")
    return Case.of(base, attention=attention, ffn=ffn, method=RUNS, model={"layers": LAYERS})


def values(table: ScoreTable) -> dict[tuple[int, int], float]:
    return {(r.first, r.length): r.value for r in table.runs}


@torch.no_grad()
def test_runs_are_whole_forward_passes_without_their_layers(case: Case) -> None:
    case.forget()
    metrics = ("kl_divergence", "lm_loss", "cosine")
    tables = {metric: case.score(metric=metric, samples=40, runs=(2, 4)) for metric in metrics}
    assert list(values(tables["lm_loss"])) == [
        (f, n) for f in range(LAYERS) for n in (2, 3, 4) if f + n <= LAYERS
    ]
    for first, length in values(tables["kl_divergence"]):
        layers = [DROPPED if first <= i < first + length else PARENT for i in range(LAYERS)]
        expected = case.figures(layers, 40)
        for metric, table in tables.items():
            assert values(table)[first, length] == pytest.approx(expected[metric], abs=1e-5)


def test_runs_go_where_whole_layers_can_be_dropped(case: Case) -> None:
    space = case.program.spaces["w"]
    kept = LayerChoice(attention=(ParentAttention(), NoOpAttention()), ffn=(ParentFfn(), MlpFfn(width=16)))
    narrow = space.model_copy(update={"layers": (*space.layers[:3], kept, space.layers[4])})
    other = copy.copy(case)
    other.program = case.program.model_copy(update={"spaces": {"w": narrow}})
    assert list(values(other.score())) == [(0, 2), (0, 3), (1, 2)]


def test_single_scores_are_as_without_runs_and_share_their_figures(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = case.anew(metric="kl_divergence", samples=40)
    measured: list[int] = []
    original = measures.Divergence.figures
    monkeypatch.setattr(
        measures.Divergence, "figures", lambda self, normed: measured.append(1) or original(self, normed)
    )
    whole = case.score()
    assert len(measured) == len(whole.runs) == 9
    assert (whole.attention, whole.ffn) == (plain.attention, plain.ffn) and not plain.runs
    assert case.score(metric="kl_divergence", samples=40) == plain  # the runs' figures are there now
    assert values(case.score(metric="cosine", samples=40, runs=(3, 3))).keys() == {(0, 3), (1, 3), (2, 3)}
    assert len(measured) == 9
