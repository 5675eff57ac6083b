"""Workers go up layers that nothing changes meanwhile."""

import os
from dataclasses import replace
from typing import Any

import pytest
import torch

from puzzledsl.models.machine import Workers
from puzzledsl.scoring.run import run_score
from tests.scoring.cases import Case, ElsewhereHere


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case.of(tmp_path_factory.mktemp("workers"), model={"layers": 3})


@pytest.fixture
def three_threads(one_thread: None) -> None:
    torch.set_num_threads(3)


@pytest.mark.usefixtures("three_threads")
def test_a_parent_whose_weights_come_and_go_has_one_worker(
    case: Case, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = case.anew().canonical_json()
    asked = request.getfixturevalue("paged")
    assert case.anew().canonical_json() == expected
    with Workers(torch.device("cpu"), shared=False) as workers:
        assert workers.count == 1 and torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    case.forget()
    monkeypatch.setattr("puzzledsl.scoring.run.PAGED_PARTS", 2)
    elsewhere = replace(case.inputs("elsewhere"), executor=ElsewhereHere())
    assert run_score(elsewhere).canonical_json() == expected
    assert asked == [1, os.cpu_count()]


@pytest.mark.parametrize("method", [{"runs": (2, 2)}, {"healed": 64, "runs": (2, 2)}])
def test_workers_elsewhere_find_the_same(method: dict[str, Any], case: Case) -> None:
    """Each unit is a task of its own there, and the metrics are kept in the order of one process."""
    method = {"metric": "kl_divergence", "samples": 40, **method}
    expected = case.anew(**method).canonical_json()
    content = [path.read_bytes() for path in case.kept()]
    case.forget()
    there = replace(case.inputs("there", **method), executor=ElsewhereHere())
    assert run_score(there).canonical_json() == expected
    assert [path.read_bytes() for path in case.kept()] == content
