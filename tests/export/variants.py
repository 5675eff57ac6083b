"""Tiny children that together hold every alternative in every place, and what the oracle says about each."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.ir.tables import PARENT_ENDS, EndsAssignment
from puzzledsl.models.families.load import load_parent
from tests.children import Choice, define, random_pieces
from tests.oracle_forward import oracle_logits
from tests.tiny import save_tiny

STEPS = 32
TOLERANCE = 2e-5
PROMPTS = [[(5 + 13 * seed + 29 * i * i) % 256 + 4 for i in range(9)] for seed in range(20)]
CLEAR = 1e-3
"""Of two logits, the larger must be so much larger in each step of the oracle: no engine's rounding may decide."""

A, F = ParentAttention(), ParentFfn()
G1, LA, NA = GqaAttention(kv_heads=1), LinearAttention(), NoOpAttention()
M, LF, NF = MlpFfn(width=20), LinearFfn(), NoOpFfn()
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """A child: its layers, and its parent's family and sizes."""

    layers: tuple[Choice, ...]
    family: str = "llama"
    sizes: dict[str, Any] = field(default_factory=dict)
    ends: EndsAssignment = PARENT_ENDS


def alternatives_in_each_place() -> dict[str, Variant]:
    """Each alternative alone in the first, the middle and the last of three layers."""
    found = {}
    words = ("gqa", "linear_attention", "noop_attention", "mlp", "linear_ffn", "noop_ffn")
    for name, choice in zip(words, ONES, strict=True):
        for index, place in enumerate(("first", "middle", "last")):
            layers: list[Choice] = [(A, F)] * 3
            layers[index] = choice
            found[f"{name}_{place}"] = Variant(tuple(layers))
    return found


ONES: tuple[Choice, ...] = ((G1, F), (LA, F), (NA, F), (A, M), (A, LF), (A, NF))
MIXTURE: tuple[Choice, ...] = ((NA, F), (G1, NF), (LA, M), (A, LF))
OTHER_MIXTURE: tuple[Choice, ...] = ((LA, LF), (NA, M), (G1, LF), (NA, NF), (LA, NF))
VARIANTS: dict[str, Variant] = {
    **alternatives_in_each_place(),
    "parent": Variant(((A, F),) * 3),
    "mixture": Variant(MIXTURE),
    "other_mixture": Variant(OTHER_MIXTURE),
    "mixture_tied": Variant(MIXTURE, sizes={"tied": True}),
    "empty_layers": Variant(((NA, NF), (NA, F), (A, F), (NA, NF))),
    "no_attention_at_all": Variant(((LA, F), (NA, F))),
    "llama3_rope": Variant(MIXTURE, sizes={"rope_parameters": LLAMA3}),
    "linear_rope": Variant(
        ((A, F), (G1, M)),
        sizes={"rope_parameters": {"rope_type": "linear", "rope_theta": 5e3, "factor": 2.0}},
    ),
    "multi_query_parent": Variant(((A, F), (A, NF), (NA, F)), sizes={"kv_heads": 1}),
    "multi_head_parent": Variant(((A, F), (G1, F), (LA, F)), sizes={"kv_heads": 4}),
    "even_heads": Variant(MIXTURE, sizes={"hidden": 32}),
    "biases": Variant(MIXTURE, sizes={"attention_bias": True, "mlp_bias": True, "hidden": 32}),
}
"""Heads are 8 wide and hidden / heads is 6, but for `even_heads` and `biases`."""


