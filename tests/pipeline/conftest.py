"""One finished build of the tiny program a worker; tests take copies of it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from puzzledsl.measure import stopwatch
from puzzledsl.measure.stopwatch import Rates
from tests.pipeline.tiny_program import ran, write_tiny_program


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `.pzl` file of a program that `pzl run` has done, with its build directory beside it. Not to be changed."""
    program = write_tiny_program(tmp_path_factory.mktemp("finished"))
    ran("run", program)
    return program


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the finished program, or of another one, to do anything with."""

    def copy(program: Path = finished) -> Path:
        shutil.copytree(program.parent, tmp_path / "copy")
        return tmp_path / "copy" / program.name

    return copy


@pytest.fixture
def known_rates(monkeypatch: pytest.MonkeyPatch) -> Rates:
    """Speeds of this machine that dry runs rest on, without the seconds of measuring them."""
    rates = Rates(flop_per_s=1e11, bytes_per_s=4e9)
    monkeypatch.setattr(stopwatch, "rates_of", lambda *_: rates)
    return rates
