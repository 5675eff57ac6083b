"""A run from Python is `pzl run`: the same files, its progress where it is asked for, and children as models."""

import json

import pytest
import torch

import puzzledsl as pzl
from puzzledsl.cli.main import run
from tests.pipeline.tiny_program import write_tiny_program


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[pzl.Program, pzl.Run]:
    """The tiny program, run as far as its children."""
    program = pzl.load(write_tiny_program(tmp_path_factory.mktemp("ran")))
    return program, program.run(until="realise")


def test_a_child_is_a_transformers_model(ran: tuple[pzl.Program, pzl.Run]) -> None:
    program, made = ran
    child = made.child("best", dtype=torch.float64)
    assert child.dtype == torch.float64 and not child.training
    assert sum(p.numel() for p in child.parameters()) == program.solve("best").metrics["params"]
    tokens = child.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=4, do_sample=False)
    assert tokens.shape == (1, 7)


def test_the_command_finds_it_done(
    ran: tuple[pzl.Program, pzl.Run], capsys: pytest.CaptureFixture[str]
) -> None:
    program, made = ran
    assert run(["status", str(program.file), "--json"]) == 0
    tasks = json.loads(capsys.readouterr().out)["tasks"]
    found = [(status.task.stage, status.word) for status in made.status()]
    assert found == [(task["stage"], task["state"]) for task in tasks]
    assert {word for stage, word in found if stage in ("bld", "score", "solve", "realise")} == {"done"}
    assert "objective" in made.summary and made.report is None
    assert repr(made) == f"<Run in {program.build}>"


def test_progress_is_said_and_logged(
    ran: tuple[pzl.Program, pzl.Run], capsys: pytest.CaptureFixture[str]
) -> None:
    program, _ = ran
    assert not (program.build / "log.jsonl").exists()
    program.run(until="solve")
    assert capsys.readouterr() == ("", "")
    program.run(until="solve", progress=True)
    assert "solve best: up to date" in capsys.readouterr().err
    events = [json.loads(line)["event"] for line in (program.build / "log.jsonl").read_text().splitlines()]
    assert "fresh" in events


def test_what_is_not_made_is_a_diagnostic(ran: tuple[pzl.Program, pzl.Run]) -> None:
    for name, code in (("final", "E0603"), ("bset", "E0604")):
        with pytest.raises(pzl.DiagnosticError) as caught:
            ran[1].child(name)
        assert caught.value.diagnostics[0].code == code and caught.value.__notes__


def test_a_stage_that_is_none_is_a_value_error(program: pzl.Program) -> None:
    with pytest.raises(ValueError, match="'slove' is no stage; stages: measure, bld"):
        program.run(until="slove")
    with pytest.raises(ValueError, match="not both"):
        program.run(until="bld", only="bld")
