"""Every stage gives the same bytes on Ray workers as in one process, whichever are lost and wherever it is interrupted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from puzzledsl.base.progress import Progress, Silent
from puzzledsl.cluster.ray_tasks import RayExecutor
from puzzledsl.cluster.tasks import Cluster, Executor
from puzzledsl.ir import nodes
from puzzledsl.measure.cells import measure_costs
from puzzledsl.scoring.run import run_score
from tests.cluster.ray_here import MARKS, Killer, ray_with
from tests.interrupting import Interrupting
from tests.measure.test_costs import program as measured_program
from tests.pieces.train.bld_programs import make_program
from tests.scoring.cases import Case

pytestmark = MARKS
PLAIN: dict[str, Any] = {"metric": "kl_divergence", "samples": 40}
METHODS: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "runs": {**PLAIN, "runs": (2, 2)},
    "healed": {**PLAIN, "healed": 64, "runs": (2, 2)},
    "other metric": {"metric": "cosine", "samples": 16},
}


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Executor]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with ray_with(2):
        yield RayExecutor(Cluster("local"))
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    base = tmp_path_factory.mktemp("case")
    return Case(base, make_program(base, "llama"))


def scored(case: Case, method: str, **changes: Executor | Progress) -> str:
    """The table, with nothing known from before unless the run before was interrupted."""
    declared = case.program.scores["s"].model_copy(update={"method": nodes.ReplaceOne(**METHODS[method])})
    program = case.program.model_copy(update={"scores": {"s": declared}})
    return run_score(replace(case.inputs("work"), program=program, **changes)).canonical_json()  # type: ignore[arg-type]


def forget(case: Case) -> None:
    shutil.rmtree(case.base / "work", ignore_errors=True)
    shutil.rmtree(case.base / "build" / "scores", ignore_errors=True)


def test_scores_are_those_of_one_process_and_a_killed_worker_costs_none(
    case: Case, two_workers: Executor
) -> None:
    expected = scored(case, "plain")
    cached = sorted((case.base / "build").rglob("figures*/*"))
    contents = [sorted(path.read_bytes().splitlines()) for path in cached]
    assert cached
    forget(case)
    killer = Killer(5)
    assert scored(case, "plain", executor=two_workers, progress=killer) == expected
    assert len(killer.killed) == 1 and killer.lost >= 1
    assert [sorted(path.read_bytes().splitlines()) for path in cached] == contents  # in the order of arrival


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_kind_of_score_is_the_same(name: str, case: Case, two_workers: Executor) -> None:
    forget(case)
    expected = scored(case, name)
    forget(case)
    with pytest.raises(KeyboardInterrupt):
        scored(case, name, executor=two_workers, progress=Interrupting(4))
    assert scored(case, name, executor=two_workers) == expected


@pytest.mark.slow
def test_times_are_measured_on_workers_and_a_killed_one_costs_no_round(
    tmp_path: Path, two_workers: Executor
) -> None:
    """One worker has the machine for itself, so it takes all processors of the cluster."""
    made, killer = measured_program(tmp_path), Killer(3)
    given = (made, "w", tmp_path / "parent", tmp_path / "work")
    (costs,) = measure_costs(*given, killer, two_workers).scenarios["chat"]
    assert len(killer.killed) == 1 and killer.lost >= 1
    (alone,) = measure_costs(*given, Silent()).scenarios["chat"]
    assert [list(layer) for layer in costs.ffn] == [list(layer) for layer in alone.ffn]
    assert costs.ffn[0]["noop"].prefill_ns < costs.ffn[0]["parent"].prefill_ns
    assert not (tmp_path / "work").exists()
