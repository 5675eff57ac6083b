"""Alternatives <-> the `block_configs` entries of a DeciLM / nemotron-nas config.json.

`n_heads_in_group` is the number of query heads per key/value head. `ffn_mult` serves runtimes that do not read
`intermediate_size`: they compute int(2 * ffn_mult * H / 3) and round it up to a multiple of 256. A width that is no multiple of
256 cannot be expressed so; its entry has no `ffn_mult`, and such a runtime fails instead of building the wrong width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir.alternatives import (
    Alternative,
    AttentionAlternative,
    FfnAlternative,
    GqaAttention,
    LinearAttention,
    LinearFfn,
    MlpFfn,
    MoeFfn,
    NoOpAttention,
    NoOpFfn,
    ParentAttention,
    ParentFfn,
    name_of,
)
from puzzledsl.ir.nodes import Shape
from puzzledsl.models.errors import CannotRealise

Layer = tuple[AttentionAlternative, FfnAlternative]
FFN_MULTIPLE = 256
"""Runtimes that read `ffn_mult` round the FFN width up to a multiple of this."""


def to_block_configs(layers: Sequence[Layer], shape: Shape) -> list[dict[str, Any]]:
    """Return one `block_configs` entry per layer. Raises DiagnosticError (CannotRealise) for a mixture of experts."""
    return [{"attention": _attention(a, shape), "ffn": _ffn(f, shape)} for a, f in layers]


def from_block_configs(entries: Sequence[Mapping[str, Any]], shape: Shape) -> list[Layer]:
    """Return each layer's alternatives; those of the parent's size become `parent`. Raises KeyError if an entry lacks a field."""
    return [(_read_attention(entry["attention"], shape), _read_ffn(entry["ffn"], shape)) for entry in entries]


def _attention(alternative: AttentionAlternative, shape: Shape) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "n_heads_in_group": None,
        "no_op": False,
        "replace_with_linear": False,
        "window_length": None,
        "num_sink_tokens": None,
        "sparsify": None,
    }
    match alternative:
        case ParentAttention():
            return entry | {"n_heads_in_group": shape.heads // shape.kv_heads}
        case GqaAttention(kv_heads=kv_heads, window=window, sinks=sinks):
            return entry | {
                "n_heads_in_group": shape.heads // kv_heads,
                "window_length": window,
                "num_sink_tokens": sinks or None,
            }
        case LinearAttention():
            return entry | {"replace_with_linear": True}
        case NoOpAttention():
            return entry | {"no_op": True}
        case _:
            assert_never(alternative)


def _ffn(alternative: FfnAlternative, shape: Shape) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "intermediate_size": None,
        "no_op": False,
        "replace_with_linear": False,
        "sparsify": None,
    }
    match alternative:
        case ParentFfn():
            return entry | _width(shape.intermediate, shape.hidden)
        case MlpFfn(width=width):
            return entry | _width(width, shape.hidden)
        case LinearFfn():
            return entry | {"ffn_mult": None, "replace_with_linear": True}
        case NoOpFfn():
            return entry | {"ffn_mult": None, "no_op": True}
        case MoeFfn():
            raise cannot(alternative)
        case _:
            assert_never(alternative)


def cannot(alternative: Alternative) -> DiagnosticError:
    """Return the error for an alternative that has no module."""
    return DiagnosticError(CannotRealise(None, alternative=name_of(alternative)))


def _width(width: int, hidden: int) -> dict[str, Any]:
    if width % FFN_MULTIPLE:
        return {"intermediate_size": width}
    return {"ffn_mult": ffn_mult(width, hidden), "intermediate_size": width}


def ffn_mult(width: int, hidden: int) -> float:
    """Return the smallest float64 at which int(2 * ffn_mult * hidden / 3) equals `width`."""
    multiple = 3 * width / (2 * hidden)
    while int(2 * multiple * hidden / 3) < width:
        multiple = math.nextafter(multiple, math.inf)
    return multiple


def _read_attention(entry: Mapping[str, Any], shape: Shape) -> AttentionAlternative:
    if entry["no_op"]:
        return NoOpAttention()
    if entry["replace_with_linear"]:
        return LinearAttention()
    kv_heads = shape.heads // int(entry["n_heads_in_group"])
    window = entry.get("window_length")
    if window is None and kv_heads == shape.kv_heads:
        return ParentAttention()
    return GqaAttention(kv_heads=kv_heads, window=window, sinks=entry.get("num_sink_tokens") or 0)


def _read_ffn(entry: Mapping[str, Any], shape: Shape) -> FfnAlternative:
    if entry["no_op"]:
        return NoOpFfn()
    if entry["replace_with_linear"]:
        return LinearFfn()
    width = int(entry["intermediate_size"])
    return ParentFfn() if width == shape.intermediate else MlpFfn(width=width)
