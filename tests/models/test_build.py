"""An alternative is a drop-in for the sub-block it replaces, and `replace` leaves nothing behind."""

import pytest
import torch

from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.diagnostics import CannotRealise
from puzzledsl.models.alternatives.realisation import build_alternative
from puzzledsl.models.families.access import layers, shape_of, sub_block_of
from puzzledsl.models.families.slots import weights_of
from tests.children import ATTENTIONS, FFNS
from tests.refused import refused
from tests.replaced import replace
from tests.tiny import DENSE, FAMILIES, tiny_model, tiny_tokens

EVERY = [
    *(("attention", a) for a in (*ATTENTIONS, ParentAttention())),
    *(("ffn", f) for f in (*FFNS, ParentFfn())),
]


def filled(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return module


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_have_the_planned_names_and_shapes(family: str) -> None:
    model = tiny_model(family)
    for sub_block, alternative in EVERY:
        if family not in DENSE and not type(alternative).__module__.startswith("puzzledsl."):
            continue  # packages know no mixtures
        module = build_alternative(model, 1, alternative)
        made = {name: tuple(weight.shape) for name, weight in weights_of(module).items()}
        own = weights_of(sub_block_of(layers(model)[1], sub_block))
        parents = {name: tuple(weight.shape) for name, weight in own.items()}
        wanted = parents if alternative.kind == "parent" else alternative.stored(shape_of(model.config))
        assert made == wanted, alternative.name


@pytest.mark.parametrize(
    ("sub_block", "alternative"), EVERY, ids=lambda x: x if isinstance(x, str) else x.name
)
def test_a_replacement_is_causal_and_the_same_in_eager_and_sdpa(sub_block, alternative) -> None:
    """Changing the last token changes no earlier logits: the trap of a config that forgot its attention."""
    model, tokens, found = tiny_model(), tiny_tokens(1, 12), []
    other = tokens.clone()
    other[0, -1] += 1
    with replace(model, 1, sub_block, filled(build_alternative(model.config, 1, alternative))):
        for implementation in ("sdpa", "eager"):
            model.set_attn_implementation(implementation)
            a, b = model(tokens, use_cache=False).logits, model(other, use_cache=False).logits
            assert torch.equal(a[:, :-1], b[:, :-1])
            assert not torch.equal(a[:, -1], b[:, -1])
            found.append(a)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_built_is_a_diagnostic() -> None:
    model = tiny_model()
    assert refused(build_alternative, model, 0, MoeFfn(experts=4, top_k=2, width=8)).kind == CannotRealise
