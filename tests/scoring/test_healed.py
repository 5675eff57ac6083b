"""Scores after healing are the losses of children that are healed up to the layer behind what is replaced."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.progress import Silent
from puzzledsl.child.healing import walk
from puzzledsl.child.healing.walk import JUDGING_PART, heal, healing_text
from puzzledsl.ir.nodes import ReplaceOne
from puzzledsl.ir.tables import ScoreTable
from puzzledsl.models.families.access import family_of
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.refining.run import HealedChildren
from puzzledsl.scoring import run
from puzzledsl.scoring.measures import Divergence
from tests.cases import cases
from tests.refused import refused
from tests.scoring.cases import DROPPED, PARENT, Case, divergences
from tests.tiny import tiny_tokenizer

LAYERS, SAMPLES, HEALED = 5, 40, 200
METHOD = ReplaceOne(metric="kl_divergence", samples=SAMPLES, runs=(2, 4), healed=HEALED)
ATTENTION: tuple[Any, ...] = (ParentAttention(), GqaAttention(kv_heads=1), NoOpAttention())
FFN: tuple[Any, ...] = (ParentFfn(), MlpFfn(width=16), NoOpFfn())
Child = Sequence[tuple[Any, Any]]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    base = tmp_path_factory.mktemp("healed")
    return Case.of(base, attention=ATTENTION, ffn=FFN, method=METHOD, model={"layers": LAYERS})


@pytest.fixture(scope="module")
def table(case: Case) -> ScoreTable:
    torch.set_num_threads(1)
    return case.score()


def text(case: Case) -> torch.Tensor:
    """The blocks that scores heal on."""
    bld = case.program.blds["b"].model_copy(update={"heal_tokens": HEALED})
    cache = case.base / "build" / "cache" / "tokens"
    found = healing_text(case.program, bld, case.base, tiny_tokenizer(), cache)
    assert found is not None and len(found[0]) == -(-HEALED // 16)
    return found[0]


def with_one(layer: int, choice: tuple[Any, Any]) -> Child:
    return [choice if i == layer else PARENT for i in range(LAYERS)]


def scored(table: ScoreTable) -> Iterator[tuple[int, Child, float]]:
    """The layer behind each replacement or run, the child with it, and its score."""
    for layer in range(LAYERS):
        for a in ATTENTION[1:]:
            yield layer + 1, with_one(layer, (a, PARENT[1])), table.attention[layer][a.name]
        for f in FFN[1:]:
            yield layer + 1, with_one(layer, (PARENT[0], f)), table.ffn[layer][f.name]
    for of in table.runs:
        end = of.first + of.length
        yield end, [DROPPED if of.first <= i < end else PARENT for i in range(LAYERS)], of.value


@torch.no_grad()
def naive(case: Case, child: Child, behind: int, work: Path) -> float:
    """A whole healed model with the healed weights up to one layer, those above as they are; in float64."""
    blocks, parent = text(case), load_parent(case.base / "parent")
    judging = len(blocks) // JUDGING_PART
    definition = case.child(child)
    given = definition.layers, case.library.load, blocks[judging:], blocks[:judging], work, Silent()
    layers = family_of(parent).layers
    weights = {
        name: weight.read()
        for name, weight in heal(parent, *given).weights(work).items()
        if int(name.removeprefix(f"{layers}.").partition(".")[0]) <= behind
    }
    model = case.assembled(child)
    model.load_state_dict(weights, strict=False)
    tokens = case.tokens(SAMPLES)
    logits = [m(tokens, use_cache=False).logits for m in (parent, model)]
    return divergences(logits, tokens, SAMPLES)["kl_divergence"]


@pytest.mark.drawn
def test_scores_are_of_children_healed_up_to_the_layer_behind(
    case: Case, table: ScoreTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = walk.fit_last

    def fit_last(block: Any, *seen: Any) -> Any:
        """A piece between the points it was made for stays as it is."""
        return None if block.link.piece else real(block, *seen)

    monkeypatch.setattr(walk, "fit_last", fit_last)
    found = list(scored(table))
    assert len(found) == LAYERS * 4 + 4 + 3 + 2
    found = found[:: len(found) // cases(len(found))]
    for number, (behind, child, value) in enumerate(found):
        expected = naive(case, child, behind, tmp_path / str(number))
        assert value == pytest.approx(expected, rel=2e-3, abs=1e-6)


def test_where_nothing_is_above_the_layer_behind_they_are_those_of_healed_children(
    case: Case, table: ScoreTable, tmp_path: Path
) -> None:
    parent = load_parent(case.base / "parent")
    measure = Divergence(LayerRunner(parent), case.tokens(SAMPLES), SAMPLES)
    healed = HealedChildren(parent, case.library.load, text(case), measure, tmp_path)
    last = [
        (child, value)
        for behind, child, value in scored(table)
        if behind >= LAYERS - 1 and not any(a.kind == "gqa" or f.kind == "mlp" for a, f in child)
    ]
    assert len(last) == 10
    for child, value in last:
        figures = healed.figures(case.child(child).layers)
        assert value == pytest.approx(figures["kl_divergence"], abs=1e-6)


def test_a_score_does_not_depend_on_what_else_is_scored(case: Case, table: ScoreTable) -> None:
    alone = case.anew(metric="kl_divergence", samples=SAMPLES, runs=(3, 3), healed=HEALED)
    assert (alone.attention, alone.ffn) == (table.attention, table.ffn)
    assert alone.runs == tuple(r for r in table.runs if r.length == 3)
    assert case.score(metric="cosine", samples=SAMPLES, healed=HEALED).attention[0]["noop"] > 0


def test_an_interrupted_sweep_goes_on_to_the_same_bytes(case: Case, table: ScoreTable) -> None:
    case.forget()
    for after in (1, 9, 17, 28):
        case.interrupted(after)
    assert case.score("cut").canonical_json() == table.canonical_json()


def test_threads_and_files_find_the_same(
    case: Case, table: ScoreTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(3)
    assert case.anew().canonical_json() == table.canonical_json()
    torch.set_num_threads(1)
    monkeypatch.setattr(run, "room_bytes", lambda: 0)  # every stream in a file
    assert case.anew().canonical_json() == table.canonical_json()


@pytest.mark.usefixtures("paged")
def test_paged_parents_find_the_same(case: Case, table: ScoreTable) -> None:
    assert case.anew().canonical_json() == table.canonical_json()


def test_of_a_block_the_second_piece_is_fitted_to_what_the_first_feeds_it(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healed = case.anew(metric="kl_divergence", samples=SAMPLES, unit="block", healed=HEALED)
    real = walk.fit_last

    def fit_last(block: Any, *seen: Any) -> Any:
        return None if block.link.alternative.kind == "gqa" else real(block, *seen)

    monkeypatch.setattr(walk, "fit_last", fit_last)
    for layer in (0, 2, LAYERS - 1):
        child = with_one(layer, (ATTENTION[1], FFN[1]))
        expected = naive(case, child, layer + 1, tmp_path / str(layer))
        assert healed.pairs[layer]["gqa1/mlp16"] == pytest.approx(expected, rel=2e-3, abs=1e-6)


def test_there_must_be_text_to_heal_on(case: Case) -> None:
    bld = case.program.blds["b"].model_copy(update={"data": None})
    inputs = case.inputs(metric="kl_divergence", samples=SAMPLES, healed=HEALED, data="mix")
    program = inputs.program.model_copy(update={"blds": {"b": bld}})
    assert refused(run.run_score, replace(inputs, program=program)).code == "E1505"
