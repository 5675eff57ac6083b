"""Calibration calls in float32, whatever the parent's dtype."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from torch import Tensor

from puzzledsl.models.layer_trace import LayerTrace, TracedBatch


def float_batch(call: TracedBatch) -> TracedBatch:
    """Return a call whose floating-point tensors are float32."""
    entering, trace = call
    return entering.float(), LayerTrace(**{f.name: _float(getattr(trace, f.name)) for f in fields(trace)})


def _float(value: Any) -> Any:
    match value:
        case Tensor() if value.is_floating_point():
            return value.float()
        case dict():
            return {name: _float(part) for name, part in value.items()}
        case tuple():
            return tuple(_float(part) for part in value)
        case _:
            return value
