"""Layer by layer is the whole model."""

from typing import Any

import pytest
import torch

from puzzledsl.models.families.access import layers, residual_factor
from puzzledsl.models.layerwise import LayerRunner
from tests.tiny import FAMILIES, HYBRIDS, tiny_model, tiny_tokens

CASES: list[tuple[str, dict[str, Any]]] = [
    *((family, {}) for family in FAMILIES),
    *((family, {"layers": 12 if family == "nemotron_h" else 4}) for family in HYBRIDS),
    ("mistral", {"sliding_window": 5}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
]


@torch.no_grad()
@pytest.mark.parametrize(("family", "extra"), CASES)
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_layer_by_layer_is_the_whole_model(family: str, extra: dict[str, Any], implementation: str) -> None:
    model = tiny_model(family, **extra)
    model.set_attn_implementation(implementation if model._supports_sdpa else "eager")
    runner, tokens = LayerRunner(model), tiny_tokens(2, 13)
    whole = model(tokens, output_hidden_states=True, use_cache=False)
    hidden = runner.embed(tokens)
    for layer_idx in range(len(runner)):
        assert torch.equal(hidden, whole.hidden_states[layer_idx])
        trace = runner.trace_layer(layer_idx, hidden)
        factor = residual_factor(layers(model)[layer_idx])
        torch.testing.assert_close(hidden + factor * trace.attention_added, trace.between)
        torch.testing.assert_close(trace.between + factor * trace.ffn_added, trace.output)
        assert torch.equal(runner.run_attention(layer_idx, hidden), trace.between)
        assert torch.equal(runner.run_ffn(layer_idx, trace.between), trace.output)
        assert torch.equal(runner.run_layer(layer_idx, hidden), trace.output)
        hidden = trace.output
    assert torch.equal(runner.head(runner.final_norm(hidden)), whole.logits)
    assert torch.equal(runner.passed([runner.embed(tokens)])[0], hidden)


@torch.no_grad()
def test_arguments_follow_the_shape() -> None:
    model = tiny_model("mistral", sliding_window=5)
    runner = LayerRunner(model)
    for length in (13, 7, 13):
        tokens = tiny_tokens(1, length, seed=length)
        hidden = runner.passed([runner.embed(tokens)])[0]
        assert torch.equal(runner.head(runner.final_norm(hidden)), model(tokens, use_cache=False).logits)
