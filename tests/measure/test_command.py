"""`pzl measure`: the table, its copy for others, the kinds of a hybrid's layers, and what sums of blocks are worth."""

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

PARENT = 'parent tiny = hf("parent")\n'
SPACE = """\
space wide of tiny {
  attention = parent | gqa(kv_heads: 1) | noop
  ffn = parent | mlp(width: 50%, round: 8) | noop
}
"""
HYBRID = """\
space wide of tiny {
  attention = parent
  ffn = parent
  layers[0, 2].attention = parent | linear | noop
  layers[1, 3].attention = parent | gqa(kv_heads: 1) | noop
  layers[0..3].ffn = parent | noop
}
"""
HERE = "hardware here = measured(device: cpu)\nscenario chat on here = batch(1 | 2, 8 -> 4)\n"


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "ROUNDS", 1)
    monkeypatch.setattr(estimate, "CHECK_ROUNDS", 1)


def measured(folder: Path, text: str) -> CostTable:
    (folder / "here.pzl").write_text(text)
    assert run(["measure", str(folder / "here.pzl")]) == 0
    return CostTable.from_json((folder / "build" / "costs" / "wide.measured.json").read_bytes())


def test_the_commands_of_readme_work_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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


def test_measured_here_used_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny(tmp_path / "parent", layers=3)
    table, elsewhere = measured(tmp_path, PARENT + SPACE + HERE), tmp_path / "elsewhere.pzl"
    out = capsys.readouterr().out
    assert out.startswith("wide, chat: measured on ") and out.count("speed-up of a sum off by ") == 2
    read_from = 'table("build/costs/wide.measured.csv")'
    elsewhere.write_text(PARENT + SPACE + HERE.replace("measured(device: cpu)", read_from))
    program = check(elsewhere, {}).program
    assert program is not None
    assert cost_table(program, "wide", tmp_path).scenarios == table.scenarios
    assert run(["cost", str(tmp_path / "here.pzl")]) == 0
    assert "scenario chat on here" in capsys.readouterr().out


def test_a_delta_net_and_an_attention_have_their_own_times(tmp_path: Path) -> None:
    save_tiny(tmp_path / "parent", "qwen3_next", layers=4)
    attention = (
        measured(tmp_path, PARENT + HYBRID + HERE.replace("1 | 2", "1")).scenarios["chat"][0].attention
    )
    assert attention[0] == attention[2] and attention[1] == attention[3]
    assert [set(layer) for layer in attention[:2]] == [
        {"parent", "linear", "noop"},
        {"parent", "gqa1", "noop"},
    ]
    delta_net, full = (layer["parent"] for layer in attention[:2])
    assert delta_net.decode_ns != full.decode_ns
    assert 0 < delta_net.kv_cache_bytes != full.kv_cache_bytes > 0
