"""Names and shapes of the weights that an architecture requires, known before any weight is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.alternatives.weights import Shapes
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir.nodes import Shape
from puzzledsl.models.families.errors import AbsurdConfig, WeightsDontFit
from puzzledsl.models.families.stored import canonical, stored_name
from puzzledsl.models.families.tensors import LazyTensor

Layer = tuple[AttentionAlternative, FfnAlternative]

LIMITS: dict[str, int] = {
    "num_hidden_layers": 10_000,
    "hidden_size": 1 << 20,
    "num_attention_heads": 1 << 16,
    "num_key_value_heads": 1 << 16,
    "head_dim": 1 << 16,
    "intermediate_size": 1 << 24,
    "vocab_size": 1 << 26,
    "num_experts": 1 << 12,
    "num_local_experts": 1 << 12,
    "num_experts_per_tok": 1 << 12,
    "n_routed_experts": 1 << 12,
    "moe_intermediate_size": 1 << 24,
    "moe_shared_expert_intermediate_size": 1 << 24,
    "shared_expert_intermediate_size": 1 << 24,
    **dict.fromkeys(("mamba_num_heads", "linear_num_value_heads", "linear_num_key_heads"), 1 << 16),
    **dict.fromkeys(("mamba_head_dim", "linear_value_head_dim", "linear_key_head_dim"), 1 << 16),
    **dict.fromkeys(("n_groups", "ssm_state_size", "conv_kernel", "linear_conv_kernel_dim"), 1 << 16),
}
"""Limits far above any model, and low enough that an allocation of one such size does not exhaust memory."""


def check_sizes(directory: Path, content: Mapping[str, Any]) -> None:
    """Raise DiagnosticError (AbsurdConfig) for each size of a config.json that exceeds its limit."""
    found = [
        AbsurdConfig(None, path=directory, name=name, value=_short(content[name]), low=1, high=high)
        for name, high in LIMITS.items()
        if content.get(name) is not None and not _whole_up_to(content[name], high)
    ]
    if found:
        raise DiagnosticError(*found)


def _whole_up_to(value: object, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= high


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def inventory(shape: Shape, layers: Sequence[Layer] | None = None) -> Shapes:
    """Return names and shapes of all weights of a model of this shape: the parent's, or a child's with these layers.

    A removed sub-block has no norm; a head tied to the embedding is not listed.
    """
    family = FAMILIES[shape.family]
    found: Shapes = {f"{family.embedding}.weight": (shape.vocab, shape.hidden)}
    for index in range(shape.layers):
        attention, ffn = layers[index] if layers is not None else (ParentAttention(), ParentFfn())
        prefix, here = f"{family.layers}.{index}.", shape.at(index)
        names = family.names(here)
        for alternative, part in ((attention, names.attention), (ffn, names.ffn)):
            own = alternative.weights(here)
            if part is None or not own:
                continue
            found |= {f"{prefix}{norm}.weight": (shape.hidden,) for norm in part.norms}
            found |= {f"{prefix}{part.module}.{name}": weight.shape for name, weight in own.items()}
    found[f"{family.final_norm}.weight"] = (shape.hidden,)
    if not shape.tied:
        found[f"{family.head}.weight"] = (shape.vocab, shape.hidden)
    return found


def select(
    directory: Path, shape: Shape, weights: Mapping[str, LazyTensor], layers: Sequence[Layer] | None = None
) -> dict[str, LazyTensor]:
    """Return the weights of the architecture, in its order.

    Names are canonical, whatever form the experts of a mixture are stored in. Raises DiagnosticError (WeightsDontFit) if one
    is missing or has a wrong shape, or if there are others. A copy of a tied head and the tables of old checkpoints are
    allowed.
    """
    wanted, family = inventory(shape, layers), FAMILIES[shape.family]
    weights, reasons = canonical(weights, wanted, family)
    missing = sorted(set(wanted) - set(weights))
    odd = sorted(name for name in set(weights) - set(wanted) if not _harmless(name, shape))
    wrong = [name for name in wanted if name in weights and weights[name].shape != wanted[name]]
    if wrong:
        first = wrong[0]
        found, size = list(weights[first].shape), list(wanted[first])
        what = f"`{stored_name(first, family)}` is {found}, and should be {size}"
        reasons.append(what + (f" ({len(wrong) - 1} more like it)" if len(wrong) > 1 else ""))
    for names, what in ((missing, "missing"), (odd, "unexpected")):
        if names:
            first_names = ", ".join(stored_name(name, family) for name in names[:3])
            reasons.append(f"{len(names)} {what} weights ({first_names}{', …' * (len(names) > 3)})")
    if reasons:
        raise DiagnosticError(*(WeightsDontFit(None, path=directory, reason=reason) for reason in reasons))
    return {name: weights[name] for name in wanted}


def _harmless(name: str, shape: Shape) -> bool:
    tied_head = shape.tied and name == f"{FAMILIES[shape.family].head}.weight"
    extra = name.startswith(
        "mtp."
    )  # layers for multi-token prediction, which transformers does not run either
    return tied_head or extra or name.endswith(".rotary_emb.inv_freq")
