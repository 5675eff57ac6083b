"""A child in memory: the parent where the definition says so, and generation that agrees with a full forward pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import DynamicCache, PreTrainedModel

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.families.block_configs import from_block_configs, to_block_configs
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import LayerDefinition, ModelDefinition
from puzzledsl.models.errors import NoSuchLayer, PieceDoesNotFit
from puzzledsl.models.families.access import layers, shape_of
from puzzledsl.models.families.load import load_parent
from tests.assembled import assemble
from tests.children import ATTENTIONS, FFNS, MIXED, PARENT, define, random_pieces
from tests.tiny import FAMILIES, save_tiny, tiny_model, tiny_tokens

NEW_TOKENS = 8


def child_of(choices, family: str = "llama", **sizes) -> PreTrainedModel:
    parent = tiny_model(family, layers=len(choices), **sizes)
    return assemble(
        tiny_model(family, layers=len(choices), **sizes), define(choices), random_pieces(parent, choices)
    )


def greedy_without_cache(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    for _ in range(NEW_TOKENS):
        following = model(tokens, use_cache=False).logits[:, -1:].argmax(-1)
        tokens = torch.cat([tokens, following], 1)
    return tokens


def generate(model: PreTrainedModel, tokens: torch.Tensor, **options) -> torch.Tensor:
    return model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=3,
        **options,
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_an_all_parent_child_is_the_parent(tmp_path: Path, family: str, tied: bool) -> None:
    directory = save_tiny(tmp_path, family, tied=tied)
    child = assemble(load_parent(directory), define([PARENT] * 3), {}.__getitem__)
    tokens = tiny_tokens()
    assert torch.equal(child(tokens).logits, load_parent(directory)(tokens).logits)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_generation_with_a_cache_is_greedy_decoding(family: str, cache: str) -> None:
    child, tokens = child_of(MIXED, family), tiny_tokens(2, 7)
    assert torch.equal(
        generate(child, tokens, cache_implementation=cache), greedy_without_cache(child, tokens)
    )


@pytest.mark.parametrize("position", [0, 1, 2], ids=["first", "middle", "last"])
@pytest.mark.parametrize("attention", ATTENTIONS, ids=lambda a: a.name)
def test_each_attention_anywhere_generates_alike(position: int, attention) -> None:
    choices = [PARENT] * 3
    choices[position] = (attention, ParentFfn())
    child, tokens = child_of(choices), tiny_tokens(2, 7)
    assert torch.equal(generate(child, tokens), greedy_without_cache(child, tokens))


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_a_child_without_any_attention_generates_alike(cache: str) -> None:
    child, tokens = (
        child_of([(NoOpAttention(), ParentFfn()), (LinearAttention(), ParentFfn())]),
        tiny_tokens(2, 7),
    )
    assert torch.equal(
        generate(child, tokens, cache_implementation=cache), greedy_without_cache(child, tokens)
    )


def test_the_cache_holds_attention_layers_only() -> None:
    child, tokens = child_of(MIXED), tiny_tokens(1, 7)
    cache = DynamicCache(config=child.config)
    child(tokens, cache=cache)
    filled = [layer.keys.shape[1] for layer in cache.layers if layer.is_initialized]
    assert filled == [1, 2]  # key/value heads of layers 1 and 3
    assert cache.get_seq_length() == 7


def test_padded_batches_generate_alike() -> None:
    """Left padding: the shorter prompt gives what it gives alone."""
    child, tokens = child_of(MIXED), tiny_tokens(1, 6)
    padded = torch.cat([torch.full((1, 3), 3), tokens], 1)
    batch = torch.cat([padded, tiny_tokens(1, 9, seed=5)])
    mask = torch.ones_like(batch)
    mask[0, :3] = 0
    together = child.generate(
        batch,
        attention_mask=mask,
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=3,
    )
    assert torch.equal(together[:1, 3:], generate(child, tokens))


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_sliding_layers_keep_their_kind_of_cache(family: str) -> None:
    """A parent that mixes full and sliding-window layers: slots are numbered within each kind."""
    sliding = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}
    choices = [(NoOpAttention(), ParentFfn()), PARENT, (LinearAttention(), NoOpFfn()), PARENT]
    child, tokens = child_of(choices, family, **sliding), tiny_tokens(2, 7)
    assert [child.config.layer_types[layers(child)[i].self_attn.layer_idx] for i in (1, 3)] == [
        "full_attention",
        "sliding_attention",
    ]
    assert torch.equal(generate(child, tokens), greedy_without_cache(child, tokens))


def test_a_coupled_piece_brings_both_halves() -> None:
    parent = tiny_model(layers=1)
    choice = (GqaAttention(kv_heads=1), MlpFfn(width=20))
    load = random_pieces(parent, [choice])
    block = {f"self_attn.{k}": v for k, v in load("attention-0").items()}
    block |= {f"mlp.{k}": v for k, v in load("ffn-0").items()}
    coupled = ModelDefinition(
        name="c",
        search="c",
        parent="p",
        layers=(LayerDefinition(attention=choice[0], ffn=choice[1], block_piece="b"),),
    )
    child = assemble(tiny_model(layers=1), coupled, {"b": block}.__getitem__)
    tokens = tiny_tokens()
    assert torch.equal(child(tokens).logits, child_of([choice])(tokens).logits)


def test_a_coupled_piece_with_the_parents_ffn_keeps_it() -> None:
    """A job whose FFN is the parent's stores its attention only."""
    choice = (GqaAttention(kv_heads=1), ParentFfn())
    load = random_pieces(tiny_model(layers=1), [choice])
    block = {f"self_attn.{k}": v for k, v in load("attention-0").items()}
    layer = LayerDefinition(attention=choice[0], ffn=choice[1], block_piece="b")
    coupled = ModelDefinition(name="c", search="c", parent="p", layers=(layer,))
    child = assemble(tiny_model(layers=1), coupled, {"b": block}.__getitem__)
    tokens = tiny_tokens()
    assert torch.equal(child(tokens).logits, child_of([choice])(tokens).logits)


