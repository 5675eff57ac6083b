"""`pzl measure`: the table, its copy for others, and what sums of blocks are worth."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.checker.check import check
from puzzledsl.cli.main import run
from puzzledsl.costs.table import cost_table
from puzzledsl.ir.tables import CostTable
from puzzledsl.measure import estimate
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


def test_measured_here_used_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimate, "ROUNDS", 1)
    monkeypatch.setattr(estimate, "CHECK_ROUNDS", 1)
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
