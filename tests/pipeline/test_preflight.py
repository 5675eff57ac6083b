"""A run reports everything that it lacks before any work is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.cli.main import run
from tests.tiny import save_tiny

PROGRAM = """\
parent p = hf("parent")
space w of p { attention = parent | noop, ffn = parent | noop }
hardware here = measured(device: cpu, dtype: fp32)
scenario chat on here = batch(1, 4 -> 4)
data corpus = text("train.txt")
data heldout = text("held/*.txt")
bld pieces of w { tokens = 64, context = 8, data = corpus }
score kl of pieces = replace_one(kl_divergence, samples: 8)
search best of w { minimize kl, require chat.throughput >= 0.1x }
uptrain final of best { tokens = 64, context = 8, data = corpus }
eval quality of final = tasks("questions.jsonl") { data = heldout }
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "parent")
    path = tmp_path / "tiny.pzl"
    path.write_text(PROGRAM, "utf-8")
    return path


def test_everything_that_is_missing_is_told_before_anything_is_measured(
    program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (program.parent / "parent").glob("tokenizer*"):
        file.unlink()
    assert run(["run", str(program)]) == 1
    said = capsys.readouterr().err
    for line in (
        "error[E0701]: no checkpoint at ",
        "error[E1201]: data `corpus`: no file matches `train.txt`",
        "error[E1201]: data `heldout`: no file matches `held/*.txt`",
        "error[E1206]: cannot read the tasks `questions.jsonl`: no such file",
    ):
        assert said.count(line) == 1, said
    assert "4 errors" in said and "measuring" not in said
    assert not (program.parent / "build" / "costs" / "w.measured.json").exists()


def test_a_missing_parent_hides_nothing_else(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = PROGRAM.replace(
        'hf("parent")',
        'hf("./parnt", shape: shape(family: llama, layers: 2, hidden: 64, heads: 4, head_dim: 16, vocab: 9, intermediate: 8))',
    )
    program.write_text(text, "utf-8")
    (program.parent / "prepare.py").write_text("", "utf-8")
    assert run(["run", str(program)]) == 1
    said = capsys.readouterr().err
    assert "parnt" in said and "prepare.py` makes it" in said and "no file matches `train.txt`" in said


def test_a_text_that_is_too_short_for_the_last_stage_is_told_first(
    program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PROGRAM.replace("final of best { tokens = 64,", "final of best { tokens = 4Ki,")
    program.write_text(text.replace('data heldout = text("held/*.txt")\n', "").split("eval")[0], "utf-8")
    (program.parent / "train.txt").write_text("word " * 400, "utf-8")
    assert run(["run", str(program)]) == 1
    said = capsys.readouterr().err
    assert "error[E1204]: data `corpus` has " in said and "measuring" not in said
    assert run(["run", str(program), "--until", "solve"]) == 0


@pytest.mark.parametrize("picked", ["take: 300", "part: 0%..1%"])
def test_a_text_of_which_too_little_is_taken_is_told_first(
    program: Path, capsys: pytest.CaptureFixture[str], picked: str
) -> None:
    """The file is long enough for all stages, what is taken of it is not."""
    text = PROGRAM.replace("final of best { tokens = 64,", "final of best { tokens = 4Ki,")
    text = text.replace('text("train.txt")', f'text("train.txt", {picked})')
    program.write_text(text.replace('data heldout = text("held/*.txt")\n', "").split("eval")[0], "utf-8")
    (program.parent / "train.txt").write_text("".join(f"word {i}\n\n" for i in range(20000)), "utf-8")
    assert run(["run", str(program)]) == 1
    said = capsys.readouterr().err
    assert "error[E1204]: data `corpus` has " in said and "measuring" not in said


def test_what_no_wanted_stage_reads_is_not_asked_for(
    program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (program.parent / "train.txt").write_text("word " * 400, "utf-8")
    assert run(["run", str(program), "--until", "solve"]) == 0, capsys.readouterr().err


def test_the_text_of_a_refined_search_is_looked_for(
    program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (program.parent / "train.txt").write_text("word " * 400, "utf-8")
    refine = '  refine = measured(3, data: questions) }\ndata questions = text("questions.txt")'
    text = PROGRAM.replace("chat.throughput >= 0.1x }", f"chat.throughput >= 0.1x\n{refine}")
    program.write_text(text.split("uptrain")[0], "utf-8")
    assert run(["run", str(program)]) == 1
    assert "error[E1201]: data `questions`: no file matches `questions.txt`" in capsys.readouterr().err
