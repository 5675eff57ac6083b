"""`pzl cost`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from puzzledsl.cli.main import run
from tests.cli.test_commands import pzl

PROGRAM = """\
use "std/parents.pzl" (smollm2_135m)
use "std/hardware.pzl" (l40s)
parent p = smollm2_135m
hardware card = l40s(dtype: fp8, kv_cache: fp8)
hardware here = measured(device: cpu)
scenario chat on card = batch(4 | 64, 128 -> 64)
scenario desk on here = batch(1, 128 -> 64)
space w of p { attention = parent | noop, ffn = parent | noop }
search s of w {
  maximize params
  require chat.latency <= 0.6x
}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "p.pzl"
    path.write_text(PROGRAM)
    return path


def test_cost_shows_the_parent_then_a_child(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cost", str(file)]) == 0
    parent = capsys.readouterr().out
    assert parent.startswith("parent p, scenario chat on card: batch 64, 128 -> 64 tokens\n")
    assert "  0-29    parent     parent " in parent and "desk" not in parent
    assert run(["cost", str(file), "--solution", "s"]) == 1  # not solved yet
    assert "pzl solve" in capsys.readouterr().err
    assert run(["solve", str(file)]) == 0
    capsys.readouterr()
    assert run(["cost", str(file), "--solution", "s", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["model"] == "child s" and len(told["layers"]) == 30
    assert told["metrics"]["latency"] <= 0.6 * told["parent_metrics"]["latency"]
    solution = json.loads((file.parent / "build" / "solutions" / "s.json").read_text())["solutions"][0]
    assert told["metrics"]["latency"] == solution["metrics"]["chat.latency"]
    assert told["batch"] == solution["batches"]["chat"]


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [("--scenario", "chatt", "chat"), ("--solution", "t", "`t`"), ("--scenario", "desk", "pzl measure")],
)
def test_cost_says_what_it_cannot_show(
    file: Path, option: str, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["cost", str(file), option, name]) == 1
    assert message in capsys.readouterr().err


def test_it_loads_no_torch(file: Path) -> None:
    code, _, err, loaded = pzl("cost", file)
    assert code == 0 and not loaded & {"torch", "transformers"}, err


def test_a_sub_block_that_is_not_there_is_none(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(
        'use "std/hardware.pzl" (h200)\n'
        'parent n = shape(family: nemotron_h, pattern: "MM-*E", hidden: 64, heads: 8, kv_heads: 2, head_dim: 8,\n'
        "  intermediate: 96, vocab: 256, experts: 8, top_k: 2, expert_width: 32,\n"
        "  mixer: mamba2(heads: 4, head_dim: 8, groups: 2, state: 8))\n"
        "scenario chat on h200 = batch(1, 16 -> 16)\n"
    )
    assert run(["cost", str(file)]) == 0
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert [row for row in rows if row and row[0][0].isdigit()] == [
        ["0-1", "parent", "none"],
        ["2", "none", "parent"],
        ["3", "parent", "none"],
        ["4", "none", "parent"],
    ]
