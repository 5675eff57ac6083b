"""The child in which nothing was changed is stock transformers, to the bit, in every way transformers runs a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.models.families.access import layers
from puzzledsl.models.families.load import load_parent
from tests.assembled import assemble
from tests.children import MIXED, PARENT, define, random_pieces
from tests.export.variants import LLAMA3
from tests.tiny import FAMILIES, save_tiny, tiny_tokens

CASES = {family: (family, {}) for family in FAMILIES} | {
    "smollm2": ("llama", {"tied": True, "heads": 3, "kv_heads": 1}),
    "llama3_rope": ("llama", {"rope_parameters": LLAMA3}),
    "mistral_window": ("mistral", {"sliding_window": 5}),
    "qwen2_windows": ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
}


@pytest.fixture(scope="module", params=list(CASES))
def parent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family, sizes = CASES[request.param]
    return save_tiny(tmp_path_factory.mktemp(request.param), family, **sizes)


def stock(directory: Path, **options) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, **options).eval()


def generate(model: PreTrainedModel, tokens: torch.Tensor, mask: torch.Tensor, **options) -> torch.Tensor:
    return model.generate(
        tokens,
        attention_mask=mask,
        max_new_tokens=8,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=3,
        **options,
    )


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_logits(parent: Path, implementation: str) -> None:
    child = assemble(load_parent(parent), define([PARENT] * 3), {}.__getitem__)
    implementation = implementation if child._supports_sdpa else "eager"
    child.set_attn_implementation(implementation)
    tokens = tiny_tokens(2, 12)
    expected = stock(parent, attn_implementation=implementation)
    with torch.no_grad():
        assert torch.equal(child(tokens).logits, expected(tokens).logits)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_generation_of_a_padded_batch(parent: Path, cache: str) -> None:
    child, expected = assemble(load_parent(parent), define([PARENT] * 3), {}.__getitem__), stock(parent)
    batch = tiny_tokens(2, 9)
    mask = torch.ones_like(batch)
    mask[0, :4], batch[0, :4] = 0, 3
    options = {"cache_implementation": cache}
    assert torch.equal(generate(child, batch, mask, **options), generate(expected, batch, mask, **options))


def test_what_is_loaded_is_what_transformers_loads(parent: Path) -> None:
    """Every weight and buffer, and the settings of generation."""
    ours, theirs = load_parent(parent), stock(parent)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight), name
    for (name, a), (_, b) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b), name
    assert ours.generation_config.to_dict() == theirs.generation_config.to_dict()
    tied = ours.get_output_embeddings().weight is ours.get_input_embeddings().weight
    assert tied == ours.config.tie_word_embeddings


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_gives_the_same_gradients(tmp_path: Path, family: str) -> None:
    from puzzledsl.child.checkpoint.write import realise

    directory = save_tiny(tmp_path / "parent", family, layers=4)
    realise(define(MIXED), directory, random_pieces(load_parent(directory), MIXED), tmp_path / "child")
    tokens, gradients = tiny_tokens(2, 12), []
    for checkpointing in (False, True):
        child = load_child(tmp_path / "child").requires_grad_(True).train()
        if checkpointing:
            enable = getattr(child, "activation_checkpointing_enable", None)  # the name since 5.2x
            enable() if enable is not None else child.gradient_checkpointing_enable()
        runs: list[int] = []
        layers(child)[2].mlp.register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        child(tokens, labels=tokens, use_cache=False).loss.backward()
        assert len(runs) == 1 + checkpointing  # what is not kept is computed again
        gradients.append({name: weight.grad for name, weight in child.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert gradient is not None and torch.equal(gradient, gradients[1][name]), name
