"""Commands as a user types them: exit codes, streams, and what is never loaded."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from puzzledsl.cli.main import run

ROOT = Path(__file__).parents[2]
EXAMPLES = {
    "nemotron51b": ROOT / "examples" / "nemotron51b.pzl",
    "smollm2": ROOT / "examples" / "smollm2" / "smollm2.pzl",
}
PROBE = """
import sys
from puzzledsl.cli.main import run
code = run(sys.argv[1:])
heavy = sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'transformers'})
print('HEAVY', heavy, file=sys.stderr)
sys.exit(code)
"""


def pzl(*arguments: str | Path, timeout: int = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROBE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.mark.parametrize("name", EXAMPLES)
def test_check_is_light_and_warns_of_missing_texts_alone(name: str) -> None:
    result = pzl("check", EXAMPLES[name])
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("no errors\n")
    assert result.stderr.endswith("HEAVY []\n")
    assert set(re.findall(r"^\w+\[(.*)\]", result.stderr, re.MULTILINE)) <= {"W1209"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_compile_is_light_and_repeatable(name: str, tmp_path: Path) -> None:
    for build in ("one", "two"):
        result = pzl("compile", EXAMPLES[name], "-o", tmp_path / build)
        assert result.returncode == 0, result.stderr
        assert "HEAVY []" in result.stderr
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert Path("ir.json") in files
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes(), path


def test_compile_prints_the_size_of_the_search(tmp_path: Path) -> None:
    result = pzl("compile", EXAMPLES["nemotron51b"], "-o", tmp_path)
    assert "80 layers, 54 alternatives a layer, 10^" in result.stdout
    assert "bld pieces:" in result.stdout and "jobs" in result.stdout


def test_solve_without_scores_names_the_command(tmp_path: Path) -> None:
    result = pzl("solve", EXAMPLES["nemotron51b"], "nemotron51b", "-o", tmp_path)
    assert result.returncode == 1
    assert "E0610" in result.stderr and "pzl score" in result.stderr
    assert "HEAVY []" in result.stderr


SCORE_FREE = """\
use "std/hardware.pzl" (h100_sxm)
use "std/parents.pzl" (llama3_1_8b)
parent llama = hf("meta-llama/Llama-3.1-8B-Instruct", shape: llama3_1_8b)
hardware h100 = h100_sxm(memory: 80GiB, gpus: 1, dtype: fp8, kv_cache: fp8)
scenario chat on h100 = batch(64, 128 -> 1024)
space wide of llama {
  attention = parent | gqa(kv_heads: 4 | 2 | 1) | noop
  ffn = parent | mlp(width: 75% | 50%) | noop
}
search small of wide {
  maximize params
  require chat.throughput >= 1.5x
  require chat.memory <= 12GiB
}
"""


def test_solve_max_params_needs_no_scores(tmp_path: Path) -> None:
    program = tmp_path / "small.pzl"
    program.write_text(SCORE_FREE)
    result = pzl("solve", program, "--json")
    assert result.returncode == 0, result.stderr
    assert "HEAVY []" in result.stderr
    (answer,) = json.loads(result.stdout)
    assert answer["status"] == "optimal"
    metrics = answer["solutions"][0]["metrics"]
    assert metrics["chat.memory"] <= 12 * 2**30
    assert answer["bound"] == answer["objective"] == metrics["params"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_paper_search_maximises_params_within_its_requirements(tmp_path: Path) -> None:
    result = pzl("solve", EXAMPLES["nemotron51b"], "maxparams", "-o", tmp_path, "--json", timeout=800)
    assert result.returncode == 0, result.stderr
    (answer,) = json.loads(result.stdout)
    assert answer["status"] in ("optimal", "feasible")
    for solution in answer["solutions"]:
        assert solution["metrics"]["params"] <= min(51.5e9, answer["bound"])
        assert solution["metrics"]["chat.memory"] <= 0.95 * 80 * 2**30


def test_check_json(tmp_path: Path) -> None:
    program = tmp_path / "bad.pzl"
    program.write_text('parnt p = hf("x")\n')
    result = pzl("check", program, "--json")
    assert result.returncode == 1
    diagnostic = json.loads(result.stdout)["diagnostics"][0]
    assert diagnostic["start"] == {"line": 1, "column": 1}
    assert "parent" in diagnostic["help"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["check"], 2),
        (["chek", "x.pzl"], 2),
        (["check", "nowhere.pzl"], 1),
        (["--version"], 0),
    ],
)
def test_exit_codes(arguments: list[str], code: int) -> None:
    assert pzl(*arguments).returncode == code


def test_a_wrong_setting_is_a_usage_error() -> None:
    assert pzl("check", EXAMPLES["nemotron51b"], "--set", "headroom").returncode == 2
    result = pzl("check", EXAMPLES["nemotron51b"], "--set", "hedroom=90%")
    assert result.returncode == 1 and "headroom" in result.stderr


@pytest.mark.parametrize(
    ("command", "place"),
    [("compile", "/proc/x"), ("compile", "/dev/null/x"), ("run", "/proc/x"), ("run", "file")],
)
def test_a_place_that_takes_no_build_is_told(command: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here already")
    result = pzl(command, EXAMPLES["smollm2"], "-o", tmp_path / place)
    assert result.returncode == 1, result.stderr
    assert f"error[E0608]: cannot write `{tmp_path / place}" in result.stderr
    assert (tmp_path / "file").read_text() == "here already"


def test_fmt_leaves_the_examples_alone() -> None:
    result = pzl("fmt", "--check", *EXAMPLES.values())
    assert result.returncode == 0, result.stdout


class _Stdin:
    def __init__(self, text: str) -> None:
        self.buffer = io.BytesIO(text.encode())


@pytest.mark.parametrize(
    ("text", "arguments", "code", "out"),
    [
        ("let   a=3\r\n", (), 0, "let a = 3\r\n"),
        ("let a = 3\n", ("--check",), 0, ""),
        ("let   a=3\n", ("--check",), 1, "would reformat -\n"),
        ("let   a=3\n", ("--diff",), 1, "--- -\n+++ - (formatted)\n@@ -1 +1 @@\n-let   a=3\n+let a = 3\n"),
        ("let a =\n", (), 1, ""),
    ],
)
def test_fmt_reads_stdin(
    text: str,
    arguments: tuple[str, ...],
    code: int,
    out: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", _Stdin(text))
    assert run(["fmt", "-", *arguments]) == code
    said = capsys.readouterr()
    assert said.out == out
    assert ("error[E0001]: unexpected end of line\n --> -:1:8" in said.err) == text.endswith("=\n")


def test_unknown_search_is_a_did_you_mean(tmp_path: Path) -> None:
    result = pzl("solve", EXAMPLES["nemotron51b"], "maxparam", "-o", tmp_path)
    assert result.returncode == 1 and "did you mean `maxparams`" in result.stderr
