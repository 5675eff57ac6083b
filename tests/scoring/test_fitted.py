"""Scores that are fitted to whole children predict children; interrupted, and with any threads, they are the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.tables import ScoreTable
from puzzledsl.scoring.fit import FEWEST
from puzzledsl.scoring.table import FiguresCache
from tests.pieces.train.bld_programs import make_program
from tests.scoring.cases import Case

ATTENTION = (ParentAttention(), GqaAttention(kv_heads=1), NoOpAttention())
FFN = (ParentFfn(), MlpFfn(width=16), LinearFfn(), NoOpFfn())
CHILD: list[tuple[Any, Any]] = [
    (NoOpAttention(), MlpFfn(width=16)),
    (ParentAttention(), NoOpFfn()),
    (GqaAttention(kv_heads=1), ParentFfn()),
]
SAMPLES = 40


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    base = tmp_path_factory.mktemp("around")
    return Case(base, make_program(base, attention=ATTENTION, ffn=FFN, tokens=64, calibration_tokens=128))


def total(table: ScoreTable, layers: list[tuple[Any, Any]]) -> float:
    """A table's prediction of a child."""
    chosen = {(i, "attention", a.name) for i, (a, _) in enumerate(layers)}
    chosen |= {(i, "ffn", f.name) for i, (_, f) in enumerate(layers)}
    chosen |= {(i, "block", f"{a.name}/{f.name}") for i, (a, f) in enumerate(layers)}
    tables = {"attention": table.attention, "ffn": table.ffn, "block": table.pairs}
    single = sum(tables[part][i].get(name, 0.0) for i, part, name in chosen if tables[part])
    return table.offset + single


def test_an_interrupted_score_goes_on(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among the replacements, and among the children."""
    method = {"metric": "kl_divergence", "samples": SAMPLES, "children": 12}
    whole = case.score("whole", **method)
    original, left = FiguresCache.add, [0]

    def add(self: FiguresCache, name: Any, figures: Any) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        original(self, name, figures)

    monkeypatch.setattr(FiguresCache, "add", add)
    for steps_left in (5, 13, 3, 2):  # of 15 replacements, then of children
        left[0] = steps_left
        with pytest.raises(KeyboardInterrupt):
            case.score("cut", **method)
    left[0] = 1000
    assert case.score("cut", **method) == whole


def test_threads_change_no_byte_of_a_fitted_score(case: Case) -> None:
    method = {"metric": "kl_divergence", "samples": 4 * SAMPLES, "children": 16}
    tables = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        tables.append(case.score(f"threads {threads}", **method).canonical_json())
    assert tables[0] == tables[1] == tables[2]


@torch.no_grad()
def test_a_fitted_score_predicts_children(case: Case) -> None:
    """Its error is told; the plain sum is further off on children that neither has seen."""
    score = {"metric": "kl_divergence", "samples": SAMPLES}
    plain, fitted = case.score(**score), case.score(**score, children=16)
    assert plain.fit is None and fitted.fit is not None
    assert fitted.fit.children >= FEWEST and fitted.fit.error_rms < 0.2
    for one, other in zip(plain.attention + plain.ffn, fitted.attention + fitted.ffn, strict=True):
        assert one.keys() == other.keys()
    children = [
        CHILD,
        [*CHILD[:2], (NoOpAttention(), LinearFfn())],
        [(GqaAttention(kv_heads=1), MlpFfn(width=16))] * 3,
        [(NoOpAttention(), MlpFfn(width=16))] * 3,
    ]
    off = {}
    for name, table in {"plain": plain, "fitted": fitted}.items():
        errors = [total(table, c) / case.figures(c, SAMPLES)["kl_divergence"] - 1 for c in children]
        off[name] = sum(e * e for e in errors)
    assert off["fitted"] < off["plain"]


def test_nothing_is_fitted_to_few_children(case: Case) -> None:
    score = {"metric": "kl_divergence", "samples": SAMPLES}
    few, none = case.score("few", **score, children=FEWEST - 1), case.score("none", **score)
    assert few.fit is None and few.model_copy(update={"inputs": none.inputs}) == none
