"""Files and outputs that no program is: full devices, unreadable directories, names that begin with a dash."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest.mock import Mock

import pytest

from puzzledsl.base.process import leave
from tests.cli.conftest import Pzl

PROGRAM = """\
parent p = shape(family: llama, layers: 2, hidden: 64, heads: 8, head_dim: 8, intermediate: 192, vocab: 256)
space w of p { attention = parent, ffn = parent }
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "my.pzl").write_text(PROGRAM)
    return tmp_path


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("words", [["check", "my.pzl", "--json"], ["--help"]], ids=" ".join)
def test_an_output_that_takes_nothing_is_no_fault_of_ours(here: Path, words: list[str]) -> None:
    command = [sys.executable, "-m", "puzzledsl.cli.main", *words]
    with open("/dev/full", "w") as full:
        ran = subprocess.run(command, cwd=here, stderr=subprocess.PIPE, text=True, stdout=full)
    assert ran.returncode == 1
    assert "No space left on device" in ran.stderr and "fault of pzl" not in ran.stderr


@pytest.mark.parametrize("closed", [True, False])
def test_the_end_awaits_work_and_tells_what_cannot_be_written(
    closed: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = Mock(closed=False, flush=Mock(side_effect=OSError(5, "it broke")))
    err = Mock(closed=closed, flush=Mock(side_effect=BrokenPipeError))
    monkeypatch.setattr("puzzledsl.base.process.sys", Mock(stdout=out, stderr=err))
    worker = Mock(daemon=False)
    monkeypatch.setattr("threading.enumerate", lambda: [worker])
    monkeypatch.setattr("atexit._run_exitfuncs", Mock())
    monkeypatch.setattr("os._exit", sys.exit)
    with pytest.raises(SystemExit, match="1"):
        leave(0)
    assert worker.join.called
    assert capfd.readouterr().err == "error: cannot write the output: it broke\n"


@pytest.mark.skipif(os.getuid() != 0, reason="another user is needed, which root alone may become")
def test_an_unreadable_directory_cannot_be_read() -> None:
    here = Path(tempfile.mkdtemp())
    here.chmod(0o755)
    (here / "build").mkdir(mode=0o300)
    code = (
        "import os, sys; from pathlib import Path; from puzzledsl.pipeline.process import disk_errors\n"
        "from puzzledsl.base.diagnostics import DiagnosticError\n"
        "import puzzledsl.pipeline.errors\n"
        "os.chown(sys.argv[1], 65534, 65534); os.setuid(65534)\n"
        "try:\n"
        "    with disk_errors(Path('elsewhere')): os.listdir(sys.argv[1])\n"
        "except DiagnosticError as error: print(error.diagnostics[0].message)\n"
    )
    said = subprocess.run([sys.executable, "-c", code, str(here / "build")], capture_output=True, text=True)
    assert said.stdout == f"cannot read the directory `{here / 'build'}`: Permission denied\n", said.stderr


def test_a_file_that_begins_with_a_dash_is_a_file(
    here: Path, monkeypatch: pytest.MonkeyPatch, pzl: Pzl
) -> None:
    monkeypatch.chdir(here)
    (here / "-my.pzl").write_text(PROGRAM.replace(" = ", "="))
    for given in (["check", "-my.pzl"], ["check", "--", "-my.pzl"], ["fmt", "-my.pzl"]):
        pzl(*given)
    assert "No such option" in pzl("check", "-other.pzl", code=2).err


def test_new_dash_prints_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pzl: Pzl) -> None:
    monkeypatch.chdir(tmp_path)
    assert "\nsearch " in pzl("new", "-", "--hardware", "h100_sxm").out and not list(tmp_path.iterdir())
