"""A task that fails takes with it only those that need it; what failed is told, and tried again."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.cli import loading
from puzzledsl.evaluate import bench
from puzzledsl.evaluate.choices import Answers
from puzzledsl.evaluate.errors import HarnessFailed, NoEvalData
from puzzledsl.evaluate.plan import Harness
from puzzledsl.pipeline.tasks.children import Uptrain
from puzzledsl.pipeline.text.child_text import export_lines
from tests.commands import said
from tests.pipeline.tiny_program import events, read, started, told_states


@pytest.fixture
def program(copied: Callable[[], Path]) -> Path:
    return copied()


def run(program: Path, code: int) -> tuple[list[str], str, str]:
    """The tasks that a run began, its stdout and stderr."""
    seen = len(events(program.parent / "build"))
    found, out, err = said("run", program)
    assert found == code, err
    return started(program.parent / "build", seen), out, err


def test_an_export_that_is_refused_stops_no_other(program: Path) -> None:
    taken, report = program.parent / "taken", program.parent / "build" / "report.html"
    taken.mkdir()
    (taken / "thesis.tex").write_text("mine")
    text = program.read_text().replace("export ship", 'export first of final = hf("taken")\nexport ship')
    program.write_text(text.replace('hf("out")', 'hf("out2")'))
    tasks, out, err = run(program, 1)
    assert "export ship: " in out and "report: " in out, "the summary is there all the same"
    assert "export first: failed (E" in err and "taken" in err.rpartition("error[E")[2]
    assert tasks == ["export first", "export ship", "report"]
    assert (program.parent / "out2" / "config.json").is_file()
    states = told_states(program)
    assert states["export first"][0] == "failed" and "taken" in states["export first"][1]
    assert states["export ship"][0] == "done"
    assert "export first</code> failed" in report.read_text()

    shutil.rmtree(taken)
    assert run(program, 0)[0] == ["export first", "report"]
    assert {state for state, _ in told_states(program).values()} == {"done"}
    assert "failed" not in report.read_text()
    code, out, _ = said("export", program, "ship")
    assert code == 0 and out == f"export ship: {program.parent / 'out2'}\n"


def test_a_task_that_needs_a_failed_one_is_not_tried(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The uptraining fails: its evaluation and export are not made from what an earlier run left."""
    text = program.read_text().replace("lr = cosine(1e-3), data", "lr = cosine(2e-3), data")
    program.write_text(text + '\nexport plain of best = hf("plain")\n')

    def fail(task: Uptrain) -> list[Path]:
        raise DiagnosticError(NoEvalData(None, name=task.name, known=""))

    monkeypatch.setattr(Uptrain, "run", fail)
    tasks, _, err = run(program, 1)
    assert tasks == ["uptrain final", "export plain", "report"]
    for lost in ("eval quality", "export ship"):
        assert f"{lost}: not made, because uptrain final failed" in err
    states = told_states(program)
    assert states["uptrain final"][0] == "failed"
    assert states["eval quality"] == ("stale", "after uptrain final")
    monkeypatch.undo()
    assert run(program, 0)[0] == ["uptrain final", "eval quality", "export ship", "report"]


def test_an_evaluation_without_data_for_the_harness_has_all_else(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, report = program.parent / "build", program.parent / "build" / "report.html"
    program.write_text(program.read_text().replace("tokens = 256 }", 'tokens = 256, lm_eval = "quiz" }'))
    tried = []

    def answers(self: Harness, model: object, *given: object) -> Answers:
        tried.append(model)
        raise DiagnosticError(HarnessFailed(None, reason="ConnectionError: no network"))

    def found(self: Harness, *given: object) -> Answers:
        return Answers({"quiz": (1.0, 0.0, 1.0)}, {"quiz": (0.5, 0.5, 0.5)})

    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: object())
    monkeypatch.setattr(Harness, "check", lambda self, span: None)
    monkeypatch.setattr(Harness, "answers", answers)
    tasks, out, err = run(program, 1)
    assert len(tried) == 1, "what the parent cannot be asked no child is asked"
    assert tasks == ["eval quality", "report"], "the export's card stays as it was"
    assert err.count("error[E1607]: lm-eval failed: ConnectionError") == 1 and "kl " in out
    models = read(build / "evals" / "quality.json")["models"]
    assert all("kl" in m["figures"] and "quiz" not in m["figures"] for m in models)
    assert "## Quality" in (program.parent / "out" / "README.md").read_text()
    assert "no network" in report.read_text() and "KL divergence" in report.read_text()
    assert told_states(program)["eval quality"][0] == "failed"

    monkeypatch.setattr(Harness, "answers", found)
    monkeypatch.setattr(bench.Bench, "blocks", lambda *given: pytest.fail("figures that are there are kept"))
    assert run(program, 0)[0] == ["eval quality", "export ship", "report"]
    assert read(build / "evals" / "quality.json")["models"][0]["figures"]["quiz"]["value"] == 2 / 3
    assert "no network" not in report.read_text()
    assert not list((build / "failures").iterdir()) and not (build / "work" / "eval" / "quality").exists()


def test_an_export_for_llama_cpp_is_told_how_to_chat_with(program: Path) -> None:
    program.write_text(program.read_text() + 'export file of final = gguf("my child.gguf")\n')
    ctx = loading.context(program, None, None)
    assert list(export_lines(ctx, ["file"])) == [], "it is not there"
    (program.parent / "my child.gguf").write_text("")
    [line] = export_lines(ctx, ["file"])
    assert line.endswith(f"llama-server -m '{program.parent / 'my child.gguf'}'")
