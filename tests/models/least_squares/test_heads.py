"""Merging key/value heads: exact where nothing is lost, and the algebra of rotary positions.

Leaving out query heads: what is free goes first, equally many of each group, and the refit makes up for the rest.
"""

from dataclasses import replace as changed

import pytest
import torch
from torch import Tensor

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.shape import Shape
from puzzledsl.models.alternatives.realisation import build_alternative
from puzzledsl.models.families.access import layers, shape_of, sub_block_of
from puzzledsl.models.families.slots import load_weights_into, weights_of
from puzzledsl.models.least_squares.grams import Gram
from puzzledsl.models.least_squares.heads import (
    Heads,
    kept_heads,
    loudest_heads,
    mean_pool,
    merge_heads,
    refit_rows,
    rows_of,
    turning_of,
)
from tests.replaced import replace
from tests.tiny import FAMILIES, tiny_model, tiny_tokens

PLAIN = Shape(
    family="llama", layers=1, hidden=10, heads=4, kv_heads=2, head_dim=6, intermediate=16, vocab=9, tied=True
)


def gram_for(model) -> torch.Tensor:
    hidden = model.config.hidden_size
    x = torch.randn(500, hidden, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = torch.cat([x, torch.ones(500, 1)], 1)
    return x.T @ x


def run_with(model, kv_heads: int, state, tokens: torch.Tensor) -> torch.Tensor:
    module = build_alternative(model, 0, GqaAttention(kv_heads=kv_heads))
    load_weights_into(module, state)
    with replace(model, 0, "attention", module):
        return model(tokens, use_cache=False).logits


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_as_many_heads_or_more_change_nothing(family: str, kv_heads: int) -> None:
    model, tokens = tiny_model(family), tiny_tokens()
    own, shape = sub_block_of(layers(model)[0], "attention"), shape_of(model.config).at(0)
    merged = merge_heads(Heads.of(weights_of(own), shape), kv_heads, gram_for(model))
    logits = run_with(model, kv_heads, merged.state_dict(weights_of(own)), tokens)
    torch.testing.assert_close(logits, model(tokens, use_cache=False).logits, rtol=1e-4, atol=1e-5)
    if kv_heads == 2:
        state = merged.state_dict(weights_of(own))
        assert all(torch.equal(value, weights_of(own)[name]) for name, value in state.items())


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_heads_that_differ_by_a_turn_merge_without_loss(family: str) -> None:
    """Key heads equal up to a complex scalar a frequency, value heads up to an invertible map, biases included."""
    model, tokens = tiny_model(family), tiny_tokens()
    own, shape = sub_block_of(layers(model)[0], "attention"), shape_of(model.config).at(0)
    dim = shape.head_dim
    turn = torch.complex(torch.randn(dim // 2), torch.randn(dim // 2)).to(torch.complex128)
    mix = torch.randn(dim, dim, dtype=torch.float64) + 2 * torch.eye(dim, dtype=torch.float64)
    with torch.no_grad():
        for name in ("weight", "bias") if shape.attention_bias else ("weight",):
            key, value = getattr(own.k_proj, name), getattr(own.v_proj, name)
            first = key[:dim].double()
            turned = torch.complex(first[: dim // 2], first[dim // 2 :])
            turned = turned * (turn if name == "bias" else turn[:, None])
            key[dim:] = torch.cat([turned.real, turned.imag]).float()
            value[dim:] = (mix @ value[:dim].double()).float()
    merged = merge_heads(Heads.of(weights_of(own), shape), 1, gram_for(model))
    expected = model(tokens, use_cache=False).logits
    logits = run_with(model, 1, merged.state_dict(weights_of(own)), tokens)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)
    pool = mean_pool(Heads.of(weights_of(own), shape), 1).state_dict(weights_of(own))
    pooled = run_with(model, 1, pool, tokens)
    assert (pooled - expected).abs().max() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_heads_pool_without_loss(family: str) -> None:
    """Heads that mean pooling merges exactly; merging must be no worse, whatever is normalised."""
    model, tokens = tiny_model(family), tiny_tokens()
    own, shape = sub_block_of(layers(model)[0], "attention"), shape_of(model.config).at(0)
    with torch.no_grad():
        for name, weight in weights_of(own).items():
            if name.startswith(("k_proj.", "v_proj.")):
                weight[shape.head_dim :] = weight[: shape.head_dim]
        if shape.qk_norm_whole:
            own.k_norm.weight[shape.head_dim :] = own.k_norm.weight[: shape.head_dim]
    expected = model(tokens, use_cache=False).logits
    heads = Heads.of(weights_of(own), shape, turning_of(model.config, shape))
    for small in (mean_pool(heads, 1), merge_heads(heads, 1, gram_for(model))):
        logits = run_with(model, 1, small.state_dict(weights_of(own)), tokens)
        torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)


def test_unused_heads_do_no_harm() -> None:
    """A dead key/value head (all zero) merges into finite weights."""
    model = tiny_model()
    own, shape = sub_block_of(layers(model)[0], "attention"), shape_of(model.config).at(0)
    with torch.no_grad():
        for linear in (own.k_proj, own.v_proj):
            linear.weight.zero_()
    merged = merge_heads(Heads.of(weights_of(own), shape), 1, gram_for(model)).state_dict(weights_of(own))
    assert all(torch.isfinite(value).all() for value in merged.values())


def random_heads(seed: int = 0) -> Heads:
    """4 query heads on 2 key/value heads of 6 channels, for inputs of 10 features and a column of ones."""
    make = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(n, 6, 11, generator=make, dtype=torch.float64) for n in (4, 2, 2))
    return Heads(q, k, v, torch.randn(4, 6, 10, generator=make, dtype=torch.float64), turning=0)


def test_without_positions_keys_that_differ_by_any_map_merge_without_loss() -> None:
    heads, x = random_heads(), torch.randn(300, 11, dtype=torch.float64)
    mix = torch.randn(6, 6, dtype=torch.float64) + 2 * torch.eye(6, dtype=torch.float64)
    heads.k[1] = mix @ heads.k[0]
    merged = merge_heads(heads, 1, x.T @ x)
    for query in range(4):
        before = x @ heads.q[query].T @ heads.k[query // 2] @ x.T
        after = x @ merged.q[query].T @ merged.k[0] @ x.T
        torch.testing.assert_close(after, before)
    turned = merge_heads(changed(heads, turning=6), 1, x.T @ x)  # what a turn a frequency cannot do
    assert (x @ turned.q[3].T @ turned.k[0] @ x.T - before).abs().max() > 1


def test_an_output_gate_stays_with_its_head() -> None:
    """q_proj has each head's gate behind its queries; merging keys changes the queries alone."""
    rows = {"q_proj": 4 * 2 * 6, "k_proj": 2 * 6, "v_proj": 2 * 6}
    own = {f"{name}.weight": torch.randn(number, 10) for name, number in rows.items()}
    own["o_proj.weight"] = torch.randn(10, 4 * 6)
    heads = Heads.of(own, PLAIN.model_copy(update={"output_gate": True}))
    assert all(torch.equal(value, own[name]) for name, value in heads.state_dict(own).items())
    x = torch.randn(300, 11, dtype=torch.float64)
    before = own["q_proj.weight"].view(4, 12, 10)
    after = merge_heads(heads, 1, x.T @ x).state_dict(own)["q_proj.weight"].view(4, 12, 10)
    assert torch.equal(after[:, 6:], before[:, 6:]) and not torch.allclose(after[:, :6], before[:, :6])


HEADS, DIM, HIDDEN = 6, 4, 10


def made(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8000, HEADS * DIM, generator=generator, dtype=torch.float64)
    return x, torch.randn(HEADS * DIM, HIDDEN, generator=generator, dtype=torch.float64)


def sums(x: Tensor, y: Tensor) -> Gram:
    gram = Gram.zeros(x.shape[1], y.shape[1])
    gram.add(x, y)
    return gram


@pytest.mark.parametrize("choose", [kept_heads, loudest_heads])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_equally_many_stay_of_each_group(choose, groups: int) -> None:
    x, weight = made()
    kept = choose(x.T @ x, weight, HEADS, groups, groups)
    assert [head // (HEADS // groups) for head in kept] == list(range(groups))
    assert choose(x.T @ x, weight, HEADS, groups, HEADS) == list(range(HEADS))


@pytest.mark.parametrize("choose", [kept_heads, loudest_heads])
def test_heads_without_effect_go_first(choose) -> None:
    x, weight = made()
    weight[rows_of([1, 4], DIM)] = 0
    assert choose(x.T @ x, weight, HEADS, 2, 4) == [0, 2, 3, 5]


def test_greedy_is_the_best_single_removal() -> None:
    for seed in range(5):
        x, weight = made(seed)
        gram = sums(x, x @ weight)
        found = kept_heads(gram.xx, weight, HEADS, 1, HEADS - 1)

        def loss(head: int, gram: Gram = gram, x: Tensor = x, weight: Tensor = weight) -> float:
            kept = x[:, rows_of([h for h in range(HEADS) if h != head], DIM)]
            return float((kept @ torch.linalg.lstsq(kept, x @ weight).solution - x @ weight).square().sum())

        losses = [loss(head) for head in range(HEADS)]
        (gone,) = set(range(HEADS)) - set(found)
        assert losses[gone] < 1.1 * min(losses)


def test_a_head_that_others_can_replace_goes_without_loss() -> None:
    """Head 2 is the sum of heads 0 and 1: loud, and superfluous."""
    x, weight = made()
    x[:, rows_of([2], DIM)] = x[:, rows_of([0], DIM)] + x[:, rows_of([1], DIM)]
    gram, y = sums(x, x @ weight), x @ weight
    kept = kept_heads(gram.xx, weight, HEADS, 2, 4)
    assert len({0, 1, 2} & set(kept)) == 2
    one = sorted({*kept} | {3, 4, 5})
    rows = rows_of(one, DIM)
    fitted = refit_rows(gram, weight, rows)
    lost = (x[:, rows] @ fitted - y).square().sum() / y.square().sum()
    cut = (x[:, rows] @ weight[rows] - y).square().sum() / y.square().sum()
    assert lost < 0.05 * cut
