"""Children healed in memory: figures are those of each child alone, whatever was asked before; the parent loses nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.child.healing import walk
from puzzledsl.child.healing.layer import chain, child_digest, first_changed, points
from puzzledsl.ir.tables import LayerDefinition
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.refining import run
from puzzledsl.refining.run import HealedChildren
from puzzledsl.scoring.measures import Divergence
from tests.assembled import assemble
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


def layers_of(child: Sequence[Choice]) -> tuple[LayerDefinition, ...]:
    return define(child).layers


def healer(directory: Path, *, kept_bytes: int = 1 << 30) -> HealedChildren:
    parent = load_parent(directory)
    pieces = random_pieces(parent, [SMALL] * LAYERS)
    measure = Divergence(LayerRunner(parent), SCORED, SCORED.numel())
    return HealedChildren(parent, pieces, CALIBRATION, measure, directory.parent, kept_bytes=kept_bytes)


def kls(healed: HealedChildren, children: Sequence[Sequence[Choice]]) -> Mapping[str, float]:
    of_children = [layers_of(child) for child in children]
    return {child_digest(layers): healed.figures(layers)["kl_divergence"] for layers in of_children}


@torch.no_grad()
def plain_kl(directory: Path, child: Sequence[Choice]) -> float:
    parent = load_parent(directory)
    assembled = assemble(load_parent(directory), define(child), random_pieces(parent, [SMALL] * LAYERS))
    p, q = (m(SCORED, use_cache=False).logits.double().log_softmax(-1) for m in (parent, assembled))
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("family", FAMILIES[::3])
def test_a_childs_figures_do_not_depend_on_what_was_asked_before(family: str, tmp_path: Path) -> None:
    directory = save_tiny(tmp_path / "parent", family, layers=LAYERS)
    together = kls(healer(directory), CHILDREN)
    forgetful = kls(healer(directory, kept_bytes=1), CHILDREN)
    assert together == forgetful and len(together) == len(CHILDREN)
    for child in CHILDREN:
        assert kls(healer(directory), [child]) == {
            child_digest(layers_of(child)): together[child_digest(layers_of(child))]
        }


def test_the_parent_loses_nothing_and_a_child_of_no_ops_is_its_embedding(tmp_path: Path) -> None:
    directory = save_tiny(tmp_path / "parent", layers=LAYERS)
    (kl,) = kls(healer(directory), [[PARENT] * LAYERS]).values()
    assert kl == pytest.approx(0, abs=1e-6)
    empty = [DROPPED] * LAYERS
    (kl,) = kls(healer(directory), [empty]).values()
    assert kl == pytest.approx(plain_kl(directory, empty), rel=1e-4)


def test_what_dropped_layers_cost_shrinks(tmp_path: Path) -> None:
    directory = save_tiny(tmp_path / "parent", layers=LAYERS)
    dropped = [child for child in CHILDREN if SMALL not in child]
    healed = kls(healer(directory), dropped)
    for child in dropped:
        assert healed[child_digest(layers_of(child))] < plain_kl(directory, child)


@pytest.mark.parametrize("every", [1, 2])
def test_a_prefix_that_children_share_is_healed_once(
    every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "KEPT_EVERY", every)
    fitted: list[object] = []
    real = walk.fit_last
    monkeypatch.setattr(walk, "fit_last", lambda *args: (fitted.append(args[0].link), real(*args)))
    healed = healer(save_tiny(tmp_path / "parent", layers=LAYERS))
    kls(healed, CHILDREN[1:3])
    one, other = (chain(layers_of(child)) for child in CHILDREN[1:3])
    shared = next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    begun = first_changed(one, points(LAYERS))
    assert 0 < begun < shared < len(one)
    resumed = max(begun, shared - shared % every)
    assert len(fitted) == len(one) - begun + len(other) - resumed


def test_the_parent_is_not_changed(tmp_path: Path) -> None:
    directory = save_tiny(tmp_path / "parent", layers=LAYERS)
    parent = load_parent(directory)
    before = {name: weight.clone() for name, weight in parent.state_dict().items()}
    measure = Divergence(LayerRunner(parent), SCORED, SCORED.numel())
    healed = HealedChildren(parent, random_pieces(parent, [SMALL] * LAYERS), CALIBRATION, measure, tmp_path)
    kls(healed, CHILDREN)
    assert all(torch.equal(weight, before[name]) for name, weight in parent.state_dict().items())
