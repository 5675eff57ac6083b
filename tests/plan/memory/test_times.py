"""Times of a plan follow from the number of devices that share a stage, and from the rate of the dtype that it runs in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from puzzledsl.ir.nodes import Shape
from puzzledsl.plan.memory.stage_plan import Device
from puzzledsl.plan.memory.stages import forward_plan

LLAMA_8B = Shape(
    family="llama",
    layers=32,
    hidden=4096,
    heads=32,
    kv_heads=8,
    head_dim=128,
    intermediate=14336,
    vocab=128256,
    tied=False,
)
GPU = Device("toy", True, 80 << 30, 256 << 30, "bf16", 4e14, 2e12)
SIZES = {"tokens": 4096}


def test_devices_share_the_replacements() -> None:
    eight = replace(GPU, count=8)
    alone, shared = (forward_plan("score", "s", LLAMA_8B, device, 1e18, **SIZES) for device in (GPU, eight))
    assert (alone.devices, shared.devices) == (1, 8)
    assert shared.seconds == pytest.approx(alone.seconds / 8)


def test_one_device_that_reads_its_parent_takes_the_reading_too() -> None:
    paged = forward_plan("score", "s", LLAMA_8B, replace(GPU, memory_bytes=16 << 30), 1e18, **SIZES)
    assert paged.devices == 1 and paged.choices[0].what == "paging"
    assert paged.seconds > forward_plan("score", "s", LLAMA_8B, GPU, 1e18, **SIZES).seconds
