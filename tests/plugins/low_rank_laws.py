"""Laws of the low-rank package, run by test_low_rank.py in a process that has it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from low_rank import LowRankFfn
from low_rank_module import factors

from puzzledsl.ir.nodes import Initialisers
from puzzledsl.models.alternatives.realisation import build_alternative, initialise
from puzzledsl.models.families.access import layers, shape_of, sub_block_of
from puzzledsl.models.least_squares.grams import Gram
from puzzledsl.pieces.train.layer_trainer import walk_layers
from tests.replaced import replace
from tests.tiny import DENSE, tiny_model, tiny_tokens

HIDDEN = 24

FAMILIES = tuple(family for family in DENSE if family != "gemma3_text")
"""Families whose FFN is gated by SiLU, as this one."""


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def started(model, rank: int, tokens: list[torch.Tensor]):
    """The first layer's FFN of low rank, with its initial weights."""
    statistics = dict(walk_layers(model, tokens, layers=[0]))[0]
    alternative = LowRankFfn(rank=rank)
    state = initialise(layers(model)[0], alternative, statistics, Initialisers(), shape_of(model.config))
    module = build_alternative(model, 0, alternative)
    module.load_state_dict(state)
    return module


def calibration() -> list[torch.Tensor]:
    return [tiny_tokens(16, 32, seed=seed) for seed in range(4)]


@pytest.mark.parametrize(("family", "bias"), [*((family, False) for family in FAMILIES), ("llama", True)])
def test_at_full_rank_it_is_the_parent(family: str, bias: bool) -> None:
    model, tokens = tiny_model(family, **({"mlp_bias": True} if bias else {})), tiny_tokens()
    module, expected = started(model, HIDDEN, calibration()), model(tokens, use_cache=False).logits
    with replace(model, 0, "ffn", module):
        made = model(tokens, use_cache=False).logits
    assert torch.allclose(made, expected, atol=1e-4 * float(expected.abs().max()))


def test_more_rank_is_better_and_any_beats_the_plain_svd() -> None:
    """On tokens that the start was not fitted to, and always better than a no-op."""
    model = tiny_model()
    own, x = (
        sub_block_of(layers(model)[0], "ffn"),
        torch.randn(512, HIDDEN, generator=torch.Generator().manual_seed(5)),
    )
    x *= torch.logspace(-1, 1, HIDDEN)  # inputs of different scales, as those of real models
    target, hook = own(x), []
    handle = own.down_proj.register_forward_pre_hook(lambda _, args: hook.append(args[0]))
    own(x)
    handle.remove()
    errors, plain = [], []
    for rank in (4, 8, 16, 22):
        module = build_alternative(model, 0, LowRankFfn(rank=rank))
        for found, metric in ((errors, True), (plain, False)):
            for name, read in (("gate", x), ("up", x), ("down", hook[0])):
                gram = Gram.zeros(read.shape[1], 0)
                gram.add(read[:256] if metric else torch.eye(read.shape[1]))
                thin, wide = factors(getattr(own, f"{name}_proj").weight, gram, rank)
                getattr(module, f"{name}_in").weight.copy_(thin)
                getattr(module, f"{name}_out").weight.copy_(wide)
            missed = (module(x[256:]) - target[256:]).square().sum() / target[256:].square().sum()
            found.append(float(missed))
    assert errors == sorted(errors, reverse=True)
    assert all(ours < other for ours, other in zip(errors, plain, strict=True))
    assert errors[0] < 1


@pytest.mark.parametrize("rank", [1, 5, 9])
def test_the_factors_are_the_optimum_in_float64(rank: int) -> None:
    """Eckart-Young in the metric of the activations: no other matrix of the rank is nearer, by an independent formula."""
    rng = np.random.default_rng(rank)
    x, w = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12)), rng.normal(size=(12, 9))
    gram = Gram.zeros(12, 0)
    gram.add(torch.tensor(x, dtype=torch.float32))
    thin, wide = factors(torch.tensor(w.T), gram, rank)
    values, vectors = np.linalg.eigh(x.T @ x)
    root = vectors * np.sqrt(values) @ vectors.T
    left, scale, right = np.linalg.svd(root @ w, full_matrices=False)
    best = np.linalg.solve(root, left[:, :rank] * scale[:rank] @ right[:rank])
    made = (wide @ thin).numpy().T
    least, ours = (np.square(x @ (w - m)).sum() for m in (best, made))
    assert ours <= least * (1 + 1e-4) + 1e-6 * np.square(x @ w).sum()


def test_parameters_and_bytes_follow_from_the_weights() -> None:
    shape = shape_of(tiny_model(mlp_bias=True).config)
    alternative = LowRankFfn(rank=5)
    stored = sum(np.prod(size) for size in alternative.stored(shape).values())
    assert alternative.params(shape) == stored + shape.hidden
    halves = alternative.size(shape, 2)
    thin = 5 * (3 * shape.hidden)
    assert halves.matrices == thin + 3 * 5 * (-(-shape.intermediate // 2))
    assert halves.active == halves.matrices
