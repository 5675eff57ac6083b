"""Ctrl-C ends every command with 130 and its one line, whatever the library underneath makes of the interrupt."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PRESS = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
LIBRARIES = {
    "passes it on": f"""
def command():
    {PRESS}
""",
    "is inside exec of a text": f"""
def command():
    exec({PRESS!r})
""",
    "makes another error of it": f"""
def command():
    try:
        {PRESS}
    except KeyboardInterrupt:
        raise ImportError("initialization failed")
""",
    "swallows it": f"""
def command():
    from puzzledsl.pipeline.process import Reporter
    try:
        {PRESS}
    except KeyboardInterrupt:
        pass
    with Reporter(None) as progress:
        progress.start("the next task", 1)
        print("went on")
""",
    "is CP-SAT, which had its own handler": f"""
def command():
    from ortools.sat.python.cp_model_helper import CpModelProto, SolveWrapper
    from puzzledsl.search.problem.instance import Effort
    from puzzledsl.search.cpsat.solve import parameters_of, solve_interruptibly
    solver = SolveWrapper()
    solver.set_parameters(parameters_of(Effort.of(10.0)))
    solve_interruptibly(solver, CpModelProto())
    {PRESS}
""",
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_interrupt_ends_the_command(library: str, tmp_path: Path) -> None:
    start = (
        "from puzzledsl.cli import app, main\n"
        "app.application = lambda *words: lambda *arguments, **options: command()\n"
        "main.main()\n"
    )
    (tmp_path / "interrupted.py").write_text(LIBRARIES[library] + start)
    # As `-m`: only there an interrupt inside the exec of a text leaves its mark on the exit code.
    result = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 130, result.stderr
    assert "what was finished is kept" in result.stderr and "Traceback" not in result.stderr
    assert "went on" not in result.stdout
