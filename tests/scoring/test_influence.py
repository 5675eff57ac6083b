"""Block influences and angular distances are those of the parent's streams, by whole forward passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from puzzledsl.ir.tables import BlockInfluence
from puzzledsl.models.families.access import layers
from puzzledsl.models.families.load import load_parent
from puzzledsl.scoring import fit as influence
from puzzledsl.scoring import inputs as text
from puzzledsl.scoring import sweep
from tests.pieces.train.bld_programs import make_program
from tests.scoring.cases import Case
from tests.tiles import cut
from tests.tiny import FAMILIES

SETTINGS: dict[str, Any] = {"tokens": 64, "calibration_tokens": 128}
LAYERS = 3


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    base = tmp_path_factory.mktemp("influence")
    return Case(base, make_program(base, model={"layers": LAYERS}, **SETTINGS))


def streams(case: Case, samples: int) -> list[Tensor]:
    """Streams that enter each layer of the parent and leave the last one, float64 [N, S, H]."""
    model, seen = load_parent(case.base / "parent"), []
    for layer in layers(model):
        layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].double()))
    layers(model)[-1].register_forward_hook(
        lambda *passed: seen.append((passed[2][0] if isinstance(passed[2], tuple) else passed[2]).double())
    )
    with torch.no_grad():
        model(case.tokens(samples), use_cache=False)
    assert len(seen) == LAYERS + 1
    return seen


def measured(case: Case, work: str = "score", **method: Any) -> BlockInfluence:
    """As `pzl score` leaves it."""
    found = case.score(work, **{"metric": "kl_divergence", "samples": 45, **method}).influence
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """So many positions count: here those that are scored."""

    def count(positions: int) -> None:
        monkeypatch.setattr(influence, "POSITIONS", positions)
        monkeypatch.setattr(text, "POSITIONS", positions)

    count(48)
    return count


def agrees(found: BlockInfluence, seen: Sequence[Tensor]) -> None:
    """It is what float64 streams say."""
    assert found.text == "mix" and found.positions == seen[0].shape[0] * seen[0].shape[1]
    cosine = [[F.cosine_similarity(a, b, dim=-1) for b in seen] for a in seen]
    layers = [float((1 - cosine[i][i + 1]).mean()) for i in range(LAYERS)]
    assert found.layers == pytest.approx(layers, abs=2e-6)
    for length, row in enumerate(found.runs, start=1):
        angles = [float((cosine[i][i + length].arccos() / torch.pi).mean()) for i in range(len(row))]
        assert row == pytest.approx(angles, abs=2e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_influences_are_those_of_whole_forward_passes(family: str, tmp_path: Path) -> None:
    case = Case(tmp_path, make_program(tmp_path, family, model={"layers": LAYERS}, **SETTINGS))
    agrees(measured(case), streams(case, 45))


def test_text_behind_counts_where_little_is_scored(case: Case, few: Callable[[int], None]) -> None:
    few(96)
    agrees(measured(case), streams(case, 96))
    few(10**6)  # more than there is
    agrees(measured(case), streams(case, 45))


def test_streams_in_a_file_are_those_in_memory(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    held, in_file = measured(case, work="held"), []

    class Watched(influence.Streams):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            in_file.append(self.in_file)

    monkeypatch.setattr(influence, "Streams", Watched)
    monkeypatch.setattr(sweep, "room_bytes", lambda: 0)
    assert measured(case, work="filed") == held
    assert in_file and all(in_file)
    assert not list((case.base / "filed").glob("hidden-*"))


def test_every_measure_finds_the_parents(case: Case) -> None:
    """The metric does not matter, nor what was measured before."""
    first = measured(case)
    assert measured(case, metric="lm_loss") == first
    assert measured(case, unit="block") == first


def test_the_first_positions_count(
    case: Case, few: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(monkeypatch, group_tokens=16)
    few(20)
    monkeypatch.setattr(influence, "CHUNK", 7)
    found, seen = measured(case), streams(case, 45)
    assert found.positions == 20
    before, after = (seen[i].flatten(0, 1)[:20] for i in (1, 2))
    assert found.layers[1] == pytest.approx(
        float((1 - F.cosine_similarity(before, after, dim=-1)).mean()), abs=2e-6
    )


def test_padding_does_not_count() -> None:
    masks = [torch.tensor([[True, True, False], [True, False, False]]), torch.tensor([[True, True]])]
    assert [index.tolist() for index in influence.counted(masks)] == [[0, 1, 3], [0, 1]]
