"""Names that the language itself defines. A file's own declarations take precedence."""

from __future__ import annotations

from puzzledsl.checker.expressions.values import Boolean, BuiltIn, Text, Value
from puzzledsl.ir.alternatives import SubBlock
from puzzledsl.ir.search_nodes import BASELINES

ALTERNATIVES: dict[SubBlock, tuple[str, ...]] = {
    "attention": ("parent", "gqa", "linear", "noop"),
    "ffn": ("parent", "mlp", "moe", "linear", "noop"),
}
FIELDS: dict[str, tuple[str, ...]] = {
    "gqa": ("kv_heads", "window", "sinks"),
    "mlp": ("width",),
    "moe": ("experts", "top_k", "width"),
}
"""Constructor -> its attributes that a pattern can test."""

FUNCTIONS = (
    *("sum", "count", "min", "max", "mean", "all", "any", "floor", "ceil", "round", "abs"),
    *("runs", "longest", "distinct"),
)
DTYPES = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4", "int4", "fp64")
CONSTRUCTORS = frozenset(
    (
        *ALTERNATIVES["attention"],
        *ALTERNATIVES["ffn"],
        *("shape", "hf", "text", "jsonl", "mix", "measured", "table", "batch"),
        *("replace_one", "kl_divergence", "lm_loss", "accuracy", "cosine", "top_k_agreement", "constant"),
        *("cpsat", *BASELINES, "evolutionary"),
        *("sweep", "used_by", "tasks", "gguf", "mlx"),
    )
)
"""Words that construct a value, such as `gqa` and `table`; the declaration that takes the value reads the arguments."""

VALUES: dict[str, Value] = {
    "true": Boolean(True),
    "false": Boolean(False),
    **{name: BuiltIn(name) for name in FUNCTIONS},
    **{name: Text(name) for name in DTYPES},
}
