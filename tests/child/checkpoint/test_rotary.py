"""Children of parents with scaled rotary embeddings: the float64 oracle, and generation past the old context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from puzzledsl.child.checkpoint.contents import load_child
from tests.cases import more
from tests.child.checkpoint.test_checkpoint import Made, generate, greedy
from tests.children import MIXED, PARENT
from tests.export.variants import LLAMA3
from tests.oracle_forward import oracle_logits
from tests.tiny import tiny_tokens

CONTEXT = 8
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.25],
    "long_factor": [1.5, 4.0],
    "partial_rotary_factor": 0.5,
}
PHI: dict[str, Any] = {"hidden": 32, "rope_parameters": LONGROPE, "original_max_position_embeddings": CONTEXT}
"""Phi-4-mini in small: sequences beyond the old context have other frequencies, and half of a head turns."""
ROPES: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 5e3, "factor": 2.0}}),
    "llama3": ("llama", {"rope_parameters": LLAMA3}),
    "longrope": ("phi3", PHI),
}


@pytest.mark.parametrize("length", [CONTEXT + 1, *more(6, CONTEXT, 14)])
@pytest.mark.parametrize("name", ROPES)
def test_the_oracle_agrees(tmp_path: Path, name: str, length: int) -> None:
    family, sizes = ROPES[name]
    made, tokens = Made(tmp_path, MIXED, family, **sizes), tiny_tokens(1, length)
    expected = made.child(tokens).logits
    assert torch.equal(load_child(made.out)(tokens).logits, expected)
    assert torch.equal(made.with_remote_code()(tokens).logits, expected)
    oracle = oracle_logits(made.out, tokens[0].tolist())
    np.testing.assert_allclose(expected[0].numpy(), oracle, rtol=0, atol=2e-5 * np.abs(oracle).max())


def test_the_factors_matter(tmp_path: Path) -> None:
    """The same tokens, a token more, and other logits: the oracle is not blind to what is asked of it."""
    made, tokens = Made(tmp_path, [PARENT] * 2, "phi3", **PHI), tiny_tokens(1, CONTEXT + 1)
    short = made.child(tokens[:, :CONTEXT]).logits
    assert not torch.allclose(made.child(tokens).logits[:, :CONTEXT], short, atol=1e-3)


@pytest.mark.parametrize("length", [5, *more(CONTEXT, 10)])
@pytest.mark.parametrize("choices", [[PARENT] * 4, MIXED], ids=["parent", "mixed"])
def test_generation_goes_past_the_old_context(tmp_path: Path, choices, length: int) -> None:
    """The cache is made anew where the frequencies change, as in stock transformers."""
    made, tokens = Made(tmp_path, choices, "phi3", **PHI), tiny_tokens(1, length)
    expected = greedy(made.child, tokens)
    assert torch.equal(generate(made.with_remote_code(), tokens), expected)
    if choices is not MIXED:
        stock = AutoModelForCausalLM.from_pretrained(made.parent, dtype=torch.float32).eval()
        assert torch.equal(generate(stock, tokens), expected)
