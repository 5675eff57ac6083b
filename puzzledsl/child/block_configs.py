"""Alternatives <-> the `block_configs` entries of a DeciLM / nemotron-nas config.json.

`n_heads_in_group` is the number of query heads per key/value head. A sub-block of an installed package has `module`, its
word, and `arguments`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.registry import (
    ATTENTION,
    FFN,
    AttentionAlternative,
    FfnAlternative,
    from_block_config,
    to_block_config,
)
from puzzledsl.base.diagnostics import CannotRealise, DiagnosticError
from puzzledsl.ir.nodes import Shape

Layer = tuple[AttentionAlternative, FfnAlternative]
_FLAGS: dict[str, Any] = {"no_op": False, "replace_with_linear": False, "sparsify": None}
_ATTENTION = _FLAGS | {"n_heads_in_group": None, "window_length": None, "num_sink_tokens": None}
_FFN = _FLAGS | {"intermediate_size": None}


def to_block_configs(layers: Sequence[Layer], shape: Shape) -> list[dict[str, Any]]:
    """Return one `block_configs` entry per layer. Raises DiagnosticError (CannotRealise) for a mixture of experts."""
    return [
        {"attention": _ATTENTION | _entry(attention, own), "ffn": _FFN | _entry(ffn, own)}
        for (attention, ffn), own in zip(layers, _each(shape, len(layers)), strict=True)
    ]


def from_block_configs(entries: Sequence[Mapping[str, Any]], shape: Shape) -> list[Layer]:
    """Return each layer's alternatives; those of the parent's size become `parent`.

    Raises KeyError if an entry lacks a field, ValueError for a module that no installed package has.
    """
    return [
        (
            from_block_config(ATTENTION, entry["attention"], own),
            from_block_config(FFN, entry["ffn"], own),
        )
        for entry, own in zip(entries, _each(shape, len(entries)), strict=True)
    ]


def _each(shape: Shape, layers: int) -> Sequence[Shape]:
    """Return the shape of each of so many layers; a list of another length than the parent's is an error elsewhere."""
    return shape.each if layers == shape.layers else (shape,) * layers


def _entry(alternative: Alternative, shape: Shape) -> dict[str, Any]:
    entry = to_block_config(alternative, shape)
    if entry is None:
        raise DiagnosticError(CannotRealise(None, alternative=alternative.name))
    return entry
