"""A mixture's down projections are one linear map or one an expert, and healing fits them."""

from pathlib import Path

import pytest
import torch

from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.base.progress import Silent
from puzzledsl.child.healing import layer
from puzzledsl.child.healing import layer as experts
from puzzledsl.child.healing.fit import RIDGE_TOKENS
from puzzledsl.child.healing.walk import heal
from puzzledsl.models.alternatives.realisation import build_alternative
from puzzledsl.models.families.access import layers, shape_of, sub_block_of
from puzzledsl.models.families.slots import weights_of
from puzzledsl.models.least_squares.grams import Gram, solve_ridge
from tests.children import Choice, define, random_pieces
from tests.export.variants import A, F
from tests.tiny import MIXTURES, SPARSE_HYBRIDS, tiny_model, tiny_tokens

FAMILIES = (*MIXTURES, *SPARSE_HYBRIDS)
SMALLER = MoeFfn(experts=4, top_k=2, width=8)


def mixture(family: str) -> torch.nn.Module:
    """The first mixture of a tiny parent: with shared experts in hybrids, with biases in gpt_oss."""
    model = tiny_model(family, layers=4)
    place = next(index for index, own in enumerate(shape_of(model.config).each) if own.ffn == "moe")
    return sub_block_of(layers(model)[place], "ffn")


def inputs(*size: int) -> torch.Tensor:
    return torch.randn(*size, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", [layer.StackedExperts, layer.ExpertByExpert])
def test_split_before_its_down_projections_a_mixture_gives_the_same_and_holds_each_experts_own(
    family: str, kind: type[layer.StackedExperts | layer.ExpertByExpert]
):
    block, x = mixture(family), inputs(2, 9)
    made, split = block(x), kind(layer.SplitMixture(block))
    found = split.down(split(x)) if isinstance(split, layer.StackedExperts) else split(x)
    assert torch.allclose(found, made[0] if isinstance(made, tuple) else made, atol=1e-5)
    fitted, own = split.fitted(), weights_of(block)
    assert set(fitted) == {name for name in own if ".down_proj." in name}
    assert all(torch.equal(weight, own[name]) for name, weight in fitted.items())
    matrices = [split.down.weight] if isinstance(split, layer.StackedExperts) else split.matrices_HP
    for matrix in matrices:
        matrix.zero_()
    assert not any(weight.any() for weight in fitted.values())
    assert all(weights_of(block)[name].any() for name in fitted), "the parent's weights stay"


@pytest.mark.parametrize("family", FAMILIES)
def test_fitted_one_after_another_experts_reach_the_fit_of_all_together(
    family: str, monkeypatch: pytest.MonkeyPatch
):
    split = layer.SplitMixture(mixture(family))
    x, weight = inputs(512), inputs(512).abs()[:, :1]
    wanted = torch.randn(512, 48, generator=torch.Generator().manual_seed(1))
    gram = Gram.zeros(sum(split.sizes), 48)
    gram.add(layer.StackedExperts(split)(x) * weight, wanted)
    last = layer.ExpertByExpert(split)
    ridge = layer.ridge_of(last, x, weight, RIDGE_TOKENS)
    mean = float(gram.xx.diagonal().mean())
    assert 0 < ridge < gram.ridge(RIDGE_TOKENS) * mean, "a token does not read all experts"
    together = solve_ridge(gram.xx, gram.xy, relative=ridge / mean).T.float()
    distances = []
    for sweeps in (1, 5, 200):
        monkeypatch.setattr(experts, "SWEEPS", sweeps)
        steps = torch.cat(layer.expert_steps(last, x, weight, wanted, ridge), 1)
        distances.append(float((steps - together).norm() / together.norm()))
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 1e-3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("most", [experts.MOST_CHANNELS, 0], ids=["together", "one by one"])
def test_healed_experts_are_nearer_to_the_parent(
    tmp_path: Path, family: str, most: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(experts, "MOST_CHANNELS", most)
    model = tiny_model(family, layers=4)
    mixed = [index for index, own in enumerate(shape_of(model.config).each) if own.ffn == "moe"]
    chosen: list[Choice] = [(A, SMALLER if index in mixed else F) for index in range(4)]
    pieces = random_pieces(model, chosen)
    texts = tiny_tokens(96, 16, seed=1), tiny_tokens(8, 16, seed=2)
    result = heal(model, define(chosen).layers, pieces, *texts, tmp_path, Silent())
    assert result.kl_after < 0.9 * result.kl_before
    module = "mixer" if family == "nemotron_h" else "mlp"
    start = f"layers.{mixed[0]}.{module}."
    names = set(weights_of(build_alternative(model, mixed[0], SMALLER)))
    fitted = {name.partition(start)[2] for name in result.weights(tmp_path) if start in name}
    assert fitted == {name for name in names if ".down_proj." in name}
