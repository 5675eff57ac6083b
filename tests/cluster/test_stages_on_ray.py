"""Stages and whole programs give the same bytes on Ray workers as in one process."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from puzzledsl.cli.main import run
from puzzledsl.cluster.ray_tasks import RayExecutor
from puzzledsl.cluster.tasks import Cluster
from puzzledsl.scoring.run import run_score
from tests.cluster.ray_here import MARKS, Killer, ray_with
from tests.pieces.train.bld_programs import make_program
from tests.pipeline.tiny_program import write_tiny_program
from tests.scoring.cases import Case
from tests.scoring.conftest import one_thread  # noqa: F401

pytestmark = MARKS
EXACT = ("scores/*.json", "models/*/*.safetensors", "library/*", "solutions/*.json")


def test_scores_are_those_of_one_process_and_a_killed_worker_costs_none(tmp_path: Path) -> None:
    case = Case(tmp_path, make_program(tmp_path))
    expected = case.score()
    contents = {path: sorted(path.read_bytes().splitlines()) for path in case.kept()}
    case.forget()
    killer = Killer(5)
    with ray_with(2):
        there = replace(case.inputs("there"), executor=RayExecutor(Cluster("local")), progress=killer)
        assert run_score(there) == expected
    assert len(killer.killed) == 1 and killer.lost >= 1
    assert contents  # in the order of arrival
    assert {path: sorted(path.read_bytes().splitlines()) for path in case.kept()} == contents


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


@pytest.mark.slow
def test_a_whole_program_is_the_same_with_any_number_of_workers(tmp_path: Path) -> None:
    program = write_tiny_program(tmp_path)
    assert run(["run", str(program), "-o", str(tmp_path / "here"), "--until", "eval"]) == 0
    expected = outputs(tmp_path / "here")
    assert {name.split("/")[0] for name in expected} >= {"scores", "models", "library", "quality.json"}
    for count in (2, 4):
        there = tmp_path / f"with-{count}"
        with ray_with(count):
            assert run(["run", str(program), "-o", str(there), "--until", "eval", "--on", "local"]) == 0
        assert outputs(there) == expected