SMOLLM2 = {"tied": True, "heads": 3, "kv_heads": 1, "hidden": 24, "head_dim": 8}
"""SmolLM2's shape in small: Llama with tied embeddings, an odd number of heads, and hidden = heads x head_dim."""
PARENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "smollm2": ("llama", SMOLLM2),
    "mistral": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "qwen3_tied": ("qwen3", {"tied": True}),
}
OF_PARENTS = {
    f"{parent}-{name}": Variant((choice, (A, F)), family, sizes)
    for parent, (family, sizes) in PARENTS.items()
    for name, choice in zip(("gqa", "linear", "noop", "mlp", "ffn", "no_ffn"), ONES, strict=True)
} | {f"{parent}-mixture": Variant(MIXTURE, family, sizes) for parent, (family, sizes) in PARENTS.items()}
H2 = GqaAttention(kv_heads=1, heads=2)
W1, W2 = GqaAttention(kv_heads=1, window=5), GqaAttention(kv_heads=2, window=5)
OTHERS = {
    "mistral-window": Variant(MIXTURE, "mistral", {"sliding_window": 5}),
    "llama-window": Variant(((A, F), (W2, M)), "llama"),
    "mistral-one-window": Variant(((A, F), (W1, NF), (NA, F)), "mistral", {"sliding_window": 5}),
    "qwen2-window": Variant(((A, F), (W1, M), (NA, NF), (W2, F)), "qwen2"),
    "qwen3-window": Variant(((A, F), (W1, M), (NA, NF), (W2, F)), "qwen3"),
    "qwen3-window-tied": Variant(((NA, F), (W1, M), (G1, F)), "qwen3", {"tied": True}),
    "qwen3-heads": Variant(((A, F), (H2, F), (A, M)), "qwen3"),
    "qwen3-heads-tied": Variant(((H2, F), (A, M), (NA, F)), "qwen3", {"tied": True}),
    "llama-heads": Variant(((A, F), (H2, NF), (LA, F)), "llama"),
    **{f"{name}-mixture": Variant(MIXTURE, name) for name in ("olmo2", "smollm3", "granite")},
    "qwen3-two-windows": Variant(((A, F), (W1, M), (GqaAttention(kv_heads=2, window=7), F)), "qwen3"),
    "qwen3-first-tokens": Variant(((A, F), (GqaAttention(kv_heads=2, window=7, sinks=2), F)), "qwen3"),
}


def moe(experts: int, top_k: int = 2, width: int = 16) -> MoeFfn:
    return MoeFfn(experts=experts, top_k=top_k, width=width)


def of_experts(*layers: Choice, **sizes: Any) -> Variant:
    """A child of a parent with 6 experts of 16 channels, 2 a token, in layers 0 and 2, and a dense FFN in layer 1."""
    return Variant(layers, "qwen3_moe", {"head_dim": 32, "hidden": 64, **sizes})


MOE = {
    "moe-parent": of_experts((A, F), (A, F), (A, F)),
    "moe-fewer": of_experts((A, moe(3)), (A, F), (A, F)),
    "moe-narrower": of_experts((A, moe(4, width=8)), (G1, F), (A, moe(3))),
    "moe-without": of_experts((A, moe(5)), (A, F), (A, NF)),
    "moe-fewer-a-token": of_experts((A, moe(3, top_k=1)), (A, F), (A, F)),
    "moe-alike": of_experts((A, moe(4)), (A, F), (A, moe(4))),
    "moe-fewer-of-all": of_experts((A, moe(3)), (A, F), (A, F), norm_topk_prob=False),
    "moe-alone": of_experts((A, F), (A, NF), (A, F), mlp_only_layers=[]),
    "moe-alone-alike": of_experts(
        (A, moe(4)), (A, moe(4)), (A, moe(4, width=8)), mlp_only_layers=[], norm_topk_prob=False
    ),
}
"""Mixtures of different sizes in different layers, also where each layer has one. The router's weights need not add up to 1."""


@dataclass(frozen=True)
class Made:
    """A child on disk, and a prompt with the oracle's logits (S, V) and greedy tokens."""

    parent: Path
    child: Path
    prompt: list[int]
    logits: np.ndarray
    greedy: list[int]


def make(variant: Variant, root: Path) -> Made:
    """Write the variant's parent and child below `root`, and ask the oracle."""
    sizes = {"scale": 0.15, **variant.sizes}
    parent = save_tiny(root / "parent", variant.family, layers=len(variant.layers), **sizes)
    pieces = random_pieces(load_parent(parent), variant.layers)
    child = root / "child"
    realise(
        define(variant.layers).model_copy(update={"ends": variant.ends}), parent, pieces, child, "# A child\n"
    )
    for prompt in PROMPTS:
        if (greedy := clear_choices(child, prompt)) is not None:
            return Made(parent, child, prompt, oracle_logits(child, prompt), greedy)
    raise AssertionError("no prompt whose continuation is clear")


def clear_choices(directory: Path, prompt: list[int]) -> list[int] | None:
    """The tokens that greedily follow a prompt; None where some choice is so close that rounding might decide it."""
    chosen: list[int] = []
    while len(chosen) < STEPS:
        row = oracle_logits(directory, prompt + chosen)[-1]
        second, best = np.sort(row)[-2:]
        if best - second < CLEAR:
            return None
        chosen.append(int(row.argmax()))
    return chosen
