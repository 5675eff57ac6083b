"""The tables of docs/scale.md are those of the memory plan, and its largest figures can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.scale import CASES, PAGE, Case, page_with, plans, tables
from puzzledsl.ir.nodes import Shape
from puzzledsl.plan.memory.stage_plan import Device, StagePlan
from puzzledsl.plan.memory.stages import forward_plan


def stage(case: Case, name: str) -> StagePlan:
    return next(plan for plan in plans(case)[1] if plan.stage == name)


def test_the_page_has_the_tables_of_the_code() -> None:
    page = PAGE.read_text()
    assert page_with(tables(), page) == page, "python -m benchmarks.scale --write"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_every_stage_stays_within_memory(case: Case) -> None:
    device, found = plans(case)
    assert {"bld", "score", "realise", "uptrain", "eval", "export"} == {plan.stage for plan in found}
    assert all(plan.fits(device) for plan in found), [plan.stage for plan in found if not plan.fits(device)]


def test_70b_does_not_fit_two_gpus() -> None:
    device, found = plans(Case("llama3_1_70b", "h100_sxm", 2))
    assert not all(plan.fits(device) for plan in found)
    bld = next(plan for plan in found if plan.stage == "bld")
    assert bld.choices[0].value == "does not fit"


def test_devices_share_replacements_and_one_that_reads_its_parent_takes_the_reading_too() -> None:
    sizes = {"hidden": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128, "intermediate": 14336}
    shape = Shape(family="llama", layers=32, vocab=128256, tied=False, **sizes)
    gpu = Device("toy", True, 80 << 30, 256 << 30, "bf16", 4e14, 2e12)
    alone, shared, paged = (
        forward_plan("score", "s", shape, device, 1e18, tokens=4096)
        for device in (gpu, replace(gpu, count=8), replace(gpu, memory_bytes=16 << 30))
    )
    assert (alone.devices, shared.devices, paged.devices) == (1, 8, 1)
    assert shared.seconds == pytest.approx(alone.seconds / 8)
    assert paged.choices[0].what == "paging" and paged.seconds > alone.seconds
