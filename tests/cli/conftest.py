"""One fixture: commands as a user types them, in this process."""

from collections.abc import Callable
from typing import Any

import pytest

from puzzledsl.cli.main import run

Pzl = Callable[..., Any]


@pytest.fixture
def pzl(capsys: pytest.CaptureFixture[str]) -> Pzl:
    """Runs a command, which must end with `code` unless that is None; returns `out` and `err`, which it printed."""

    def ran(*arguments: object, code: int | None = 0) -> Any:
        capsys.readouterr()
        ended = run([str(a) for a in arguments])
        assert code in (None, ended), capsys.readouterr()
        return capsys.readouterr()

    return ran
