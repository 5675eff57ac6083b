"""`pzl cost`."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Pzl

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


def test_cost_shows_the_parent_then_a_child(file: Path, pzl: Pzl) -> None:
    parent = pzl("cost", str(file)).out
    assert parent.startswith("parent p, scenario chat on card: batch 64, 128 -> 64 tokens\n")
    assert "  0-29    parent     parent " in parent and "desk" not in parent
    assert "pzl solve" in pzl("cost", file, "--solution", "s", code=1).err  # not solved yet
    pzl("solve", str(file))
    (told,) = json.loads(pzl("cost", str(file), "--solution", "s", "--json").out)
    assert told["model"] == "child s" and len(told["layers"]) == 30
    assert told["metrics"]["latency"] <= 0.6 * told["parent_metrics"]["latency"]
    solution = json.loads((file.parent / "build" / "solutions" / "s.json").read_text())["solutions"][0]
    assert told["metrics"]["latency"] == solution["metrics"]["chat.latency"]
    assert told["batch"] == solution["batches"]["chat"]


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [("--scenario", "chatt", "chat"), ("--solution", "t", "`t`"), ("--scenario", "desk", "pzl measure")],
)
def test_cost_says_what_it_cannot_show(file: Path, option: str, name: str, message: str, pzl: Pzl) -> None:
    assert message in pzl("cost", str(file), option, name, code=1).err


def test_a_sub_block_that_is_not_there_is_none(file: Path, pzl: Pzl) -> None:
    file.write_text(
        'use "std/hardware.pzl" (h200)\n'
        'parent n = shape(family: nemotron_h, pattern: "MM-*E", hidden: 64, heads: 8, kv_heads: 2, head_dim: 8,\n'
        "  intermediate: 96, vocab: 256, experts: 8, top_k: 2, expert_width: 32,\n"
        "  mixer: mamba2(heads: 4, head_dim: 8, groups: 2, state: 8))\n"
        "scenario chat on h200 = batch(1, 16 -> 16)\n"
    )
    rows = [line.split()[:3] for line in pzl("cost", str(file)).out.splitlines()]
    assert [row for row in rows if row and row[0][0].isdigit()] == [
        ["0-1", "parent", "none"],
        ["2", "none", "parent"],
        ["3", "parent", "none"],
        ["4", "none", "parent"],
    ]
