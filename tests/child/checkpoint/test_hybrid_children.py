"""Children of hybrids on disk: mixers that stay or go, attention and FFNs that shrink, one sub-block a layer or two."""

from pathlib import Path

import numpy as np
import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.child.checkpoint.contents import load_child
from tests.cases import more
from tests.child.checkpoint.test_checkpoint import LAYERS, Made, generate
from tests.children import MIXED as DENSE
from tests.children import PARENT, Choice
from tests.doubled import logits_in_float64
from tests.export.variants import G1, LA, LF, NA, NF, A, F
from tests.tiny import HYBRIDS, tiny_tokens

ATTENTIONS = (
    G1,
    GqaAttention(kv_heads=4),
    GqaAttention(kv_heads=2, window=5),
    GqaAttention(kv_heads=4, window=5, sinks=2),
)
OF_MIXERS = (LA, NA)
OF_FFNS = (LF, NF)
OF_MIXTURES = (
    MoeFfn(experts=4, top_k=2, width=16),
    MoeFfn(experts=6, top_k=1, width=8),
    MlpFfn(width=24),
    *OF_FFNS,
)
# One layer a row: family, layer (kinds of layers repeat: the first, a middle and the last of each), alternatives.
CASES = [
    *(("nemotron_h", layer, (a, F)) for layer in (0, 4, 8) for a in OF_MIXERS),
    *(("nemotron_h", layer, (a, F)) for layer in (1, 5, 9) for a in (*ATTENTIONS, *OF_MIXERS)),
    *(("nemotron_h", layer, (A, f)) for layer in (2, 6, 10) for f in (MlpFfn(width=17), *OF_FFNS)),
    *(("nemotron_h", layer, (A, f)) for layer in (3, 7, 11) for f in OF_MIXTURES),
    *(("qwen3_next", layer, (a, F)) for layer in (0, 2) for a in OF_MIXERS),
    *(("qwen3_next", layer, (a, F)) for layer in (1, 3) for a in (*ATTENTIONS, *OF_MIXERS)),
    *(("qwen3_next", layer, (A, f)) for layer in (0, 1, 3) for f in OF_MIXTURES),
    *(("qwen3_5_text", layer, (a, F)) for layer in (0, 2) for a in OF_MIXERS),
    *(("qwen3_5_text", layer, (a, F)) for layer in (1, 3) for a in (*ATTENTIONS, *OF_MIXERS)),
    *(("qwen3_5_text", layer, (A, f)) for layer in (0, 1, 3) for f in (MlpFfn(width=17), *OF_FFNS)),
]  # fmt: skip
MIDDLE = (4, 5, 6, 7)
"""Layers of nemotron_h in the middle, one of each kind, and the alternatives that `make test` puts there."""


def agrees(folder: Path, choices: list[Choice], family: str, caches: tuple[str, ...] = ("dynamic",)) -> None:
    """Transformers solves the triangular systems of the delta rule in float32, whatever the model's dtype: stock parents of
    these weights are up to 4.7e-5 away from the oracle. The same code in float64 agrees to 1e-9.
    """
    made, tokens, mamba = Made(folder, choices, family), tiny_tokens(1, 12), family == "nemotron_h"
    oracle = made.agrees(tokens, caches, within=2e-5 if mamba else 5e-5)
    if not mamba:
        atol = 1e-9 * np.abs(oracle).max()
        np.testing.assert_allclose(logits_in_float64(made.out, tokens), oracle, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("family", "layer", "choice"),
    [case if case[1] in MIDDLE else more(case)[0] for case in CASES],
    ids=[f"{f}-{i}-{a.name}-{b.name}" for f, i, (a, b) in CASES],
)
def test_each_alternative_in_first_middle_and_last_layer(
    tmp_path: Path, family: str, layer: int, choice
) -> None:
    choices = [PARENT] * LAYERS[family]
    choices[layer] = choice
    agrees(tmp_path, choices, family)


MIXED = {
    "nemotron_h": [
        (NA, F),
        (G1, F),
        (A, MlpFfn(width=17)),
        (A, NF),
        PARENT,
        (NA, F),
        (A, LF),
        (A, MoeFfn(experts=3, top_k=1, width=8)),
        (LA, F),
        (GqaAttention(kv_heads=2, window=5), F),
        (A, NF),
        (A, LF),
    ],
    "qwen3_next": [(NA, LF), (LA, NF), PARENT, (G1, MoeFfn(experts=3, top_k=1, width=8))],
    "qwen3_5_text": [(NA, LF), (LA, NF), PARENT, (G1, MlpFfn(width=17))],
}


@pytest.mark.parametrize("family", HYBRIDS)
def test_a_mixed_child(tmp_path: Path, family: str) -> None:
    """Slots of caches that removed mixers leave free, at the start and between."""
    agrees(tmp_path, MIXED[family], family, caches=("dynamic", "static"))


@pytest.mark.parametrize("family", ["llama", *HYBRIDS])
def test_padded_prompts_of_a_mixed_child(tmp_path: Path, family: str) -> None:
    """Two prompts of different lengths in one batch continue as each does by itself."""
    made, tokens = Made(tmp_path, MIXED.get(family, list(DENSE)), family), tiny_tokens(2, 10)
    mask = torch.ones_like(tokens)
    tokens[0, :4], mask[0, :4] = 3, 0
    for model in (made.with_remote_code(), load_child(made.out)):
        both = generate(model, tokens, mask)
        assert torch.equal(both[0, 10:], generate(model, tokens[:1, 4:])[0, 6:])
        assert torch.equal(both[1, 10:], generate(model, tokens[1:])[0, 10:])
