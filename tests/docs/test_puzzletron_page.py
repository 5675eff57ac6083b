"""What the how-to shows of an imported run is what an import makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.cli.main import run
from tests.documents import ROOT, blocks
from tests.importing.puzzle_run import write_run


def test_the_page_shows_an_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = blocks(ROOT / "docs/howto/puzzletron.md")
    shown = next(block.text for block in page if block.language == "pzl")
    out = tmp_path / "imported"
    assert run(["import", "puzzletron", str(write_run(tmp_path / "run")), "-o", str(out)]) == 0
    said = capsys.readouterr().out.replace(f"{tmp_path}/", "")
    program = out / "puzzletron.pzl"
    assert page[0].text == "$ pzl import puzzletron run -o imported\n" + said
    assert shown in program.read_text("utf-8")
    program.write_text(program.read_text("utf-8") + "\n" + page[-1].text, "utf-8")
    assert run(["check", str(program)]) == 0
    assert "no errors" in "".join(capsys.readouterr())
    assert run(["solve", str(program), "target_memory_6MiB"]) == 0
    assert "optimal (objective 0.07, bound 0.07, gap 0)" in capsys.readouterr().out
