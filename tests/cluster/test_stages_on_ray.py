"""Every stage gives the same bytes on Ray workers as in one process, whichever are lost and wherever it is interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from puzzledsl.base.progress import Progress, Silent
from puzzledsl.cli.main import run
from puzzledsl.cluster.connect import Cluster
from puzzledsl.cluster.ray_tasks import RayExecutor
from puzzledsl.cluster.tasks import Executor
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import ScoreTable
from puzzledsl.measure.costs import measure_costs
from puzzledsl.scoring import run as scoring_run
from puzzledsl.scoring.inputs import ScoreInputs
from puzzledsl.scoring.run import run_score
from puzzledsl.scoring.workers.spans import ParentInSpans
from puzzledsl.scoring.workers.whole import sent
from tests.cluster.ray_here import MARKS, Killer, descendants, ray_with, workers
from tests.interrupting import Interrupting
from tests.measure.test_costs import program as measured_program
from tests.pieces.train.bld_programs import make_program
from tests.pipeline.tiny_program import write_tiny_program
from tests.scoring.cases import Case

pytestmark = MARKS
PLAIN: dict[str, Any] = {"metric": "kl_divergence", "samples": 40}
METHODS: dict[str, dict[str, Any]] = {
    "pairwise and fitted": {**PLAIN, "pairwise": True, "children": 6},
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


def scored(
    case: Case, method: dict[str, Any], executor: Executor | None = None, progress: Progress | None = None
) -> ScoreTable:
    """The table, with nothing known from before unless the run before was interrupted."""
    declaration = case.program.scores["s"].model_copy(update={"method": nodes.ReplaceOne(**method)})
    program = case.program.model_copy(update={"scores": {"s": declaration}})
    given = replace(case.inputs("work"), program=program)
    if executor is not None:
        given = replace(given, executor=executor)
    if progress is not None:
        given = replace(given, progress=progress)
    return run_score(given)


def forget(case: Case) -> None:
    shutil.rmtree(case.base / "work", ignore_errors=True)
    shutil.rmtree(case.base / "build" / "scores", ignore_errors=True)


def test_scores_and_pairwise_terms_are_those_of_one_process_and_a_killed_worker_costs_none(
    case: Case, two_workers: Executor
) -> None:
    method = METHODS["pairwise and fitted"]
    expected = scored(case, method).canonical_json()
    cached = sorted((case.base / "build").rglob("figures*/*"))
    contents = [path.read_bytes() for path in cached]
    assert cached
    forget(case)
    killer = Killer(5)
    assert scored(case, method, two_workers, killer).canonical_json() == expected
    assert len(killer.killed) == 1 and killer.lost >= 1
    assert [path.read_bytes() for path in cached] == contents


@pytest.mark.slow
@pytest.mark.parametrize("name", list(METHODS))
def test_every_kind_of_score_is_the_same(name: str, case: Case, two_workers: Executor) -> None:
    forget(case)
    expected = scored(case, METHODS[name]).canonical_json()
    forget(case)
    with pytest.raises(KeyboardInterrupt):
        scored(case, METHODS[name], two_workers, Interrupting(4))
    assert scored(case, METHODS[name], two_workers).canonical_json() == expected


@pytest.mark.slow
def test_teams_that_have_the_parent_together_score_the_same_and_are_replaced_as_a_whole(
    case: Case, two_workers: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = METHODS["pairwise and fitted"]
    forget(case)
    expected = scored(case, method).canonical_json()

    def in_spans(inputs: ScoreInputs, todo: Any, runs: Any) -> ParentInSpans:
        return ParentInSpans(sent(inputs), todo, runs, ((0, 1), (1, 3)))

    monkeypatch.setattr(scoring_run, "tasks_for", in_spans)
    forget(case)
    killer = Killer(5)
    assert scored(case, method, two_workers, killer).canonical_json() == expected
    assert len(killer.killed) == 1 and killer.lost >= 1


@pytest.mark.slow
def test_times_are_measured_on_workers_and_a_killed_one_costs_no_round(
    tmp_path: Path, two_workers: Executor
) -> None:
    """One worker has the machine for itself, so it takes all processors of the cluster."""
    made, killer = measured_program(tmp_path), Killer(3)
    given = (made, "w", tmp_path / "parent", tmp_path / "work", killer)
    table = measure_costs(*given, two_workers)
    assert len(killer.killed) == 1 and killer.lost >= 1
    (costs,) = table.scenarios["chat"]
    alone = measure_costs(made, "w", tmp_path / "parent", tmp_path / "work", Silent()).scenarios["chat"][0]
    assert [list(layer) for layer in costs.ffn] == [list(layer) for layer in alone.ffn]
    assert costs.ffn[0]["noop"].prefill_ns < costs.ffn[0]["parent"].prefill_ns
    assert not (tmp_path / "work").exists()


# ---------------------------------------------------------------- whole programs


EXACT = ("scores/*.json", "models/*/*.safetensors", "library/*", "solutions/*.json")


def outputs(build: Path) -> dict[str, bytes]:
    found = {
        str(path.relative_to(build)): path.read_bytes()
        for pattern in EXACT
        for path in build.glob(pattern)
        if not path.name.startswith(".")
    }
    for path in build.glob("evals/*.json"):
        found[path.name] = json.dumps(json.loads(path.read_text())["models"]).encode()
    return found


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = write_tiny_program(tmp_path_factory.mktemp("program"))
    assert run(["run", str(file), "-o", str(file.parent / "here"), "--until", "eval"]) == 0
    return file


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_a_whole_program_is_the_same_with_any_number_of_workers(count: int, program: Path) -> None:
    one, there = program.parent / "here", program.parent / f"with-{count}"
    torch.set_num_threads(1)
    with ray_with(count):
        assert run(["run", str(program), "-o", str(there), "--until", "eval", "--on", "local"]) == 0
    expected = outputs(one)
    assert {name.split("/")[0] for name in expected} >= {"scores", "models", "library", "quality.json"}
    assert outputs(there) == expected


STAGES = ("bld", "score", "realise", "eval")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_driver_and_a_worker_that_are_killed_in_each_stage_lose_nothing(program: Path) -> None:
    """In each stage the command is killed with SIGKILL and started again, and then one of its workers is killed."""
    build = program.parent / "killed"
    seen: list[str] = []
    for _ in range(3 * len(STAGES)):
        driver = begun(program, build)
        while driver.poll() is None:
            stage = at_work(build)
            if stage in STAGES and seen.count(stage) < 2 and (found := workers(driver.pid)):
                time.sleep(1.0)
                seen.append(stage)
                if seen.count(stage) == 1:
                    ended(driver)
                else:
                    os.kill(found[0], signal.SIGKILL)
            time.sleep(0.2)
        if driver.returncode == 0:
            break
    assert {stage: seen.count(stage) for stage in STAGES} == dict.fromkeys(STAGES, 2)
    assert outputs(build) == outputs(program.parent / "here")


def begun(program: Path, build: Path) -> subprocess.Popen[bytes]:
    command = ["run", str(program), "-o", str(build), "--until", "eval", "--on", "local"]
    return subprocess.Popen(
        [sys.executable, "-m", "puzzledsl.cli.main", *command], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def ended(driver: subprocess.Popen[bytes]) -> None:
    """Kill the driver, and then what is left of its cluster."""
    started = [pid for pid, _ in descendants(driver.pid)]
    driver.kill()
    driver.wait()
    for pid in started:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def at_work(build: Path) -> str | None:
    """The stage that has begun last and not ended."""
    log = build / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    events = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    last = [event for event in events if event["event"] in ("start", "end", "fresh")][-1:]
    return last[0]["stage"] if last and last[0]["event"] == "start" else None
