"""A parent that no worker can hold is scored by teams of workers with a span of its layers each: the same bytes.

The members are in this process; `tests.cluster.test_stages_on_ray` has them on Ray.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.cluster.tasks import LocalExecutor
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import ModelDefinition, ScoreTable
from puzzledsl.models.placement import Pages
from puzzledsl.scoring import run
from puzzledsl.scoring.replacements import Replacement, Run
from puzzledsl.scoring.run import run_score
from puzzledsl.scoring.workers import ParentInSpans, balanced, sent
from tests.pieces.train.bld_programs import make_program
from tests.scoring.cases import Case

PLAIN: dict[str, Any] = {"metric": "kl_divergence", "samples": 40}
METHODS: dict[str, dict[str, Any]] = {
    "fitted": {**PLAIN, "children": 12},
    "runs, few tokens": {"metric": "cosine", "samples": 16, "runs": (2, 3)},
}
LAYERS = 4
SPANS = [((0, 1), (1, 4)), ((0, 3), (3, 4)), ((0, 1), (1, 2), (2, 3), (3, 4))]


class ElsewhereHere(LocalExecutor):
    """Teams in this process that are taken for remote ones."""

    is_local = False


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    base = tmp_path_factory.mktemp("case")
    attention = (ParentAttention(), GqaAttention(kv_heads=1), NoOpAttention())
    ffn = (ParentFfn(), MlpFfn(width=16), NoOpFfn())
    return Case(base, make_program(base, "llama", attention=attention, ffn=ffn, model={"layers": LAYERS}))


def scored(
    case: Case, method: dict[str, Any], around: ModelDefinition | None = None, **changes: Any
) -> ScoreTable:
    """The table, with nothing known from before."""
    for known in (case.base / "work", case.base / "build" / "scores"):
        shutil.rmtree(known, ignore_errors=True)
    declaration = case.program.scores["s"].model_copy(update={"method": nodes.ReplaceOne(**method)})
    program = case.program.model_copy(update={"scores": {"s": declaration}})
    return run_score(replace(case.inputs("work", around), program=program, **changes))


def in_spans(layers: Sequence[tuple[int, int]]) -> Any:
    def tasks(inputs: Any, todo: Sequence[Replacement], runs: Sequence[Run]) -> ParentInSpans:
        return ParentInSpans(sent(inputs), todo, runs, layers)

    return tasks


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.parametrize(
    "layers", [SPANS[0], *(pytest.param(more, marks=pytest.mark.slow) for more in SPANS[1:])]
)
def test_spans_give_the_scores_of_one_process(
    name: str, layers: Any, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = scored(case, METHODS[name])
    monkeypatch.setattr(run, "tasks_for", in_spans(layers))
    assert scored(case, METHODS[name], executor=ElsewhereHere()) == expected


def test_scores_around_a_child_are_the_same(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [(ParentAttention(), ParentFfn()), (GqaAttention(kv_heads=1), NoOpFfn())] * 2
    child = case.child(layers)
    expected = scored(case, PLAIN, child)
    monkeypatch.setattr(run, "tasks_for", in_spans(SPANS[0]))
    assert scored(case, PLAIN, child, executor=ElsewhereHere()) == expected


def test_each_layer_is_read_once_by_the_worker_that_has_it(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight replacements of each of four layers pass the layers above: without spans, that is 48 reads."""
    read: list[str] = []
    pin = Pages.pin

    def spy(self: Pages, page: Any) -> None:
        read.append(page.name)
        pin(self, page)

    monkeypatch.setattr(Pages, "pin", spy)
    monkeypatch.setattr(run, "tasks_for", in_spans(SPANS[0]))
    scored(case, PLAIN, executor=ElsewhereHere())
    layers = [name for name in read if name.startswith("model.layers.")]
    assert sorted(layers) == [f"model.layers.{n}" for n in range(LAYERS)]
    assert read.count("model.embed_tokens") <= 2


def test_teams_are_as_large_as_the_parent_needs(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = replace(case.inputs(), executor=ElsewhereHere())
    assert run.tasks_for(inputs, (), ()).spec().size == 1
    monkeypatch.setattr(run, "SMALL_BYTES", 0)
    whole = run.weights_bytes(Path(inputs.parent_dir), run.placement(inputs.parent_dir)[1])
    monkeypatch.setattr(run.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(run, "free_bytes", lambda device: whole / run.SHARE / 2)
    assert run.tasks_for(inputs, (), ()).spec().size == 2
    healed = inputs.with_method(healed=64)
    assert run.tasks_for(healed, (), ()).spec().size == 1


def test_higher_spans_are_shorter_because_more_replacements_pass_them(case: Case) -> None:
    shape = case.program.parents["p"].shape
    todo = [Replacement(layer, "ffn", "noop", ()) for layer in range(LAYERS) for _ in range(8)]
    (first, _), (_, last) = found = balanced(shape, todo, (), 2)
    assert (first, last) == (0, LAYERS) and found[0][1] > LAYERS // 2
