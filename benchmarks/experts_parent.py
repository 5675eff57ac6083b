"""A small Qwen3 mixture of experts trained on the spot: the parent of `benchmarks.experts`.

8 layers, 16 experts, 4 a token. Experts are balanced layer by layer (Switch Transformer, arXiv 2101.03961, equation 4). The texts
and the tokenizer are made as in `benchmarks.second_parent`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from benchmarks.second_parent import (
    Sizes,
    batch_places,
    documents,
    read_tokens,
    scheduled,
    write_parent,
    write_texts,
)
from puzzledsl.models.placement import faster_in_bfloat16

EXPERTS, TOP_K, WIDTH = 16, 4, 64
SIZES = Sizes(layers=8, hidden=128, heads=4, kv_heads=2, intermediate=256, vocab=1024, batch=8, rate=4e-3)
BALANCE = 0.01
"""Weight of the balancing loss beside the mean loss of a token."""


def model_of(seed: int) -> Qwen3MoeForCausalLM:
    """An untrained model."""
    torch.manual_seed(seed)
    configured: Any = Qwen3MoeConfig
    config = configured(
        vocab_size=SIZES.vocab,
        hidden_size=SIZES.hidden,
        intermediate_size=SIZES.intermediate,
        num_hidden_layers=SIZES.layers,
        num_attention_heads=SIZES.heads,
        num_key_value_heads=SIZES.kv_heads,
        head_dim=SIZES.head_dim,
        num_experts=EXPERTS,
        num_experts_per_tok=TOP_K,
        moe_intermediate_size=WIDTH,
        norm_topk_prob=True,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return Qwen3MoeForCausalLM(config)


def imbalance(router_logits: tuple[Tensor, ...]) -> Tensor:
    """E sum_e f_e P_e, mean over layers: 1 if all experts have equally many tokens and equal probability."""
    found = []
    for logits_TE in router_logits:
        probability = logits_TE.softmax(-1)
        chosen = torch.zeros_like(probability).scatter(1, probability.topk(TOP_K).indices, 1 / TOP_K)
        found.append(EXPERTS * (chosen.mean(0) * probability.mean(0)).sum())
    return torch.stack(found).mean()


def make(source: Path, folder: Path, minutes: float, seed: int) -> None:
    """Write `parent/` and `data/` into a folder; train for so many CPU minutes."""
    texts = write_texts(source, folder / "data")
    other = documents(folder / "data" / "corpus.txt")
    tokenizer, tokens_NS, validation_NS = read_tokens(texts, other, SIZES, folder / "work")
    model = model_of(seed)
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {tokens_NS.numel():,} tokens", flush=True
    )
    _train(model, tokens_NS, 60 * minutes, 1000 * seed)
    model.train(False)
    with torch.no_grad():
        loss = model(input_ids=validation_NS, labels=validation_NS).loss
    print(f"loss on other text {float(loss):.3f}", flush=True)
    write_parent(model, tokenizer, folder)


def _train(model: Qwen3MoeForCausalLM, tokens_NS: Tensor, budget_s: float, first: int) -> None:
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=SIZES.rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    bf16 = faster_in_bfloat16(torch.device("cpu"))
    used_s, shown_s, step = 0.0, 0.0, 0
    losses: list[float] = []
    model.train()
    while used_s < budget_s:
        began = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = SIZES.rate * scheduled(used_s / budget_s)
        batch_BS = tokens_NS[batch_places(first + step, len(tokens_NS), SIZES.batch)]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = model(input_ids=batch_BS, labels=batch_BS, use_cache=False, output_router_logits=True)
            loss = out.loss - model.router_aux_loss_coef * out.aux_loss
            (loss + BALANCE * imbalance(out.router_logits)).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step, losses = step + 1, [*losses, float(loss.detach())]
        used_s += time.process_time() - began
        if used_s - shown_s >= 30:
            mean = sum(losses) / len(losses)
            print(
                f"{used_s / 60:.1f} CPU minutes, {step * batch_BS.numel():,} tokens, loss {mean:.3f}",
                flush=True,
            )
            shown_s, losses = used_s, []
