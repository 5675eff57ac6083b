"""A package that is installed for one process: its code and a `.dist-info` folder on PYTHONPATH, as pip would leave them."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import forked

ROOT = Path(__file__).parents[2]
LOW_RANK = Path(__file__).parent / "low_rank"
Run = Callable[..., subprocess.CompletedProcess[str]]


def install(site: Path, package: Path) -> dict[str, str]:
    """Write the package's `.dist-info`; return the environment of processes that have it."""
    project = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n{name} = {value}\n" for group, names in groups for name, value in names.items()]
    (info / "entry_points.txt").write_text("".join(lines))
    path = os.pathsep.join(map(str, (ROOT, package, site)))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


def runner(environment: dict[str, str], *, fork: bool = False) -> Run:
    """Return a function that runs `python ARGUMENTS` in an environment: anew, or forked from a process that has it."""

    def run(*arguments: str, cwd: Path = ROOT, code: int = 0) -> subprocess.CompletedProcess[str]:
        if fork:
            done = forked.run([*arguments], env=environment, cwd=cwd, timeout=900)
        else:
            command = [sys.executable, *arguments]
            done = subprocess.run(
                command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900, check=False
            )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run Python with the low-rank package installed."""
    return runner(install(tmp_path_factory.mktemp("site"), LOW_RANK), fork=True)
