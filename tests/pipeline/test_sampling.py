"""Sampled text in a run: a task before all that reads it, the same after a SIGKILL, stale with what it is made from."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from puzzledsl.cli.main import run
from puzzledsl.ir.tables import WrittenText
from tests.pipeline.test_run import COMMAND, ENVIRONMENT, events
from tests.pipeline.test_status import said, told, told_states
from tests.tiny import save_tiny

PROGRAM = """\
parent tiny = hf("parent")
space wide of tiny { attention = parent | gqa(kv_heads: 1), ffn = parent | noop }
data own = sampled(tiny, tokens: 3000, length: 24, dtype: fp32)
data both = 0.5 * own + 0.5 * sampled(tiny, tokens: 900, length: 24, prompts: "p.txt", dtype: fp32)
bld pieces of wide { tokens = 128, context = 16, batch = 2, calibration = 128, data = both }
score kl of pieces = replace_one(kl_divergence, samples: 64, data: own)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "parent", layers=2)
    (tmp_path / "p.txt").write_text("one two\n\nthree")
    file = tmp_path / "own.pzl"
    file.write_text(PROGRAM)
    return file


def started(program: Path, *more: str) -> list[str]:
    """The tasks of a run, in this process."""
    seen = len(events(program.parent / "build"))
    assert run(["run", str(program), *more]) == 0
    new = events(program.parent / "build")[seen:]
    return [f"{e['stage']} {e['name']}".strip() for e in new if e["event"] == "start"]


def texts(build: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (build / "sampled").glob("[!.]*")}


@pytest.mark.slow
def test_a_killed_run_goes_on_and_leaves_the_same_text(program: Path) -> None:
    program.write_text(PROGRAM.replace("tokens: 3000", "tokens: 6000"))
    whole, broken = program.parent / "whole", program.parent / "broken"
    assert run(["sample", str(program), "own", "-o", str(whole)]) == 0
    process = subprocess.Popen(
        [*COMMAND, "sample", str(program), "own", "-o", str(broken)],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    work, deadline = broken / "work" / "sample", time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None and not list(work.glob("*/000000.json")):
        time.sleep(0.01)
    assert process.poll() is None, "it was done before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (broken / "sampled").exists() or not texts(broken)
    (first,) = work.glob("*/000000.json")
    kept = first.stat().st_mtime_ns
    command = subprocess.Popen([*COMMAND, "sample", str(program), "own", "-o", str(broken)], env=ENVIRONMENT)
    while command.poll() is None and first.exists():
        assert first.stat().st_mtime_ns == kept, "a finished batch is not written again"
        time.sleep(0.01)
    assert command.wait() == 0 and texts(broken) == texts(whole)


@pytest.mark.usefixtures("known_rates")
def test_texts_are_written_before_they_are_read_and_again_when_they_must(
    program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = program.parent
    code, _, err = said("bld", program)
    assert code == 1 and "error[E1222]" in err and "pzl sample" in err
    before = told_states(program)
    assert list(before)[:2] == ["sample own", "sample both"]
    steps = {f"{s['stage']} {s['name']}": s for s in told("run", program, "--dry-run")["steps"]}
    assert steps["sample own"]["memory"][0]["parts"]["KV cache"] > 0
    assert started(program)[:3] == ["sample own", "sample both", "bld pieces"]
    assert {state for state, _ in told_states(program).values()} == {"done"}
    written = {name.split("-")[0]: len(content) for name, content in texts(base / "build").items()}
    assert list(written) == ["tiny"] and len(texts(base / "build")) == 2
    found = [line for content in texts(base / "build").values() for line in content.splitlines()]
    assert {WrittenText.from_json(line).prompt for line in found} > {1}

    (base / "p.txt").write_text("one two\n\nfour")
    states = told_states(program)
    assert states["sample both"] == ("stale", "the prompts changed") and states["sample own"][0] == "done"
    assert states["bld pieces"] == ("stale", "after sample both")
    assert started(program, "--until", "bld") == ["sample both", "bld pieces"]
    program.write_text(PROGRAM.replace("tokens: 3000", "tokens: 3001"))
    assert told_states(program)["sample own"] == ("stale", "how the text is written changed")
    capsys.readouterr()
    assert run(["plan", str(base / "build"), str(program)]) == 0
    assert "sample own" in capsys.readouterr().out


def test_mistakes_are_told_before_anything_runs(program: Path) -> None:
    assert "W1209" not in said("check", program)[2]
    (program.parent / "p.txt").rename(program.parent / "q.txt")
    assert "no file matches `p.txt`, needed by bld `pieces`" in said("check", program)[2]
    (program.parent / "p.txt").write_text("\n")
    code, _, err = said("run", program)
    assert code == 1 and "error[E1220]" in err
    program.write_text(PROGRAM.replace("tokens: 3000", "tokens: 100").replace("data = both", "data = own"))
    (program.parent / "p.txt").write_text("one")
    code, _, err = said("run", program)
    assert code == 1 and "error[E1204]: data `own` has 100 tokens" in err
    assert not (program.parent / "build" / "sampled").exists()
