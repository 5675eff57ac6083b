# mypy: ignore-errors
"""A child whose layers differ, for mlx-lm: mlx_lm.load(directory, trust_remote_code=True).

Only where mlx-lm's own nemotron-nas model cannot hold it: any head size and FFN width, norms on queries and keys, windows.
"""

from dataclasses import dataclass, field

import mlx.nn as nn
from mlx_lm.models.base import BaseModelArgs, create_causal_mask, scaled_dot_product_attention
from mlx_lm.models.cache import KVCache
from mlx_lm.models.rope_utils import initialize_rope


@dataclass
class ModelArgs(BaseModelArgs):
    model_type: str
    hidden_size: int
    num_attention_heads: int
    head_dim: int
    rms_norm_eps: float
    vocab_size: int
    block_configs: list
    rope_theta: float
    max_position_embeddings: int
    rope_scaling: dict = None
    tie_word_embeddings: bool = False
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    windows: list = field(default_factory=list)


class Linear(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.linear = nn.Linear(args.hidden_size, args.hidden_size, bias=False)

    def __call__(self, x, cache=None):
        return self.linear(x)


class Attention(nn.Module):
    def __init__(self, args, kv_heads, window):
        super().__init__()
        self.heads, self.kv_heads, self.dim, self.window = (
            args.num_attention_heads,
            kv_heads,
            args.head_dim,
            window,
        )
        self.q_proj = nn.Linear(args.hidden_size, self.heads * self.dim, bias=args.qkv_bias)
        self.k_proj = nn.Linear(args.hidden_size, kv_heads * self.dim, bias=args.qkv_bias)
        self.v_proj = nn.Linear(args.hidden_size, kv_heads * self.dim, bias=args.qkv_bias)
        self.o_proj = nn.Linear(self.heads * self.dim, args.hidden_size, bias=args.o_bias)
        if args.qk_norm:
            self.q_norm = nn.RMSNorm(self.dim, eps=args.rms_norm_eps)
            self.k_norm = nn.RMSNorm(self.dim, eps=args.rms_norm_eps)
        limits = args.rope_scaling, args.max_position_embeddings
        self.rope = initialize_rope(self.dim, args.rope_theta, False, *limits)

    def __call__(self, x, cache=None):
        batch, length, _ = x.shape
        q, k, v = (f(x).reshape(batch, length, -1, self.dim) for f in (self.q_proj, self.k_proj, self.v_proj))
        if "q_norm" in self:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (t.transpose(0, 2, 1, 3) for t in (q, k, v))
        past = cache.offset if cache is not None else 0
        q, k = self.rope(q, offset=past), self.rope(k, offset=past)
        mask = "causal" if length > 1 else None
        if cache is not None:
            mask = cache.make_mask(length, return_array=False, window_size=self.window)
            k, v = cache.update_and_fetch(k, v)
        elif self.window is not None:
            mask = create_causal_mask(length, window_size=self.window)
        out = scaled_dot_product_attention(q, k, v, cache=cache, scale=self.dim**-0.5, mask=mask)
        return self.o_proj(out.transpose(0, 2, 1, 3).reshape(batch, length, -1))


class MLP(nn.Module):
    def __init__(self, args, width):
        super().__init__()
        self.gate_proj = nn.Linear(args.hidden_size, width, bias=args.mlp_bias)
        self.up_proj = nn.Linear(args.hidden_size, width, bias=args.mlp_bias)
        self.down_proj = nn.Linear(width, args.hidden_size, bias=args.mlp_bias)

    def __call__(self, x):
        return self.down_proj(nn.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, args, block, window):
        super().__init__()
        attention, ffn = block["attention"], block["ffn"]
        self.has_cache = not (attention["no_op"] or attention["replace_with_linear"])
        if not attention["no_op"]:
            self.input_layernorm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)
            kv_heads = args.num_attention_heads // (attention["n_heads_in_group"] or 1)
            self.self_attn = Attention(args, kv_heads, window) if self.has_cache else Linear(args)
        if not ffn["no_op"]:
            self.post_attention_layernorm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)
            self.mlp = Linear(args) if ffn["replace_with_linear"] else MLP(args, ffn["intermediate_size"])

    def __call__(self, x, cache=None):
        if "self_attn" in self:
            x = x + self.self_attn(self.input_layernorm(x), cache=cache)
        return x + self.mlp(self.post_attention_layernorm(x)) if "mlp" in self else x


class Inner(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.embed_tokens = nn.Embedding(args.vocab_size, args.hidden_size)
        windows = args.windows or [None] * len(args.block_configs)
        self.layers = [Layer(args, b, w) for b, w in zip(args.block_configs, windows, strict=True)]
        self.norm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)


class Model(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.args, self.model_type, self.model = args, args.model_type, Inner(args)
        if not args.tie_word_embeddings:
            self.lm_head = nn.Linear(args.hidden_size, args.vocab_size, bias=False)

    def __call__(self, inputs, cache=None):
        x, slots = self.model.embed_tokens(inputs), iter(cache or ())
        for layer in self.model.layers:
            x = layer(x, cache=next(slots, None) if layer.has_cache else None)
        x = self.model.norm(x)
        return self.model.embed_tokens.as_linear(x) if self.args.tie_word_embeddings else self.lm_head(x)

    @property
    def layers(self):
        return self.model.layers

    def make_cache(self):
        return [KVCache() for layer in self.layers if layer.has_cache]
