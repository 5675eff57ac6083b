"""`pzl cost` and `pzl calibrate`."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from puzzledsl.checker.check import profiles_of
from puzzledsl.cli.main import run
from puzzledsl.cli.schemas.registry import DESCRIBED
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
CELLS = """\
model,prompt,output,batch,throughput,use
llama3_1_8b,128,128,8,900,fit
llama3_1_8b,128,2048,8,1000,fit
llama3_1_8b,2048,128,8,600,held_out
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
    ("arguments", "code", "message"),
    [
        (["--scenario", "chatt"], 1, "chat"),
        (["--solution", "t"], 1, "`t`"),
        (["--scenario", "desk"], 1, "pzl measure"),
    ],
)
def test_cost_says_what_it_cannot_show(
    file: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["cost", str(file), *arguments]) == code
    assert message in capsys.readouterr().err


def test_calibrate_writes_a_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "own.csv"
    data.write_text(CELLS)
    arguments = ["calibrate", "rtx4090", "--data", str(data), "--fit", "overhead", "--fit", "bandwidth"]
    assert run(arguments) == 0
    out = capsys.readouterr().out
    assert out.startswith("fitted 2 constants to 2 cells\n") and "held out: 1 cells" in out
    written = tmp_path / "own.pzl"
    text = written.read_text()
    assert run(arguments) == 0 and written.read_text() == text
    capsys.readouterr()
    again = [*arguments[:1], f"{written}:rtx4090_calibrated", *arguments[2:]]
    assert run([*again, "-o", str(tmp_path / "next" / "second.pzl"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(DESCRIBED["pzl-calibrate"].schema()).validate(told)
    first = profiles_of(written)["rtx4090_calibrated"]
    second = profiles_of(tmp_path / "next" / "second.pzl")["rtx4090_calibrated_calibrated"]
    assert told["constants"] == {
        "overhead_s": float(first.overhead_s),
        "efficiency_bandwidth": float(first.efficiency_bandwidth),
    }
    assert (second.overhead_s, second.page_tokens) == (first.overhead_s, first.page_tokens)


@pytest.mark.parametrize(
    ("profile", "extra", "code", "message"),
    [
        ("rtx4091", [], 1, "did you mean `rtx4090`"),
        ("rtx4090", [], 1, "2 cells to fit to do not determine 4 constants"),
        ("rtx4090", ["--fit", "speed"], 2, "`speed` is none of"),
        ("no.pzl:rtx4090", [], 1, "no.pzl"),
    ],
)
def test_calibrate_says_what_is_wrong(
    tmp_path: Path,
    profile: str,
    extra: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "own.csv"
    data.write_text(CELLS)
    assert run(["calibrate", profile, "--data", str(data), *extra]) == code
    assert message in capsys.readouterr().err
    assert not data.with_suffix(".pzl").exists()


def test_calibrate_without_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["calibrate", "rtx4090", "--data", str(tmp_path / "no.csv")]) == 1
    assert "cannot read the figures" in capsys.readouterr().err


def test_neither_loads_torch(file: Path) -> None:
    data = file.parent / "own.csv"
    data.write_text(CELLS)
    for arguments in (["cost", file], ["calibrate", "rtx4090", "--data", data, "--fit", "overhead"]):
        result = pzl(*arguments)
        assert result.returncode == 0 and "HEAVY []" in result.stderr, result.stderr


def test_a_sub_block_that_is_not_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.pzl"
    path.write_text(
        'use "std/hardware.pzl" (h200)\n'
        'parent n = shape(family: nemotron_h, pattern: "MM-*E", hidden: 64, heads: 8, kv_heads: 2, head_dim: 8,\n'
        "  intermediate: 96, vocab: 256, experts: 8, top_k: 2, expert_width: 32,\n"
        "  mixer: mamba2(heads: 4, head_dim: 8, groups: 2, state: 8))\n"
        "scenario chat on h200 = batch(1, 16 -> 16)\n"
    )
    assert run(["cost", str(path)]) == 0
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert [row for row in rows if row and row[0][0].isdigit()] == [
        ["0-1", "parent", "none"],
        ["2", "none", "parent"],
        ["3", "parent", "none"],
        ["4", "none", "parent"],
    ]
