"""`pzl status`, `pzl run --dry-run`, `--only`: what is said is what a run then does."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.cli import loading, main
from puzzledsl.pipeline.stamps import Stamps
from puzzledsl.pipeline.tasks import TASKS
from tests.pipeline.test_run import events, pzl

OF_NO_TASK = re.compile(
    r"log\.jsonl|\.lock|stamps/.*|library/(index\.jsonl|\.index\.lock)|tokens/.*|evals/units/.*|scores/figures/.*"
)
"""The log, locks, the stamps themselves, the library's index (a line says what made its piece) and tokenised text (named by a
digest of what it was made from), figures of scores (each file's first line says what they depend on)."""


def said(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command that changes nothing, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.run([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def told(*arguments: str | Path) -> Any:
    code, out, err = said(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def told_states(program: Path, *more: str) -> dict[str, tuple[str, str]]:
    tasks = told("status", program, *more)["tasks"]
    return {f"{t['stage']} {t['name']}".strip(): (t["state"], t["why"]) for t in tasks}


def done_by_a_run(program: Path, *more: str) -> list[str]:
    seen = len(events(program.parent / "build"))
    result = pzl("run", program, *more)
    assert result.returncode == 0, result.stderr
    new = events(program.parent / "build")[seen:]
    return [f"{e['stage']} {e['name']}".strip() for e in new if e["event"] == "start"]


def test_all_is_done_after_a_run_and_nothing_before(finished: Path, tmp_path: Path) -> None:
    now = told_states(finished)
    assert {state for state, _ in now.values()} == {"done"}
    assert list(dict.fromkeys(key.split()[0] for key in now)) == [
        s for s in TASKS if s not in ("measure", "frontier", "refine")
    ]
    fresh = told_states(finished, "-o", str(tmp_path / "none"))
    assert fresh.keys() == now.keys() and {state for state, _ in fresh.values()} == {"missing"}
    assert not (tmp_path / "none").exists()


def test_what_is_said_to_be_stale_is_what_a_run_does(copied: Callable[[], Path]) -> None:
    program = copied()
    program.write_text(program.read_text().replace("chat.throughput >= 1.2x", "chat.throughput >= 1.3x"))
    now = told_states(program)
    assert now["solve best"] == ("stale", "the declaration changed")
    assert now["realise best"] == ("stale", "after solve best")
    assert now["bld pieces"][0] == now["score kl"][0] == "done"
    stale = {name for name, (state, _) in now.items() if state != "done"}
    done = set(done_by_a_run(program))
    assert done <= stale and {"solve best", "realise best", "uptrain final", "report"} <= done
    assert {state for state, _ in told_states(program).values()} == {"done"}


def test_a_damaged_file_is_named(copied: Callable[[], Path]) -> None:
    program = copied()
    scores = program.parent / "build" / "scores" / "kl.json"
    scores.write_text(scores.read_text().replace("1", "2", 1))
    (program.parent / "out" / "model.safetensors").unlink()
    now = told_states(program)
    assert now["score kl"] == ("stale", "`scores/kl.json` changed or gone since")
    assert now["export ship"][0] == "stale"
    assert {"score kl", "export ship"} <= set(done_by_a_run(program))
    assert (program.parent / "out" / "model.safetensors").is_file()


@pytest.mark.usefixtures("known_rates")
def test_a_dry_run_says_what_a_run_does_and_does_nothing(copied: Callable[[], Path], tmp_path: Path) -> None:
    program = copied()
    build = tmp_path / "none"
    plan = told("run", program, "--dry-run", "-o", build)
    assert not build.exists()
    assert [s["stage"] for s in plan["steps"] if s["stage"] != "solve"][:2] == ["bld", "score"]
    assert plan["seconds"] > 0 and plan["free_bytes"] > plan["bytes"] > 0
    text = said("run", program, "--dry-run", "-o", build)[1]
    assert "bld pieces" in text and " free" in text.splitlines()[-1]
    nothing = said("run", program, "--dry-run")[1]
    assert nothing == f"nothing to do: all {len(told_states(program))} tasks are done\n"


@pytest.mark.usefixtures("known_rates")
def test_estimated_bytes_are_close(finished: Path, tmp_path: Path) -> None:
    """Sizes of pieces and children; a child counts as large as its parent."""
    plan = told("run", finished, "--dry-run", "-o", tmp_path / "none")
    build = finished.parent / "build"
    pieces = sum(p.stat().st_size for p in (build / "library").glob("*.safetensors"))
    estimated = {f"{s['stage']} {s['name']}": s["bytes"] for s in plan["steps"]}
    headers = 600 * len(list((build / "library").glob("*.safetensors")))
    assert estimated["bld pieces"] <= pieces <= estimated["bld pieces"] + 3 * headers
    model = (build / "models" / "best" / "model.safetensors").stat().st_size
    assert 0.7 * model < estimated["realise best"] < 1.5 * model


@pytest.mark.slow
def test_only_one_stage(copied: Callable[[], Path], tmp_path: Path) -> None:
    program = copied()
    program.write_text(program.read_text().replace("samples: 128", "samples: 160"))
    assert done_by_a_run(program, "--only", "solve") == []
    assert done_by_a_run(program, "--only", "score") == ["score kl"]
    assert "solve best" in done_by_a_run(program, "--only", "solve")
    code, _, err = said("run", program, "--only", "solve", "-o", tmp_path / "none")
    assert code == 1 and "E0610" in err
    assert said("run", program, "--only", "solve", "--until", "bld")[0] == 2


@pytest.mark.slow
def test_until_a_stage(finished: Path, tmp_path: Path) -> None:
    result = pzl("run", finished, "--until", "score", "-o", tmp_path / "b")
    assert result.returncode == 0, result.stderr
    now = told_states(finished, "-o", str(tmp_path / "b"))
    assert {key for key, (state, _) in now.items() if state == "done"} == {
        key for key in now if key.split()[0] in ("bld", "score")
    }


def test_every_file_says_what_made_it(finished: Path) -> None:
    build = finished.parent / "build"
    left = {file for stamp in Stamps(build).all() for file in stamp.outputs}
    files = [p for p in build.rglob("*") if p.is_file()] + list((finished.parent / "out").iterdir())
    for path in files:
        name = path.relative_to(build).as_posix() if path.is_relative_to(build) else path.name
        assert OF_NO_TASK.fullmatch(name) or os.path.relpath(path, build) in left, name
    stamp = Stamps(build).read("score", "kl")
    assert stamp is not None and stamp.made_by.startswith("puzzledsl ")
    assert set(stamp.inputs) >= {"pieces", "parent", "data"}


def test_a_build_may_be_moved(copied: Callable[[], Path]) -> None:
    """Paths in stamps are relative: a copy is as done as the original."""
    assert {state for state, _ in told_states(copied()).values()} == {"done"}


@pytest.mark.parametrize("stage", ["nonsense", "Score"])
def test_an_unknown_stage_is_a_usage_error(finished: Path, stage: str) -> None:
    for option in ("--until", "--only"):
        code, _, err = said("run", finished, option, stage)
        assert code == 2 and "stages: measure" in err


def test_a_context_of_nothing_has_all_missing(finished: Path, tmp_path: Path) -> None:
    from puzzledsl.pipeline.dry_run import statuses

    ctx = loading.context(finished, None, tmp_path)
    assert {s.word for s in statuses(ctx)} == {"missing"}


def test_a_run_ends_with_what_it_covered(finished: Path, copied: Callable[[], Path]) -> None:
    program = copied()
    whole, until, only = (
        pzl("run", program, *more).stdout for more in ((), ("--until", "solve"), ("--only", "eval"))
    )
    assert "optimal" in whole and "perplexity" in whole and "report: " in whole and "\nchild final: " in whole
    assert "optimal" in until and "perplexity" not in until and "report: " not in until
    assert "optimal" not in only and "perplexity" in only and "\nchild final: " not in only
