"""The section on other engines: what was found is there, with its exact values; what was not tried is not."""

from __future__ import annotations

from pathlib import Path

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.files import write_text
from puzzledsl.ir.tables import EngineCheck, EngineResult, EngineSpeed
from puzzledsl.report.artefacts import load_artefacts
from puzzledsl.report.write import render
from tests.report.test_report import Page


def speed(model, dtype: str, nbytes: int, prefill: float, decode: float) -> EngineSpeed:
    return EngineSpeed(
        model=model,
        engine="llama_cpp",
        version="1",
        dtype=dtype,
        weights_bytes=nbytes,
        prefill_tokens_per_s=prefill,
        decode_tokens_per_s=decode,
        text=" Paris <3." if model == "child" else "",
    )


CHECK = EngineCheck(
    name="child",
    results=(
        EngineResult(
            engine="mlx", version="mlx 1", status="equal", max_delta=1.5e-6, largest=9.0, same=64, tokens=64
        ),
        EngineResult(engine="vllm", status="refused", reason="vLLM has no windows"),
    ),
    speeds=(speed("parent", "q8_0", 1000, 100.0, 10.0), speed("child", "q8_0", 750, 150.0, 25.0)),
    prompt=128,
    output=64,
    threads=2,
)


def page(program, build: BuildDir) -> str:
    return render(load_artefacts(program, build), "")


def test_figures_of_other_engines_are_shown(built, tmp_path: Path) -> None:
    build = BuildDir(tmp_path)
    assert "In other engines" not in page(built.program, build)
    write_text(build.engines("child"), CHECK.canonical_json())
    html = page(built.program, build)
    values = {value for value, _ in Page(html).numbers}
    assert {1.5e-6, 1000, 750, 100, 150, 10, 25} <= values
    assert {1.5, 2.5, -0.25} <= values
    assert "64 of 64" in html and "vLLM has no windows" in html
    assert "Paris &lt;3." in html and "128 + 64 tokens, 2 threads" in html


def test_a_damaged_file_is_named(built, tmp_path: Path) -> None:
    build = BuildDir(tmp_path)
    write_text(build.engines("child"), "{")
    assert "engines/child.json" in page(built.program, build)
