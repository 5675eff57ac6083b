"""Scores of runs of dropped layers are those of whole forward passes without them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.progress import Progress, Silent
from puzzledsl.ir.nodes import LayerChoice, ReplaceOne
from puzzledsl.ir.tables import ScoreTable
from puzzledsl.models.placement import paged_parent
from puzzledsl.scoring import measures, run
from puzzledsl.scoring import run as subject
from puzzledsl.scoring.run import ScoreInputs
from tests.pieces.train.bld_programs import make_program
from tests.scoring.cases import Case
from tests.scoring.test_replace_one import Interrupting, figures_of, forget
from tests.tiles import cut

LAYERS = 5
RUNS = ReplaceOne(metric="kl_divergence", samples=40, runs=(2, 4))
PARENT: tuple[Any, Any] = (ParentAttention(), ParentFfn())
DROPPED: tuple[Any, Any] = (NoOpAttention(), NoOpFfn())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    base = tmp_path_factory.mktemp("runs")
    attention, ffn = (ParentAttention(), NoOpAttention()), (ParentFfn(), MlpFfn(width=16), NoOpFfn())
    settings: dict[str, Any] = {"tokens": 64, "calibration_tokens": 128, "model": {"layers": LAYERS}}
    return Case(base, make_program(base, attention=attention, ffn=ffn, method=RUNS, **settings))


def values(table: ScoreTable) -> dict[tuple[int, int], float]:
    return {(r.first, r.length): r.value for r in table.runs}


@torch.no_grad()
def test_runs_are_whole_forward_passes_without_their_layers(case: Case) -> None:
    forget(case)
    tables = {
        metric: case.score(metric=metric, samples=40, runs=(2, 4))
        for metric in ("kl_divergence", "lm_loss", "cosine")
    }
    assert list(values(tables["lm_loss"])) == [
        (f, n) for f in range(LAYERS) for n in (2, 3, 4) if f + n <= LAYERS
    ]
    for (first, length), value in values(tables["kl_divergence"]).items():
        layers = [DROPPED if first <= i < first + length else PARENT for i in range(LAYERS)]
        expected = case.figures(layers, 40)
        assert value == pytest.approx(expected["kl_divergence"], abs=1e-5)
        for metric, table in tables.items():
            assert values(table)[first, length] == pytest.approx(expected[metric], abs=1e-5)


def test_runs_go_where_whole_layers_can_be_dropped(case: Case) -> None:
    space = case.program.spaces["w"]
    kept = LayerChoice(attention=(ParentAttention(), NoOpAttention()), ffn=(ParentFfn(), MlpFfn(width=16)))
    narrow = space.model_copy(update={"layers": (*space.layers[:3], kept, space.layers[4])})
    other = Case.__new__(Case)
    other.__dict__.update(case.__dict__, program=case.program.model_copy(update={"spaces": {"w": narrow}}))
    assert list(values(other.score())) == [(0, 2), (0, 3), (1, 2)]


def test_single_scores_are_as_without_runs_and_share_their_figures(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(case)
    plain = case.score(metric="kl_divergence", samples=40)
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


def test_an_interrupted_run_goes_on_to_the_same_bytes(case: Case) -> None:
    forget(case)
    whole = case.score().canonical_json()
    (kept,) = figures_of(case)
    bytes_of = kept.read_bytes()
    forget(case)
    given = case.program, "s", case.base / "parent", case.base, case.library, case.jobs, case.base / "cut"
    for after in (1, 9, 17, 20):
        with pytest.raises(KeyboardInterrupt):
            run.run_score(ScoreInputs(*given, Interrupting(after)))
    assert run.run_score(ScoreInputs(*given, Silent())).canonical_json() == whole
    assert sorted(kept.read_bytes().splitlines()) == sorted(bytes_of.splitlines())


def test_groups_threads_and_paged_parents_find_the_same(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(case)
    expected = case.score().canonical_json()
    for threads in (2, 3):
        forget(case)
        torch.set_num_threads(threads)
        assert case.score().canonical_json() == expected
    forget(case)

    def paged(parent_dir: Path, progress: Progress, **given: object) -> PreTrainedModel:
        return paged_parent(parent_dir, room_bytes=0, keep_head=True)[0]

    monkeypatch.setattr(subject, "reachable_parent", paged)
    assert case.score().canonical_json() == expected
    monkeypatch.undo()
    forget(case)
    cut(monkeypatch, group_tokens=16)  # one block at a time, one run at a time
    apart = values(case.score())
    assert apart == pytest.approx(values(ScoreTable.from_json(expected)), abs=1e-6)


def test_blocks_have_runs_too(case: Case) -> None:
    forget(case)
    table = case.score(metric="kl_divergence", samples=40, unit="block", runs=(2, 2))
    assert list(values(table)) == [(first, 2) for first in range(LAYERS - 1)]
    assert table.pairs[0].keys() >= {"noop/noop"}
