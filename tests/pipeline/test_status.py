"""`pzl status`, `pzl run --dry-run`, `--only`: what is said is what a run then does."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from puzzledsl.pipeline.context import Stamps
from puzzledsl.pipeline.tasks import TASKS
from tests.commands import said, told
from tests.pipeline.tiny_program import events, ran, started, told_states

OF_NO_TASK = re.compile(
    r"log\.jsonl|\.lock|stamps/.*|library/(index\.jsonl|\.index\.lock)|tokens/.*|evals/units/.*|scores/figures/.*"
)
"""The log, locks, the stamps themselves, the library's index (a line says what made its piece) and tokenised text (named by a
digest of what it was made from), figures of scores (each file's first line says what they depend on)."""


def done_by_a_run(program: Path, *more: str) -> list[str]:
    seen = len(events(program.parent / "build"))
    ran("run", program, *more)
    return started(program.parent / "build", seen)


def test_all_is_done_after_a_run_and_nothing_before(finished: Path, tmp_path: Path) -> None:
    now = told_states(finished)
    assert {state for state, _ in now.values()} == {"done"}
    assert list(dict.fromkeys(key.split()[0] for key in now)) == [
        s for s in TASKS if s not in ("measure", "frontier", "refine")
    ]
    fresh = told_states(finished, "-o", tmp_path / "none")
    assert fresh.keys() == now.keys() and {state for state, _ in fresh.values()} == {"missing"}
    assert not (tmp_path / "none").exists()


def test_what_is_said_to_be_stale_is_what_a_run_does(copied: Callable[[], Path]) -> None:
    program = copied()
    text, scores = program.read_text(), program.parent / "build" / "scores" / "kl.json"
    whole = scores.read_text()
    scores.write_text(whole.replace("1", "2", 1))
    assert told_states(program)["score kl"] == ("stale", "`scores/kl.json` changed or gone since")
    scores.write_text(whole)
    (program.parent / "out" / "model.safetensors").unlink()
    assert {name for name, (state, _) in told_states(program).items() if state != "done"} >= {"export ship"}
    program.write_text(text.replace("chat.throughput >= 1.2x", "chat.throughput >= 1.3x"))
    now = told_states(program)
    assert now["solve best"] == ("stale", "the declaration changed")
    assert now["realise best"] == ("stale", "after solve best")
    assert now["bld pieces"][0] == now["score kl"][0] == "done"
    stale = {name for name, (state, _) in now.items() if state != "done"}
    done = set(done_by_a_run(program))
    assert done <= stale
    assert {"solve best", "realise best", "uptrain final", "export ship", "report"} <= done
    assert {state for state, _ in told_states(program).values()} == {"done"}
    assert (program.parent / "out" / "model.safetensors").is_file()


@pytest.mark.usefixtures("known_rates")
def test_a_dry_run_says_what_a_run_does_and_does_nothing(finished: Path, tmp_path: Path) -> None:
    """Sizes of pieces and children are close; a child counts as large as its parent."""
    nowhere, build = tmp_path / "none", finished.parent / "build"
    plan = told("run", finished, "--dry-run", "-o", nowhere)
    assert [s["stage"] for s in plan["steps"] if s["stage"] != "solve"][:2] == ["bld", "score"]
    assert plan["seconds"] > 0 and plan["free_bytes"] > plan["bytes"] > 0
    text = said("run", finished, "--dry-run", "-o", nowhere)[1]
    assert "bld pieces" in text and " free" in text.splitlines()[-1]
    assert not nowhere.exists()
    nothing = said("run", finished, "--dry-run")[1]
    assert nothing == f"nothing to do: all {len(told_states(finished))} tasks are done\n"
    estimated = {f"{s['stage']} {s['name']}": s["bytes"] for s in plan["steps"]}
    sizes = [p.stat().st_size for p in (build / "library").glob("*.safetensors")]
    assert estimated["bld pieces"] <= sum(sizes) <= estimated["bld pieces"] + 3 * 600 * len(sizes)
    model = (build / "models" / "best" / "model.safetensors").stat().st_size
    assert 0.7 * model < estimated["realise best"] < 1.5 * model


def test_stages_that_cannot_be_chosen(finished: Path, tmp_path: Path) -> None:
    code, _, err = said("run", finished, "--only", "solve", "-o", tmp_path / "none")
    assert code == 1 and "E0610" in err
    assert said("run", finished, "--only", "solve", "--until", "bld")[0] == 2
    for option in ("--until", "--only"):
        code, _, err = said("run", finished, option, "Score")
        assert code == 2 and "stages: measure" in err


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
