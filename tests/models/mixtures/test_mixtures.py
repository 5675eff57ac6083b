"""Smaller mixtures of experts: exact where nothing is lost, and nearer to the parent than rivals on unseen tokens."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import Qwen3MoeConfig
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

from puzzledsl.models.mixtures import smaller
from puzzledsl.models.mixtures.experts import Expert, Linear, Mixture, ModuleRules, owning_downs

HIDDEN, WIDTH, EXPERTS = 16, 12, 6


def refit_downs(made: Mixture, x_TH: Tensor, y_TH: Tensor) -> Mixture:
    """Return a mixture with down projections fitted to y."""
    fitted = owning_downs(made)
    smaller.overwrite_downs(fitted, x_TH, y_TH)
    return fitted


def block(**changes: object) -> Qwen3MoeSparseMoeBlock:
    """A mixture of transformers with random weights."""
    torch.manual_seed(0)
    sizes = {"hidden_size": HIDDEN, "moe_intermediate_size": WIDTH, "num_experts": EXPERTS}
    usual = {"num_experts_per_tok": 2, "norm_topk_prob": True}
    made = Qwen3MoeSparseMoeBlock(Qwen3MoeConfig(**{**sizes, **usual, **changes})).requires_grad_(False)
    for weight in made.parameters():
        weight.normal_(std=HIDDEN**-0.5)
    made.gate.weight.mul_(4)
    return made


def mixture(**changes: object) -> Mixture:
    made = block(**changes)
    halves = [weight.chunk(2) for weight in made.experts.gate_up_proj]
    experts = [
        Expert(Linear(gate, None), Linear(up, None), Linear(down, None))
        for (gate, up), down in zip(halves, made.experts.down_proj, strict=True)
    ]
    return Mixture(made.gate.weight, None, experts, made.gate.top_k, ModuleRules(made))


def tokens(count: int, seed: int) -> Tensor:
    """Inputs that lie around a few centres, near a subspace, as activations do."""
    generator = torch.Generator().manual_seed(7)
    centres = torch.randn(5, HIDDEN, generator=generator)
    plane = torch.randn(8, HIDDEN, generator=generator) / 3
    generator.manual_seed(seed)
    near = torch.randn(count, 8, generator=generator) @ plane
    return centres[torch.randint(5, (count,), generator=generator)] + near


SEEN, UNSEEN = tokens(2048, 1), tokens(1024, 2)


def error(other: Mixture, full: Mixture, x: Tensor = UNSEEN) -> float:
    """Normalised squared error."""
    y = full(x)
    return other.error(x, y) / float(y.square().sum())


@pytest.mark.parametrize("changes", [{}, {"norm_topk_prob": False}, {"num_experts_per_tok": 1}])
def test_a_mixture_is_transformers_own(changes):
    expected = block(**changes)(UNSEEN[None])[0]
    assert torch.allclose(mixture(**changes)(UNSEEN), expected, atol=1e-5)


def test_the_first_expert_to_go_is_the_one_that_is_missed_least():
    full = mixture()
    order = smaller.damage_order(full, SEEN, full(SEEN))
    left = list(range(EXPERTS))
    for gone in order[:-1]:
        without = {e: error(full.only([other for other in left if other != e]), full, SEEN) for e in left}
        assert gone == min(without, key=without.__getitem__)
        left.remove(gone)
    assert order[-1:] == left


def test_reap_ranks_by_weighted_norms():
    full = mixture()
    weights, numbers = full.weights(SEEN)
    norms = [
        (full.outputs(e, SEEN).norm(dim=1, keepdim=True) * weights)[numbers == e].mean()
        for e in range(EXPERTS)
    ]
    assert torch.allclose(torch.tensor(smaller.reap(full, SEEN)), torch.stack(norms), rtol=1e-5)


def test_refitted_downs_and_then_a_refitted_router_lower_the_error_on_unseen_tokens():
    full = mixture()
    fewer = full.only([0, 1, 2, 3])
    fitted = refit_downs(fewer, SEEN, full(SEEN))
    assert error(fitted, full) < 0.9 * error(fewer, full)
    assert error(smaller.refit_router(fitted, SEEN, full(SEEN)), full) < error(fitted, full)


def test_a_router_that_is_right_already_stays_and_a_step_of_it_is_undone_by_the_fit():
    full = mixture()
    assert torch.equal(smaller.refit_router(full, SEEN, full(SEEN)).router, full.router)
    step = 0.1 * torch.randn(EXPERTS, HIDDEN, generator=torch.Generator().manual_seed(3))
    moved = replace(full, router=full.router + step)
    assert error(smaller.refit_router(moved, SEEN, full(SEEN)), full) < 0.3 * error(moved, full)


def test_channels_that_do_the_same_are_eliminated_without_loss():
    full = mixture()
    doubled = [
        Expert(
            Linear(torch.cat([e.gate.weight, e.gate.weight]), None),
            Linear(torch.cat([e.up.weight, e.up.weight]), None),
            Linear(torch.cat([e.down.weight, e.down.weight], 1) / 2, None),
        )
        for e in full.experts
    ]
    assert error(smaller.narrow(replace(full, experts=doubled), SEEN, WIDTH), full) < 0.03


def test_merging_copies_of_an_expert_loses_next_to_nothing():
    full = mixture()
    order = torch.randperm(WIDTH, generator=torch.Generator().manual_seed(0))
    copies = [*full.experts, full.experts[0].channels(order)]
    router = torch.cat([full.router, full.router[:1]])
    twice = replace(full, router=router, experts=copies, top_k=3)
    groups = smaller.groups_of(twice, list(range(EXPERTS)), SEEN)
    assert groups[0] == [0, EXPERTS]
    pair = refit_downs(smaller.merge(twice, groups, SEEN, WIDTH), SEEN, twice(SEEN))
    fewer = refit_downs(twice.only(range(EXPERTS)), SEEN, twice(SEEN))
    assert error(pair, twice) < error(fewer, twice) + 0.05


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_precision_are_fitted_as_well_as_they_can_be(dtype):
    exact = mixture()
    rounded = [
        Expert(*(Linear(part.weight.to(dtype), None) for part in (expert.gate, expert.up, expert.down)))
        for expert in exact.experts
    ]
    fitted = refit_downs(replace(exact, experts=rounded).only([0, 1, 2, 3]), SEEN, exact(SEEN))
    assert {expert.down.weight.dtype for expert in fitted.experts} == {dtype}
    best = refit_downs(exact.only([0, 1, 2, 3]), SEEN, exact(SEEN))
    assert error(fitted, exact) < 1.02 * error(best, exact)
