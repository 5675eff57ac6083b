"""Whole programs give the same bytes on Ray workers as in one process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from puzzledsl.cli.main import run
from tests.cluster.ray_here import MARKS, ray_with
from tests.pipeline.tiny_program import write_tiny_program

pytestmark = MARKS


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


@pytest.mark.slow
def test_a_whole_program_is_the_same_with_any_number_of_workers(tmp_path: Path) -> None:
    program = write_tiny_program(tmp_path)
    torch.set_num_threads(1)
    assert run(["run", str(program), "-o", str(tmp_path / "here"), "--until", "eval"]) == 0
    expected = outputs(tmp_path / "here")
    assert {name.split("/")[0] for name in expected} >= {"scores", "models", "library", "quality.json"}
    for count in (2, 4):
        there = tmp_path / f"with-{count}"
        with ray_with(count):
            assert run(["run", str(program), "-o", str(there), "--until", "eval", "--on", "local"]) == 0
        assert outputs(there) == expected
