"""Traffic in the report: simulated lines of parent and child, and what was measured under load, beside them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from puzzledsl.cli.main import run
from puzzledsl.ir.tables import LoadCheck, LoadRun, SearchResult

PROGRAM = """\
use "std/hardware.pzl" (h100_sxm)
parent p = shape(family: llama, layers: 4, hidden: 1024, heads: 8, kv_heads: 4, head_dim: 128, intermediate: 4096, vocab: 32000)
hardware card = h100_sxm
scenario busy on card = traffic(300 req/s, 256 -> 64, at_most: 16)
space w of p { attention = gqa(kv_heads: 4 | 1) | noop, ffn = mlp(width: 100% | 50%) | noop }
score kl of w = table("kl.csv")
search best of w { minimize kl, require busy.max_rate >= 1.2x }
"""
FIGURES = ("rate", "ttft", "p50_ttft", "p95_ttft", "tpot", "p50_tpot", "p95_tpot")


def reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["report", str(folder / "busy.pzl")]) == 0, capsys.readouterr().err
    page = (folder / "build" / "report.html").read_text("utf-8")
    return re.sub(r"<[^>]*>", " ", page[page.index('id="traffic"') :])


def test_lines_are_simulated_and_points_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "busy.pzl").write_text(PROGRAM)
    (tmp_path / "kl.csv").write_text(
        "layer,attention,ffn,kl\n,gqa4,,0\n,gqa1,,1\n,noop,,5\n,,mlp4096,0\n,,mlp2048,1\n,,noop,5\n"
    )
    for command in ("compile", "solve"):
        assert run([command, str(tmp_path / "busy.pzl")]) == 0
    text = reported(tmp_path, capsys)
    assert "300 req/s, 256 → 64 tokens, at most 16 at once" in text
    assert text.count("simulated") >= 2 and "measured, seed" not in text
    figures = {name: 0.5 + i for i, name in enumerate(FIGURES)}
    paces = {
        "prompt_pace": 1.0,
        "token_pace": 1.0,
        "predicted": figures,
        "measured": figures | {"tpot": 0.125},
    }
    child = LoadRun.model_validate({"model": "child", "asked": 9.0, "seed": 7, "requests": 10, **paces})
    answer = SearchResult.from_json((tmp_path / "build" / "solutions" / "best.json").read_bytes())
    layers = answer.solutions[0].layers
    (tmp_path / "build" / "load").mkdir()
    run_of = {"search": "best", "scenario": "busy", "engine": "llama.cpp", "at_most": 16, "runs": (child,)}
    for of, seen in ((layers[:-1], False), (layers, True)):  # first the points of another child
        check = LoadCheck.model_validate({"layers": of, **run_of})
        (tmp_path / "build" / "load" / "best.json").write_text(check.canonical_json())
        text = reported(tmp_path, capsys)
        assert ("measured, seed 7" in text) == seen
    assert "measured, seed 7" in text and "its arrivals, simulated" in text
    assert "125ms" in text and "Points are measured" in text
