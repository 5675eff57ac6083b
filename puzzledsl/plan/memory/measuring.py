"""Memory and time of measuring run times: the parent, one module of each alternative, and the largest batch's caches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.nodes import Scenario, Shape
from puzzledsl.plan.memory.activations import layer_forward_numbers
from puzzledsl.plan.memory.device import TIMED_SHARE, Device
from puzzledsl.plan.memory.stage_plan import Choice, StagePlan, size_text


@dataclass(frozen=True, slots=True)
class MeasuringSizes:
    """Sizes of a measurement: the parent, the distinct alternatives with their layers' shapes, and the scenarios."""

    shape: Shape
    alternatives: tuple[tuple[Alternative, Shape], ...]
    scenarios: tuple[Scenario, ...]


def measuring_plan(name: str, sizes: MeasuringSizes, device: Device, flop: float) -> StagePlan:
    """Return the plan of timing whole models; each timed model stands on one device."""
    shape, number = sizes.shape, device.number_bytes
    whole, room = total_params(shape) * number, int(TIMED_SHARE * device.memory_bytes)
    choice = Choice(
        "weights",
        "some layers use the weights of others",
        f"all take {size_text(whole)} of {size_text(room)}",
    )
    pool = sum(a.params(own) for a, own in sizes.alternatives) * number
    forward = max(layer_forward_numbers(own, ParentAttention(), ParentFfn()) for own in shape.each)
    prompts = max((_batch(scenario) * scenario.prompt for scenario in sizes.scenarios), default=0)
    return StagePlan(
        stage="measure",
        name=name,
        parts={
            "parent": min(whole, room),
            "alternatives": pool,
            "caches": max((_cache(shape, scenario) for scenario in sizes.scenarios), default=0) * number,
            "activations": prompts * forward * number,
        },
        seconds=flop / device.flop_per_s,
        choices=(choice,) if whole > room else (),
    )


def _batch(scenario: Scenario) -> int:
    return max(scenario.batches, default=1)


def _cache(shape: Shape, scenario: Scenario) -> int:
    """Return the numbers of all layers' keys and values at the end of the largest batch."""
    tokens = _batch(scenario) * (scenario.prompt + scenario.output)
    return tokens * sum(2 * heads * own.head_dim for own, heads in _cached(shape))


def _cached(shape: Shape) -> Iterable[tuple[Shape, int]]:
    return ((own, ParentAttention().cached_heads(own)) for own in shape.each)
