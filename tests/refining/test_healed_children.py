"""Children healed in memory: figures are those of each child alone, whatever was asked before; the parent loses nothing."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.child.healing import walk
from puzzledsl.child.healing.layer import chain, first_changed, points
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.refining import run
from puzzledsl.refining.run import HealedChildren
from puzzledsl.scoring.measures import Divergence
from tests.assembled import assemble
from tests.cases import more
from tests.children import PARENT, Choice, define, random_pieces
from tests.tiny import FAMILIES, save_tiny, tiny_tokens

LAYERS = 5
CALIBRATION, SCORED = tiny_tokens(40, 16, seed=1), tiny_tokens(4, 16, seed=2)
DROPPED: Choice = (NoOpAttention(), NoOpFfn())
SMALL: Choice = (GqaAttention(kv_heads=1), MlpFfn(width=17))
CHILDREN: list[list[Choice]] = [
    [PARENT, DROPPED, PARENT, PARENT, PARENT],
    [PARENT, DROPPED, DROPPED, PARENT, PARENT],
    [PARENT, DROPPED, DROPPED, PARENT, SMALL],
    [DROPPED, PARENT, PARENT, SMALL, PARENT],
    [PARENT, (ParentAttention(), NoOpFfn()), PARENT, PARENT, DROPPED],
]


@pytest.fixture
def parent(tmp_path: Path) -> PreTrainedModel:
    return load_parent(save_tiny(tmp_path / "parent", layers=LAYERS))


def healer(parent: PreTrainedModel, folder: Path, *, kept_bytes: int = 1 << 30) -> HealedChildren:
    pieces = random_pieces(parent, [SMALL] * LAYERS)
    measure = Divergence(LayerRunner(parent), SCORED, SCORED.numel())
    return HealedChildren(parent, pieces, CALIBRATION, measure, folder, kept_bytes=kept_bytes)


def kls(healed: HealedChildren, children: Sequence[Sequence[Choice]]) -> list[float]:
    return [healed.figures(define(child).layers)["kl_divergence"] for child in children]


@torch.no_grad()
def plain_kl(parent: PreTrainedModel, folder: Path, child: Sequence[Choice]) -> float:
    """KL of the child without healing."""
    pieces = random_pieces(parent, [SMALL] * LAYERS)
    assembled = assemble(load_parent(folder / "parent"), define(child), pieces)
    p, q = (m(SCORED, use_cache=False).logits.double().log_softmax(-1) for m in (parent, assembled))
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("family", ["llama", *more(*FAMILIES[3::3])])
def test_a_childs_figures_do_not_depend_on_what_was_asked_before(family: str, tmp_path: Path) -> None:
    """Nor is the parent changed."""
    parent = load_parent(save_tiny(tmp_path / "parent", family, layers=LAYERS))
    before = {name: weight.clone() for name, weight in parent.state_dict().items()}
    together = kls(healer(parent, tmp_path), CHILDREN)
    assert together == kls(healer(parent, tmp_path, kept_bytes=1), CHILDREN)
    assert together == [kls(healer(parent, tmp_path), [child])[0] for child in CHILDREN]
    assert all(torch.equal(weight, before[name]) for name, weight in parent.state_dict().items())


def test_the_parent_loses_nothing_and_a_child_of_no_ops_is_its_embedding(
    parent: PreTrainedModel, tmp_path: Path
) -> None:
    empty = [DROPPED] * LAYERS
    whole, nothing = kls(healer(parent, tmp_path), [[PARENT] * LAYERS, empty])
    assert whole == pytest.approx(0, abs=1e-6)
    assert nothing == pytest.approx(plain_kl(parent, tmp_path, empty), rel=1e-4)


@pytest.mark.parametrize("every", [1, 2])
def test_a_prefix_that_children_share_is_healed_once(
    every: int, parent: PreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "KEPT_EVERY", every)
    fitted: list[object] = []
    real = walk.fit_last
    monkeypatch.setattr(walk, "fit_last", lambda *args: (fitted.append(args[0].link), real(*args)))
    kls(healer(parent, tmp_path), CHILDREN[1:3])
    one, other = (chain(define(child).layers) for child in CHILDREN[1:3])
    shared = next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    begun = first_changed(one, points(LAYERS))
    assert 0 < begun < shared < len(one)
    resumed = max(begun, shared - shared % every)
    assert len(fitted) == len(one) - begun + len(other) - resumed
