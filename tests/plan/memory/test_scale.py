"""The tables of docs/scale.md are those of the memory plan, and its largest figures can be worked out by hand."""

import pytest

from benchmarks.scale import CASES, PAGE, Case, page_with, plans, tables
from puzzledsl.plan.memory.stage_plan import StagePlan


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
