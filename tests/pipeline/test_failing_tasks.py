"""A task that fails takes with it only those that need it; what failed is told, and tried again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.cli import loading
from puzzledsl.cli.main import run
from puzzledsl.evaluate import bench
from puzzledsl.evaluate.choices import Answers
from puzzledsl.evaluate.errors import HarnessFailed, NoEvalData
from puzzledsl.evaluate.plan import Harness
from puzzledsl.pipeline.tasks.children import Uptrain
from puzzledsl.pipeline.text.child_text import export_lines
from tests.pipeline.test_run import events
from tests.pipeline.test_status import done_by_a_run, told_states
from tests.pipeline.tiny_program import read


@pytest.fixture
def program(copied: Callable[[], Path], request: pytest.FixtureRequest) -> Path:
    return copied()


def started(program: Path, seen: int) -> list[str]:
    new = events(program.parent / "build")[seen:]
    return [f"{e['stage']} {e['name']}".strip() for e in new if e["event"] == "start"]


def test_an_export_that_is_refused_stops_no_other(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken, seen = program.parent / "taken", len(events(program.parent / "build"))
    taken.mkdir()
    (taken / "thesis.tex").write_text("mine")
    text = program.read_text().replace("export ship", 'export first of final = hf("taken")\nexport ship')
    program.write_text(text.replace('hf("out")', 'hf("out2")'))
    assert run(["run", str(program)]) == 1
    told = capsys.readouterr()
    assert "export ship: " in told.out and "report: " in told.out, "the summary is there all the same"
    assert "export first: failed (E" in told.err and "taken" in told.err.rpartition("error[E")[2]
    assert started(program, seen) == ["export first", "export ship", "report"]
    assert (program.parent / "out2" / "config.json").is_file()
    states = told_states(program)
    assert states["export first"][0] == "failed" and "taken" in states["export first"][1]
    assert states["export ship"][0] == "done"
    assert "export first</code> failed" in (program.parent / "build" / "report.html").read_text()

    shutil.rmtree(taken)
    assert done_by_a_run(program) == ["export first", "report"]
    assert {state for state, _ in told_states(program).values()} == {"done"}
    assert "failed" not in (program.parent / "build" / "report.html").read_text()
    capsys.readouterr()
    assert run(["export", str(program), "ship"]) == 0
    assert capsys.readouterr().out == f"export ship: {program.parent / 'out2'}\n"


def test_an_export_for_llama_cpp_is_told_how_to_chat_with(program: Path) -> None:
    program.write_text(program.read_text() + 'export file of final = gguf("my child.gguf")\n')
    ctx = loading.context(program, None, None)
    assert list(export_lines(ctx, ["file"])) == [], "it is not there"
    (program.parent / "my child.gguf").write_text("")
    [line] = export_lines(ctx, ["file"])
    assert line.endswith(f"llama-server -m '{program.parent / 'my child.gguf'}'")


def test_a_task_that_needs_a_failed_one_is_not_tried(
    program: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The uptraining fails: its evaluation and export are not made from what an earlier run left."""
    seen = len(events(program.parent / "build"))
    text = program.read_text().replace("lr = cosine(1e-3), data", "lr = cosine(2e-3), data")
    program.write_text(text + '\nexport plain of best = hf("plain")\n')

    def fail(task: Uptrain) -> list[Path]:
        raise DiagnosticError(NoEvalData(None, name=task.name, known=""))

    monkeypatch.setattr(Uptrain, "run", fail)
    assert run(["run", str(program)]) == 1
    told = capsys.readouterr().err
    assert started(program, seen) == ["uptrain final", "export plain", "report"]
    for lost in ("eval quality", "export ship"):
        assert f"{lost}: not made, because uptrain final failed" in told
    states = told_states(program)
    assert states["uptrain final"][0] == "failed" and states["eval quality"] == (
        "stale",
        "after uptrain final",
    )
    monkeypatch.undo()
    assert run(["run", str(program)]) == 0
    assert [e["stage"] for e in events(program.parent / "build") if e["event"] == "end"][-4:] == [
        "uptrain",
        "eval",
        "export",
        "report",
    ]


def test_an_evaluation_without_data_for_the_harness_has_all_else(
    program: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build = program.parent / "build"
    program.write_text(program.read_text().replace("tokens = 256 }", 'tokens = 256, lm_eval = "quiz" }'))
    tried = []

    def answers(self: Harness, model: object, tokenizer: object, span: object, advance: object) -> Answers:
        tried.append(model)
        raise DiagnosticError(HarnessFailed(None, reason="ConnectionError: no network"))

    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: object())
    monkeypatch.setattr(Harness, "check", lambda self, span: None)
    with monkeypatch.context() as patch:
        patch.setattr(Harness, "answers", answers)
        seen = len(events(build))
        assert run(["run", str(program)]) == 1
    assert len(tried) == 1, "what the parent cannot be asked no child is asked"
    assert started(program, seen) == ["eval quality", "report"], "the export's card stays as it was"
    told = capsys.readouterr()
    assert told.err.count("error[E1607]: lm-eval failed: ConnectionError") == 1 and "kl " in told.out
    models = read(build / "evals" / "quality.json")["models"]
    assert all("kl" in m["figures"] and "quiz" not in m["figures"] for m in models)
    assert "## Quality" in (program.parent / "out" / "README.md").read_text()
    assert "no network" in (page := (build / "report.html").read_text()) and "KL divergence" in page
    assert told_states(program)["eval quality"][0] == "failed"

    def found(self: Harness, *given: object) -> Answers:
        return Answers({"quiz": (1.0, 0.0, 1.0)}, {"quiz": (0.5, 0.5, 0.5)})

    monkeypatch.setattr(Harness, "answers", found)
    monkeypatch.setattr(bench.Bench, "blocks", lambda *given: pytest.fail("figures that are there are kept"))
    seen = len(events(build))
    assert run(["run", str(program)]) == 0
    assert started(program, seen) == ["eval quality", "export ship", "report"]
    assert read(build / "evals" / "quality.json")["models"][0]["figures"]["quiz"]["value"] == 2 / 3
    assert "no network" not in (build / "report.html").read_text()
    assert not list((build / "failures").iterdir()) and not (build / "work" / "eval" / "quality").exists()
