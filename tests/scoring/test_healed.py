"""Scores after healing are the losses of children that are healed up to the layer behind what is replaced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress, Silent
from puzzledsl.child.healing import walk
from puzzledsl.child.healing.run import healing_text
from puzzledsl.child.healing.walk import JUDGING_PART, heal
from puzzledsl.ir.nodes import ReplaceOne
from puzzledsl.ir.tables import LayerDefinition, ScoreTable
from puzzledsl.models.families.access import family_of
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.placement import paged_parent
from puzzledsl.refining.run import HealedChildren
from puzzledsl.scoring import run
from puzzledsl.scoring import run as subject
from puzzledsl.scoring.measures import Divergence
from puzzledsl.scoring.replacements import Replacement
from puzzledsl.scoring.run import ScoreInputs
from puzzledsl.scoring.sweep import HealedReplacement, needed_from
from tests.assembled import assemble
from tests.cases import cases
from tests.pieces.train.bld_programs import make_program
from tests.scoring.cases import Case
from tests.scoring.test_replace_one import Interrupting, figures_of, forget
from tests.tiny import tiny_tokenizer

LAYERS, SAMPLES, HEALED = 5, 40, 200
METHOD = ReplaceOne(metric="kl_divergence", samples=SAMPLES, runs=(2, 4), healed=HEALED)
ATTENTION: tuple[Any, ...] = (ParentAttention(), GqaAttention(kv_heads=1), NoOpAttention())
FFN: tuple[Any, ...] = (ParentFfn(), MlpFfn(width=16), NoOpFfn())
PARENT: tuple[Any, Any] = (ParentAttention(), ParentFfn())
DROPPED: tuple[Any, Any] = (NoOpAttention(), NoOpFfn())
Child = Sequence[tuple[Any, Any]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    base = tmp_path_factory.mktemp("healed")
    settings: dict[str, Any] = {"tokens": 64, "calibration_tokens": 128, "model": {"layers": LAYERS}}
    return Case(base, make_program(base, attention=ATTENTION, ffn=FFN, method=METHOD, **settings))


@pytest.fixture(scope="module")
def table(case: Case) -> ScoreTable:
    torch.set_num_threads(1)
    return case.score()


def text(case: Case) -> torch.Tensor:
    """The blocks that scores heal on."""
    bld = case.program.blds["b"].model_copy(update={"heal_tokens": HEALED})
    found = healing_text(
        case.program, bld, case.base, tiny_tokenizer(), case.base / "build" / "cache" / "tokens"
    )
    assert found is not None and len(found[0]) == -(-HEALED // 16)
    return found[0]


def scored(table: ScoreTable) -> Iterator[tuple[int, Child, float]]:
    """The layer behind each replacement or run, the child with it, and its score."""
    for layer in range(LAYERS):
        for alternative in ATTENTION[1:]:
            child = [(alternative, PARENT[1]) if i == layer else PARENT for i in range(LAYERS)]
            name = "noop" if alternative.kind == "noop" else "gqa1"
            yield layer + 1, child, table.attention[layer][name]
        for alternative in FFN[1:]:
            child = [(PARENT[0], alternative) if i == layer else PARENT for i in range(LAYERS)]
            name = "noop" if alternative.kind == "noop" else "mlp16"
            yield layer + 1, child, table.ffn[layer][name]
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
    model = assemble(load_parent(case.base / "parent"), definition, case.library.load)
    model.load_state_dict(weights, strict=False)
    tokens = case.tokens(SAMPLES)
    p, q = (
        m(tokens, use_cache=False).logits.double().log_softmax(-1).flatten(0, 1)[:SAMPLES]
        for m in (parent, model)
    )
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.drawn
def test_scores_are_of_children_healed_up_to_the_layer_behind(
    case: Case, table: ScoreTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = walk.fit_last  # a piece between the points it was made for stays as it is
    monkeypatch.setattr(
        walk, "fit_last", lambda block, *seen: None if block.link.piece else real(block, *seen)
    )
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


def test_healing_lowers_what_dropped_layers_cost(case: Case, table: ScoreTable) -> None:
    plain = case.score(metric="kl_divergence", samples=SAMPLES, runs=(2, 4))
    assert sum(r.value for r in table.runs) < 0.9 * sum(r.value for r in plain.runs)
    assert {r.value for r in table.runs}.isdisjoint(r.value for r in plain.runs)


def test_scores_without_healing_are_as_before_and_keep_their_figures(case: Case) -> None:
    forget(case)
    plain = case.score(metric="kl_divergence", samples=SAMPLES)
    (kept,) = figures_of(case)
    before = kept.read_bytes()
    healed = case.score(metric="kl_divergence", samples=SAMPLES, healed=HEALED)
    assert case.score(metric="kl_divergence", samples=SAMPLES) == plain and kept.read_bytes() == before
    assert "healing_tokens" not in plain.inputs and healed.inputs["healing_tokens"]
    assert len(figures_of(case)) == 2
    more = case.score(metric="kl_divergence", samples=SAMPLES, healed=HEALED + 32)
    assert more.inputs["figures"] != healed.inputs["figures"] and more.attention != healed.attention


def test_a_score_does_not_depend_on_what_else_is_scored(case: Case, table: ScoreTable) -> None:
    forget(case)
    alone = case.score(metric="kl_divergence", samples=SAMPLES, runs=(3, 3), healed=HEALED)
    assert (alone.attention, alone.ffn) == (table.attention, table.ffn)
    assert alone.runs == tuple(r for r in table.runs if r.length == 3)
    assert case.score(metric="cosine", samples=SAMPLES, healed=HEALED).attention[0]["noop"] > 0


def test_an_interrupted_sweep_goes_on_to_the_same_bytes(case: Case, table: ScoreTable) -> None:
    forget(case)
    given = case.program, "s", case.base / "parent", case.base, case.library, case.jobs, case.base / "cut"
    for after in (1, 9, 17, 28):
        with pytest.raises(KeyboardInterrupt):
            run.run_score(ScoreInputs(*given, Interrupting(after)))
    assert run.run_score(ScoreInputs(*given, Silent())).canonical_json() == table.canonical_json()


def test_threads_files_and_paged_parents_find_the_same(
    case: Case, table: ScoreTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for threads in (2, 3):
        forget(case)
        torch.set_num_threads(threads)
        assert case.score().canonical_json() == table.canonical_json()
    torch.set_num_threads(1)
    forget(case)
    monkeypatch.setattr(subject, "room_bytes", lambda: 0)  # every stream in a file
    assert case.score().canonical_json() == table.canonical_json()
    forget(case)

    def paged(parent_dir: Path, progress: Progress, **given: object) -> PreTrainedModel:
        return paged_parent(parent_dir, room_bytes=0, keep_head=True)[0]

    monkeypatch.setattr(subject, "reachable_parent", paged)
    assert case.score().canonical_json() == table.canonical_json()


def test_of_a_block_the_second_piece_is_fitted_to_what_the_first_feeds_it(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(case)
    healed = case.score(metric="kl_divergence", samples=SAMPLES, unit="block", healed=HEALED)
    real = walk.fit_last
    monkeypatch.setattr(
        walk,
        "fit_last",
        lambda block, *seen: None if block.link.alternative.kind == "gqa" else real(block, *seen),
    )
    for layer in range(LAYERS):
        child = [(ATTENTION[1], FFN[1]) if i == layer else PARENT for i in range(LAYERS)]
        expected = naive(case, child, layer + 1, tmp_path / str(layer))
        assert healed.pairs[layer]["gqa1/mlp16"] == pytest.approx(expected, rel=2e-3, abs=1e-6)


def test_there_must_be_text_to_heal_on(case: Case) -> None:
    bld = case.program.blds["b"].model_copy(update={"data": None})
    program = case.program.model_copy(update={"blds": {"b": bld}})
    method = METHOD.model_copy(update={"data": "mix"})
    score = program.scores["s"].model_copy(update={"method": method})
    program = program.model_copy(update={"scores": {"s": score}})
    given = program, "s", case.base / "parent", case.base, case.library, case.jobs, case.base / "none"
    with pytest.raises(DiagnosticError) as error:
        run.run_score(ScoreInputs(*given, Silent()))
    assert [d.code for d in error.value.diagnostics] == ["E1505"]


@pytest.mark.parametrize("kind", ["two sub-blocks a layer", "one sub-block a layer"])
def test_the_parent_s_stream_is_kept_from_the_sub_block_in_front(kind: str) -> None:
    """Dropping a layer changes the goal of the sub-block before it, wherever that stands."""
    layers = 6
    without: frozenset[tuple[int, SubBlock]] = frozenset()
    if kind.startswith("one"):
        without = frozenset((layer, "ffn" if layer % 2 else "attention") for layer in range(layers))
    for layer in range(layers):
        starts = set()
        dropped: dict[SubBlock, LayerDefinition] = {
            "attention": LayerDefinition(attention=NoOpAttention(), ffn=ParentFfn()),
            "ffn": LayerDefinition(attention=ParentAttention(), ffn=NoOpFfn()),
        }
        for sub_block, definition in dropped.items():
            if (layer, sub_block) not in without:
                one = Replacement(layer, sub_block, "noop", definition)
                starts.add(HealedReplacement.of(one, layers, without).start)
        first = needed_from(layer, layers, without)
        assert min(starts) == first if layer else min(starts) >= first == 0
