"""`import puzzledsl` is quick and loads no torch, and neither do tables, searches and frontiers."""

import subprocess
import sys
from pathlib import Path

import pytest

import puzzledsl as pzl
from tests.api.programs import write_program
from tests.documents import ROOT

HEAVY = {"torch", "transformers", "safetensors", "pandas", "polars", "jinja2", "matplotlib"}
EVERY_NAME = "import puzzledsl as pzl; [getattr(pzl, name) for name in pzl.__all__]"


def python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout


def test_every_name_is_there_and_loads_nothing_heavy() -> None:
    assert set(pzl.__all__) <= set(dir(pzl))
    with pytest.raises(AttributeError, match="no attribute 'solve'"):
        pzl.solve  # noqa: B018
    loaded = {name.split(".")[0] for name in python(f"{EVERY_NAME}; import sys; print(*sys.modules)").split()}
    assert "puzzledsl" in loaded and not loaded & (HEAVY | {"ortools", "numpy", "lark", "pydantic"})


def test_solving_loads_no_torch(tmp_path: Path) -> None:
    code = """
import sys, puzzledsl as pzl
program = pzl.load(sys.argv[1])
answer = program.solve("best")
program.frontier("curve"), program.space("wide"), program.costs("wide")
program.metrics("best", answer.layers)
print(*sys.modules)
"""
    loaded = {name.split(".")[0] for name in python(code, str(write_program(tmp_path))).split()}
    assert "numpy" in loaded and not loaded & HEAVY
