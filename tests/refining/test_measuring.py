"""Measured children: figures are those of the child healed alone, and stay on the disk."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.progress import Silent
from puzzledsl.child.definition import model_definition
from puzzledsl.ir.nodes import CpSat, Refine, ReplaceOne, ScoreTerm, Search
from puzzledsl.ir.tables import CostTable, LayerAssignment, Solution
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.refining.judges import RefineInputs
from puzzledsl.refining.run import HealedChildren, Meter
from puzzledsl.scoring.measures import Divergence
from puzzledsl.scoring.run import healing_blocks, scored
from tests.pieces.train.bld_programs import make_program
from tests.scoring.cases import Case
from tests.search.instances import HERE, alone

LAYERS, SAMPLES, HEALED = 5, 40, 200
METHOD = ReplaceOne(metric="kl_divergence", samples=16)
ATTENTION: tuple[Any, ...] = (ParentAttention(), GqaAttention(kv_heads=1), NoOpAttention())
FFN: tuple[Any, ...] = (ParentFfn(), MlpFfn(width=16), NoOpFfn())
REFINE = Refine(children=3, healed=HEALED, samples=SAMPLES, where=HERE)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    base = tmp_path_factory.mktemp("refined")
    settings: dict[str, Any] = {"tokens": 64, "calibration_tokens": 128, "model": {"layers": LAYERS}}
    case = Case(base, make_program(base, attention=ATTENTION, ffn=FFN, method=METHOD, **settings))
    search = Search(
        name="best",
        space=case.program.scores["s"].space,
        sense="minimize",
        objective=alone(ScoreTerm(score="s")),
        solver=CpSat(time_s=Fraction(60)),
        refine=REFINE,
        where=HERE,
    )
    case.program = case.program.model_copy(update={"searches": {"best": search}})
    return case


def meter(case: Case, work: Path, refine: Refine | None = REFINE) -> Meter:
    search = case.program.searches["best"].model_copy(update={"refine": refine})
    program = case.program.model_copy(update={"searches": {"best": search}})
    given = (case.base / "parent", case.base, case.library, case.jobs, work, Silent())
    costs = CostTable(space="w", params_fixed=0, params_attention=(), params_ffn=())
    return Meter(RefineInputs(program, "best", *given, costs=costs, scores={}), "s")


def child(*changes: tuple[int, str, str]) -> Solution:
    layers = [LayerAssignment(attention="parent", ffn="parent")] * LAYERS
    for index, attention, ffn in changes:
        layers[index] = LayerAssignment(attention=attention, ffn=ffn)
    return Solution(objective=0, layers=tuple(layers))


CHILDREN = (
    child((1, "noop", "noop"), (2, "noop", "noop")),
    child((0, "gqa1", "mlp16"), (3, "noop", "parent")),
)


def test_a_loss_is_that_of_the_child_healed_alone_on_the_scores_text(case: Case, tmp_path: Path) -> None:
    """On `samples` positions behind the pieces' text, healed on `healed` tokens."""
    program, model = case.program, load_parent(case.base / "parent")
    own = case.inputs()
    scored_NS = scored(own.with_method(samples=SAMPLES))[0]
    healing_NS = healing_blocks(own, HEALED)
    measured = meter(case, tmp_path)
    assert measured.samples == SAMPLES
    for solution in CHILDREN:
        measure = Divergence(LayerRunner(model), scored_NS, SAMPLES)
        healed = HealedChildren(model, case.library.load, healing_NS, measure, tmp_path)
        layers = model_definition(program, "best", solution, case.jobs).layers
        assert measured.loss(solution) == healed.figures(layers)["kl_divergence"] > 0


def test_what_was_measured_is_not_measured_again(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the parent run again."""
    losses = [meter(case, tmp_path).loss(solution) for solution in CHILDREN]
    monkeypatch.setattr(HealedChildren, "__init__", lambda *_: pytest.fail("the parent runs again"))
    again = meter(case, tmp_path)
    assert [again.loss(solution) for solution in reversed(CHILDREN)] == losses[::-1]


def test_a_search_without_refine_has_nothing_to_measure(case: Case, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="search best has nothing to refine"):
        meter(case, tmp_path, None)


@pytest.mark.parametrize("changes", [{"healed": 0}, {"samples": 24}])
def test_other_settings_other_figures(case: Case, tmp_path: Path, changes: dict[str, int]) -> None:
    """Figures of other texts, or without healing, are never mixed up."""
    other = meter(case, tmp_path, REFINE.model_copy(update=changes))
    assert other.loss(CHILDREN[0]) != meter(case, tmp_path).loss(CHILDREN[0])
