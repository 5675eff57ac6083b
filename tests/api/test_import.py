"""`import puzzledsl` is quick and loads no torch, and neither do tables, searches and frontiers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import puzzledsl as pzl
from tests.documents import ROOT

HEAVY = {
    "torch",
    "transformers",
    "safetensors",
    "ortools",
    "numpy",
    "pandas",
    "polars",
    "jinja2",
    "matplotlib",
    "lark",
}
TIMED = """
import time
def once(statement):
    began = time.process_time()
    exec(statement, {})
    return time.process_time() - began
print(once("import pydantic"), once("import puzzledsl as pzl; [getattr(pzl, name) for name in pzl.__all__]"))
"""


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


def test_every_name_is_there() -> None:
    assert set(pzl.__all__) <= set(dir(pzl))
    assert all(getattr(pzl, name) is not None for name in pzl.__all__)
    with pytest.raises(AttributeError, match="no attribute 'solve'"):
        pzl.solve  # noqa: B018


def test_importing_every_name_loads_nothing_heavy() -> None:
    code = "import sys, puzzledsl as pzl; [getattr(pzl, n) for n in pzl.__all__]; print(*sys.modules)"
    loaded = {name.split(".")[0] for name in python(code).split()}
    assert "puzzledsl" in loaded and not loaded & (HEAVY | {"pydantic"})


def test_importing_takes_less_than_pydantic() -> None:
    """CPU of importing every public name, beside that of `import pydantic` before it: about half as much, 14 ms."""
    pairs = [tuple(map(float, python(TIMED).split())) for _ in range(3)]
    pydantic, ours = (min(times) for times in zip(*pairs, strict=True))
    assert ours < 2 * pydantic, (ours, pydantic)


def test_solving_loads_no_torch(tmp_path: object) -> None:
    code = """
import sys, puzzledsl as pzl
program = pzl.load("examples/frontier.pzl", build=sys.argv[1])
answer = program.solve("best")
program.frontier("speed"), program.space("wide"), program.costs("wide")
program.metrics("best", answer.layers)
print(*sys.modules)
"""
    loaded = {name.split(".")[0] for name in python(code, str(tmp_path)).split()}
    assert "numpy" in loaded and not loaded & {"torch", "transformers", "safetensors"}
