"""From a file or a text to a program: parameters, build directories, and errors that show their lines."""

from pathlib import Path

import pytest

import puzzledsl as pzl
from puzzledsl.cli.main import run
from tests.api.programs import PROGRAM, write_program


def test_a_parameter_is_what_set_gives(tmp_path: Path) -> None:
    file = write_program(tmp_path)
    plain, fast = pzl.load(file), pzl.load(file, speedup="2x")
    assert plain.ir.params["speedup"] == "1.3x" and fast.ir.params["speedup"] == "2x"
    assert plain.ir.searches["best"] != fast.ir.searches["best"]
    assert repr(plain) == "<Program p.pzl: space wide, narrow; search best, none; frontier curve>"


def test_mistakes_are_diagnostics_with_their_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_program(tmp_path, PROGRAM.replace("minimize kl", "minimize kll", 1))
    with pytest.raises(pzl.DiagnosticError) as caught:
        pzl.load(file)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "E0201" and diagnostic.span is not None and diagnostic.span.line == 13
    (note,) = caught.value.__notes__
    assert run(["check", str(file)]) == 1
    assert note.startswith(capsys.readouterr().err.strip())
    with pytest.raises(pzl.DiagnosticError, match="no such file"):
        pzl.load(tmp_path / "nowhere.pzl")


def test_a_param_may_be_named_like_an_argument(tmp_path: Path) -> None:
    names = ("build", "path", "folder", "text", "settings")
    text = "".join(f"param {name}: Count = 3\n" for name in names)
    given = dict.fromkeys(names, 4)
    file = tmp_path / "named.pzl"
    file.write_text(text)
    assert set(pzl.load(file, settings=given).ir.params.values()) == {"4"}
    assert set(pzl.parse(text, settings=given).ir.params.values()) == {"4"}
    assert pzl.parse(text, text=5, path=6).ir.params["text"] == "5"
