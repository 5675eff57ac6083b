"""Ten broken programs, as a user sees them: `tests/cli/broken/NAME.pzl` and the whole of what pzl says, `NAME.err`.

`PZL_UPDATE_GOLDENS=1 pytest tests/cli/test_broken.py` rewrites the `.err` files; read them before you commit.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from puzzledsl.cli.main import run

BROKEN = Path(__file__).parent / "broken"
COMMAND = {"impossible_requirement": "solve"}


@pytest.mark.parametrize("name", sorted(path.stem for path in BROKEN.glob("*.pzl")))
def test_broken(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(BROKEN)
    monkeypatch.setenv("NO_COLOR", "1")
    command = COMMAND.get(name, "check")
    code = run([command, f"{name}.pzl", *(["-o", str(tmp_path)] if command == "solve" else [])])
    said = capsys.readouterr()
    assert code == 1
    assert said.out == ""
    golden = BROKEN / f"{name}.err"
    if os.environ.get("PZL_UPDATE_GOLDENS"):
        golden.write_text(said.err)
    assert said.err == golden.read_text()
    assert re.search(r"^error\[E\d{4}\]: ", said.err)
    assert f"--> {name}.pzl:" in said.err
    assert "^" in said.err
    assert "= help: " in said.err or "= note: " in said.err


def test_there_are_ten() -> None:
    assert len(list(BROKEN.glob("*.pzl"))) == len(list(BROKEN.glob("*.err"))) == 10
