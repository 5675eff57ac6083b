"""Random models of a few thousand parameters, in every family, with a tokenizer made on the spot."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

torch.set_num_threads(1)  # tests share the machine
DENSE = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text", "olmo2", "smollm3", "granite", "phi3")
MIXTURES = ("qwen3_moe", "gpt_oss")
FAMILIES = (*DENSE, *MIXTURES)
DELTA = {
    "full_attention_interval": 2,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_value_head_dim": 6,
    "linear_key_head_dim": 8,
}
"""Sizes of gated delta nets."""
GATED = {"num_experts": 6, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 20} | DELTA
EXPERTS: dict[str, dict[str, Any]] = {
    "qwen3_moe": {
        "num_experts": 6,
        "moe_intermediate_size": 16,
        "norm_topk_prob": True,
        "mlp_only_layers": [1],
    },
    "gpt_oss": {"num_local_experts": 6, "sliding_window": 9},
    "nemotron_h": {
        "n_routed_experts": 6,
        "moe_intermediate_size": 16,
        "moe_shared_expert_intermediate_size": 20,
        "routed_scaling_factor": 1.5,
        "mamba_num_heads": 4,
        "mamba_head_dim": 6,
        "n_groups": 2,
        "ssm_state_size": 8,
        "chunk_size": 8,
    },
    "qwen3_next": GATED,
    "qwen3_5_moe_text": GATED,
}
"""Fields of a mixture's config.json; each token has two experts."""
USUAL: dict[str, dict[str, Any]] = {
    "qwen3_5_text": DELTA,
    "gemma3_text": {"sliding_window": 6, "sliding_window_pattern": 3, "query_pre_attn_scalar": 12},
    "smollm3": {"no_rope_layer_interval": 2},
    "phi3": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
    "granite": {
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.6,
        "attention_multiplier": 0.2,
        "logits_scaling": 2.0,
    },
}
"""Settings of a family's tiny models, without which it would be another's."""
HYBRIDS = ("nemotron_h", "qwen3_next", "qwen3_5_text")
SPARSE_HYBRIDS = ("nemotron_h", "qwen3_next", "qwen3_5_moe_text")
PATTERN = "M*-EM*-EM*-E"
"""Kinds of nemotron_h's layers: each of the four among the first, in the middle, and among the last."""
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
VOCAB = 260  # 256 bytes and the special tokens


def tiny_model(
    family: str = "llama",
    *,
    layers: int = 3,
    hidden: int = 24,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 8,
    intermediate: int = 40,
    vocab: int = VOCAB,
    tied: bool = False,
    seed: int = 0,
    scale: float = 0.35,
    **extra: Any,
) -> PreTrainedModel:
    """A random model, float32, evaluation mode, no gradients. head_dim is not hidden / heads unless asked for.

    Weights are wide (standard deviation `scale`), so that attention attends and no sub-block is negligible;
    biases and norms are random too, so that forgetting one is noticed.
    """
    if family == "nemotron_h":
        extra.setdefault("hybrid_override_pattern", PATTERN[:layers])
    else:
        extra["num_hidden_layers"] = layers
    config = CONFIG_MAPPING[family](
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=intermediate,
        vocab_size=vocab,
        tie_word_embeddings=tied,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
        **USUAL.get(family, {})
        | ({"num_experts_per_tok": 2} | EXPERTS[family] if family in EXPERTS else {})
        | extra,
    )
    attention = "eager" if family == "gpt_oss" else "sdpa"  # transformers has no other of it
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        buffers = (
            (name, buffer) for name, buffer in model.named_buffers() if name.endswith("correction_bias")
        )
        for name, weight in (*model.named_parameters(), *buffers):
            noise = torch.randn(weight.shape, generator=generator)
            centre = 0 if family == "gemma3_text" else 1  # it adds 1 to the weights of norms
            weight.copy_(centre + 0.3 * noise if "norm" in name else scale * noise)
    return model.eval().requires_grad_(False)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, after four special tokens; decodes to what was encoded."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate((*SPECIAL, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def save_tiny(directory: Path, family: str = "llama", **sizes: Any) -> Path:
    """Write `tiny_model(family, **sizes)` and its tokenizer in the Hugging Face layout; returns the directory."""
    tiny_model(family, **sizes).save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    return directory


def tiny_tokens(batch: int = 2, length: int = 16, *, vocab: int = VOCAB, seed: int = 0) -> torch.Tensor:
    """Random token ids (batch, length), without special tokens."""
    return torch.randint(len(SPECIAL), vocab, (batch, length), generator=torch.Generator().manual_seed(seed))
