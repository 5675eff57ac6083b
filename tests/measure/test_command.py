"""`pzl measure`: the table, its copy for others, and what sums of blocks are worth."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from puzzledsl.checker.check import check
from puzzledsl.cli.main import run
from puzzledsl.costs.table import cost_table
from puzzledsl.ir.tables import CostTable
from puzzledsl.measure import estimate
from tests.documents import ROOT, blocks
from tests.tiny import save_tiny

PROGRAM = """\
parent tiny = hf("parent")
space wide of tiny {
  attention = parent | gqa(kv_heads: 1) | noop
  ffn = parent | mlp(width: 50%, round: 8) | noop
}
hardware here = HARDWARE
scenario chat on here = batch(1 | 2, 8 -> 4)
"""


@pytest.fixture
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "ROUNDS", 1)
    monkeypatch.setattr(estimate, "CHECK_ROUNDS", 1)


def test_the_commands_of_readme_work_in_their_order(
    tmp_path: Path, few_rounds: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the starter of a checkpoint: each command that needs neither text nor pieces, one after the other."""
    monkeypatch.chdir(tmp_path)
    save_tiny(tmp_path / "checkpoints" / "mine", layers=3)
    own = next(block.text for block in blocks(ROOT / "README.md") if "pzl measure my.pzl" in block.text)
    commands = [shlex.split(line, comments=True)[1:] for line in own.splitlines()]
    starters = [command for command in commands if command[0] == "new"]
    assert [run([*starter, "--force"]) for starter in starters[2:] + starters[:1]] == [0, 0]
    shutil.copy("my.pzl", "old.pzl")
    after = [command for command in commands if command[0] not in ("new", "run", "solve")]
    assert [command[0] for command in after] == ["check", "show", "measure", "cost", "plan", "compile"]
    for command in after:
        assert run(command) == 0, (command, capsys.readouterr().err)
    assert commands[-2:] == [["run", "my.pzl"], ["solve", "my.pzl"]]


def test_measured_here_used_elsewhere(
    tmp_path: Path, few_rounds: None, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiny(tmp_path / "parent", layers=3)
    here, elsewhere = tmp_path / "here.pzl", tmp_path / "elsewhere.pzl"
    here.write_text(PROGRAM.replace("HARDWARE", "measured(device: cpu)"))
    assert run(["measure", str(here)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("wide, chat: measured on ") and out.count("speed-up of a sum off by ") == 2
    costs = tmp_path / "build" / "costs"
    measured = CostTable.from_json((costs / "wide.measured.json").read_bytes())
    elsewhere.write_text(PROGRAM.replace("HARDWARE", 'table("build/costs/wide.measured.csv")'))
    program = check(elsewhere, {}).program
    assert program is not None
    read = cost_table(program, "wide", tmp_path)
    assert read.scenarios == measured.scenarios
    assert run(["cost", str(here)]) == 0
    assert "scenario chat on here" in capsys.readouterr().out
