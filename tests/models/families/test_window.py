"""Attention with a window: whatever the cache lets go of, the answer is that of the whole sequence under the mask."""

import pytest
import torch
from transformers import DynamicCache, PreTrainedModel

from puzzledsl.models.families.access import layers, sub_block_of
from puzzledsl.models.families.window import LimitWindow, WindowCache
from tests.cases import more
from tests.tiny import tiny_model, tiny_tokens

WINDOWS = [(1, 0), (2, 1), (5, 0), (5, 2), (6, 5)]
GREEDY = {"max_new_tokens": 14, "do_sample": False, "eos_token_id": None, "pad_token_id": 3}
windowed = pytest.mark.parametrize(("window", "sinks"), WINDOWS)


def model_with(window: int, sinks: int, first: int = 0, **config: object) -> PreTrainedModel:
    """A tiny model whose layers from `first` on have a window."""
    model = tiny_model(**config)  # type: ignore[arg-type]
    for layer in layers(model)[first:]:
        sub_block_of(layer, "attention").register_forward_pre_hook(
            LimitWindow(window, sinks), with_kwargs=True
        )
    return model


def in_pieces(model: PreTrainedModel, tokens: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """Logits [B, S, V] of tokens that come a few at a time."""
    cache = DynamicCache(config=model.config)
    return torch.cat([model(part, cache=cache).logits for part in tokens.split(sizes, 1)], 1)


@windowed
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    "sizes", [[3, 5, 1, 7, 4], *more([1] * 20, [9, *[1] * 11])], ids=["chunks", "one", "prompt"]
)
def test_a_cache_that_lets_go_answers_as_the_whole(
    window: int, sinks: int, first: int, sizes: list[int]
) -> None:
    model, tokens = model_with(window, sinks, first), tiny_tokens(2, 20)
    assert torch.allclose(in_pieces(model, tokens, sizes), model(tokens).logits, atol=1e-4)


@windowed
def test_it_keeps_no_more_than_a_query_will_see(window: int, sinks: int) -> None:
    model, cache = model_with(window, sinks, first=1), DynamicCache()
    for _ in range(9):
        model(tiny_tokens(1, 2), cache=cache)
    assert [part.keys.shape[-2] for part in cache.layers] == [18, window - 1, window - 1]
    assert [part.get_seq_length() for part in cache.layers] == [18] * 3


@windowed
@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("padding", [4, *more(1, 8)])
def test_a_padded_sequence_has_its_own_first_tokens(
    window: int, sinks: int, cache: str, padding: int
) -> None:
    model, tokens = model_with(window, sinks), tiny_tokens(1, 9 - padding)
    batch = torch.cat([torch.cat([torch.full((1, padding), 3), tokens], 1), tiny_tokens(1, 9, seed=5)])
    mask = torch.ones_like(batch)
    mask[0, :padding] = 0
    both = model.generate(batch, attention_mask=mask, cache_implementation=cache, **GREEDY)
    alone = model.generate(tokens, attention_mask=torch.ones_like(tokens), **GREEDY)
    assert torch.equal(both[:1, padding:], alone)


def test_beams_take_their_caches_along() -> None:
    model, tokens = model_with(5, 2), tiny_tokens(2, 7)
    mask = torch.ones_like(tokens)
    mask[0, :2] = 0

    found = [
        model.generate(tokens, attention_mask=mask, num_beams=3, cache_implementation=cache, **GREEDY)
        for cache in ("dynamic", "static")
    ]
    assert torch.equal(*found)


def test_tokens_that_are_gone_cannot_be_cropped_to() -> None:
    cache = WindowCache(window=6, sinks=2)
    states = torch.randn(1, 1, 5, 4)
    cache.update(states, states)
    cache.crop(-2)
    assert cache.get_seq_length() == 3 and torch.equal(cache.keys, states[:, :, :3])
    cache.update(states, states)
    with pytest.raises(RuntimeError, match="cannot be cropped"):
        cache.crop(-1)
    cache.reset()
    assert cache.get_seq_length() == 0
