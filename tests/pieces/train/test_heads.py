"""A head that is rounded so that errors make up for each other: its piece, its score and the child's file, by a program."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from puzzledsl.alternatives.precision import PRECISIONS
from puzzledsl.base.build_dir import BuildDir
from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.cli.main import run
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.precision.gptq import codes_of, rounded_end
from puzzledsl.pieces.store.library import Library
from tests.cases import more
from tests.pipeline.tiny_program import write_tiny_program
from tests.tiny import save_tiny

PROGRAM = """\
parent tiny = hf("parent")
space wide of tiny {
  attention = parent | noop, ffn = parent
  embedding = parent, head = parent(dtype: full | q4_0)
  INIT
}
data corpus = text("corpus.txt")
bld pieces of wide { train = attention + ffn, tokens = 0, context = 32, calibration = 512, data = corpus }
score kl of pieces = replace_one(kl_divergence, samples: 64)
search best of wide { minimize kl, require head is parent(dtype: q4_0) }
"""


def realised(folder: Path, *, tied: bool, init: str = "") -> BuildDir:
    write_tiny_program(folder)
    shutil.rmtree(folder / "parent")
    save_tiny(folder / "parent", layers=2, hidden=64, intermediate=64, tied=tied)
    text = PROGRAM.replace("INIT", init)
    (folder / "heads.pzl").write_text(text)
    assert run(["run", str(folder / "heads.pzl")]) == 0
    return BuildDir(folder / "build")


def score_of(build: BuildDir) -> float:
    return float(json.loads(build.scores("kl").read_text())["head"]["parent@q4_0"])


@pytest.mark.parametrize("tied", [True, *more(False)])
def test_the_piece_loses_less_and_is_what_is_written(tmp_path: Path, tied: bool) -> None:
    build = realised(tmp_path, tied=tied)
    library = Library(build.library)
    (piece,) = (piece for piece in library.pieces() if piece.job.head is not None)
    head_VH = library.load(piece.job.id)["weight"]
    held = codes_of(head_VH, PRECISIONS["q4_0"])
    assert held is not None and torch.equal(held.values(64), head_VH)
    assert not torch.equal(head_VH, nearest(tmp_path))
    child: Any = load_child(build.model("best"))
    assert torch.equal(child.get_output_embeddings().weight, head_VH)
    assert not torch.equal(child.get_input_embeddings().weight, child.get_output_embeddings().weight)
    (tmp_path / "plain").mkdir()
    plain = realised(tmp_path / "plain", tied=tied, init="init { quantise = nearest }")
    assert score_of(build) < score_of(plain)


def nearest(folder: Path) -> torch.Tensor:
    head: Any = load_parent(folder / "parent").get_output_embeddings()  # type: ignore[no-untyped-call]
    return rounded_end(head.weight.detach(), "q4_0")


def test_by_wish_it_is_the_nearest(tmp_path: Path) -> None:
    build = realised(tmp_path, tied=False, init="init { quantise = nearest }")
    assert not any(piece.job.head for piece in Library(build.library).pieces())
    child: Any = load_child(build.model("best"))
    assert torch.equal(child.get_output_embeddings().weight, nearest(tmp_path))