def problem(choices, pieces, count: int = 1):
    with pytest.raises(DiagnosticError) as caught:
        assemble(tiny_model(layers=count), define(choices), pieces)
    return caught.value.diagnostics[0]


def test_a_definition_for_another_depth_is_a_diagnostic() -> None:
    assert isinstance(problem([PARENT] * 2, {}.__getitem__, count=3), NoSuchLayer)


@pytest.mark.parametrize(
    "weights",
    [
        {},
        {"linear.weight": torch.zeros(24, 23)},
        {"linear.weight": torch.zeros(24, 24), "odd": torch.zeros(1)},
    ],
    ids=["missing", "misshapen", "superfluous"],
)
def test_a_piece_that_does_not_fit_is_a_diagnostic(weights) -> None:
    found = problem([(LinearAttention(), ParentFfn())], lambda _: weights)
    assert isinstance(found, PieceDoesNotFit)
    assert "attention-0" in found.message


def test_a_missing_piece_is_a_diagnostic() -> None:
    layer = LayerDefinition(attention=LinearAttention(), ffn=ParentFfn())
    definition = ModelDefinition(name="c", search="c", parent="p", layers=(layer,))
    with pytest.raises(DiagnosticError) as caught:
        assemble(tiny_model(layers=1), definition, {}.__getitem__)
    assert isinstance(caught.value.diagnostics[0], PieceDoesNotFit)


def test_block_configs_say_the_same_back() -> None:
    shape = shape_of(tiny_model().config)
    choices = [(a, f) for a in (*ATTENTIONS, ParentAttention()) for f in (*FFNS, ParentFfn())]
    assert from_block_configs(to_block_configs(choices, shape), shape) == choices


def test_parent_equal_alternatives_are_read_as_the_parents() -> None:
    shape = shape_of(tiny_model().config)
    same = [(GqaAttention(kv_heads=shape.kv_heads), MlpFfn(width=shape.intermediate))]
    assert from_block_configs(to_block_configs(same, shape), shape) == [PARENT]


@pytest.mark.parametrize("hidden", [24, 576, 4096, 8192])
def test_ffn_mult_gives_the_width_to_runtimes_that_compute_it(hidden: int) -> None:
    """int(2 * ffn_mult * H / 3), rounded up to 256, as llama.cpp and vLLM do."""
    shape = Shape(
        family="llama",
        layers=1,
        hidden=hidden,
        heads=8,
        kv_heads=8,
        head_dim=8,
        intermediate=512,
        vocab=8,
        tied=True,
    )
    for width in (*range(256, 30000, 256), 1, 255, 257, 1000):
        entry = to_block_configs([(ParentAttention(), MlpFfn(width=width))], shape)[0]["ffn"]
        assert entry["intermediate_size"] == width
        if "ffn_mult" in entry:
            rounded = -(-int(2 * entry["ffn_mult"] * hidden / 3) // 256) * 256
            assert rounded == width
        else:
            assert width % 256
