"""A run reports everything that it lacks before any work is done."""

from pathlib import Path

import pytest

from tests.commands import said
from tests.tiny import save_tiny

PROGRAM = """\
parent p = hf("parent")
space w of p { attention = parent | noop, ffn = parent | noop }
hardware here = measured(device: cpu, dtype: fp32)
scenario chat on here = batch(1, 4 -> 4)
data corpus = text("train.txt")
bld pieces of w { tokens = 64, context = 8, data = corpus }
score kl of pieces = replace_one(kl_divergence, samples: 8)
search best of w { minimize kl, require chat.throughput >= 0.1x }
"""
CHILD = """\
data heldout = text("held/*.txt")
uptrain final of best { tokens = 64, context = 8, data = corpus }
eval quality of final = tasks("questions.jsonl") { data = heldout }
"""
LONG = "uptrain final of best { tokens = 4Ki, context = 8, data = corpus }\n"
SHAPE = "shape(family: llama, layers: 2, hidden: 64, heads: 4, head_dim: 16, vocab: 9, intermediate: 8)"
PARAGRAPHS = "".join(f"word {i}\n\n" for i in range(20000))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "parent")
    return tmp_path


def refused(folder: Path, text: str) -> str:
    """Return what a run says that ends before anything is measured."""
    (folder / "tiny.pzl").write_text(text, "utf-8")
    code, _, err = said("run", folder / "tiny.pzl")
    assert code == 1 and "measuring" not in err
    assert not (folder / "build" / "costs" / "w.measured.json").exists()
    return err


def test_everything_that_is_missing_is_told_before_anything_is_measured(folder: Path) -> None:
    for file in (folder / "parent").glob("tokenizer*"):
        file.unlink()
    found = refused(folder, PROGRAM + CHILD)
    for line in (
        "error[E0701]: no checkpoint at ",
        "error[E1201]: data `corpus`: no file matches `train.txt`",
        "error[E1201]: data `heldout`: no file matches `held/*.txt`",
        "error[E1206]: cannot read the tasks `questions.jsonl`: no such file",
    ):
        assert found.count(line) == 1, found
    assert "4 errors" in found


def test_a_missing_parent_hides_nothing_else(folder: Path) -> None:
    (folder / "prepare.py").write_text("", "utf-8")
    found = refused(folder, PROGRAM.replace('hf("parent")', f'hf("./parnt", shape: {SHAPE})'))
    assert "parnt" in found and "prepare.py` makes it" in found and "no file matches `train.txt`" in found


@pytest.mark.parametrize(
    ("picked", "text"), [("", "word " * 400), (", take: 300", PARAGRAPHS), (", part: 0%..1%", PARAGRAPHS)]
)
def test_a_text_of_which_too_little_is_taken_is_told_first(folder: Path, picked: str, text: str) -> None:
    """It is long enough for the first stages, or before it is cut."""
    (folder / "train.txt").write_text(text, "utf-8")
    program = PROGRAM.replace('text("train.txt")', f'text("train.txt"{picked})')
    assert "error[E1204]: data `corpus` has " in refused(folder, program + LONG)
