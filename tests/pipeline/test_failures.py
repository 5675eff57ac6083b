"""Faults from outside (a full disk, bad numbers, files that cannot be read) are told, and finished pieces are kept."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.pieces.store import library as shelves
from puzzledsl.pieces.train import piece_state
from puzzledsl.pipeline.process import disk_errors
from tests.commands import said
from tests.interrupting import faults, pieces_of
from tests.pipeline.tiny_program import write_tiny_program
from tests.tiny import save_tiny

SMALL = """\
parent tiny = hf("parent")
space wide of tiny {
  attention = parent | gqa(kv_heads: 1) | linear | noop
  ffn = parent | mlp(width: 50%) | linear | noop
}
data corpus = text("corpus.txt")
bld pieces of wide {
  train = attention + ffn, tokens = 256, context = 32, batch = 2, calibration = 256
  lr = cosine(1e-3, warmup: 10%), data = corpus
}
score kl of pieces = replace_one(kl_divergence, samples: 64)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = write_tiny_program(tmp_path)
    file.write_text(SMALL)
    return file


def fails(program: Path, stage: str = "bld") -> str:
    """Return the message of a stage that must fail."""
    code, _, err = said(stage, program)
    assert code == 1 and "Traceback" not in err and "= help: " in err
    return err


def kept(build: Path) -> set[tuple[int, str]]:
    """(layer, initialiser and sub-block) of the pieces that are there; each is whole."""
    assert faults(build / "library") == []
    return {(piece.job.layer, piece.file) for piece in pieces_of(build / "library")}


def test_a_full_disk_keeps_what_is_finished(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build, written, whole = program.parent / "build", [], shelves.write_tensors

    def write_tensors(path: Path, *content: Any) -> str:
        written.append(path)
        if len(written) > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return whole(path, *content)

    with monkeypatch.context() as patch:
        patch.setattr(shelves, "write_tensors", write_tensors)
        found = fails(program)
    assert "error[E0608]" in found and "No space left on device" in found
    before = kept(build)
    assert len(before) == 5
    assert said("bld", program)[0] == 0
    assert before < kept(build) and len(kept(build)) == 12


def test_training_that_ends_in_no_number_is_an_error_and_keeps_the_other_pieces_of_the_layer(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = piece_state.normalized_mse
    monkeypatch.setattr(piece_state, "normalized_mse", lambda *arguments: loss(*arguments) * torch.nan)
    found = fails(program)
    assert "error[E1411]: bld `pieces`: training `gqa1` of layer 0 ended in a loss of nan" in found
    assert "training `mlp20` of layer 0" in found
    assert [layer for layer, _ in kept(program.parent / "build")] == [0, 0], "the linear ones: untrained"


def shard_is_a_directory(program: Path) -> None:
    shard = program.parent / "parent" / "model.safetensors"
    shard.unlink()
    shard.mkdir()


def line_is_cut_off(program: Path) -> None:
    rows = [json.dumps({"text": "some words " * 40}) for _ in range(50)]
    (program.parent / "corpus.jsonl").write_text("\n".join([*rows, '{"text": "cut o']))
    program.write_text(SMALL.replace('text("corpus.txt")', 'jsonl("corpus.jsonl", column: text)'))


def embedding_is_too_small(program: Path) -> None:
    shutil.rmtree(program.parent / "parent")
    save_tiny(program.parent / "parent", layers=3, vocab=100)


def tokenizer_has_no_such_end(program: Path) -> None:
    config = program.parent / "parent" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token_id": [128_001, 128_009]}))


@pytest.mark.parametrize(
    ("spoil", "code", "message"),
    [
        (shard_is_a_directory, "E0613", "Is a directory"),
        (line_is_cut_off, "E1202", "line 51 is not JSON"),
        (embedding_is_too_small, "E0707", "the embedding has 100 rows"),
        (tokenizer_has_no_such_end, "E0707", "texts end with token 128,001"),
    ],
)
def test_what_cannot_be_read_is_named(
    program: Path, spoil: Callable[[Path], None], code: str, message: str
) -> None:
    spoil(program)
    found = fails(program)
    assert f"error[{code}]" in found and message in found


@pytest.mark.parametrize("said", ["4096 requested and 12 written", "I/O error (os error 28)", "(os error 2)"])
def test_a_full_disk_is_told_whichever_library_wrote(said: str) -> None:
    told = "could not save" if said.endswith(" 2)") else "cannot write `build`: No space left on device"
    with pytest.raises((DiagnosticError, RuntimeError), match=f"^{told}$"), disk_errors(Path("build")):
        raise RuntimeError("could not save") from OSError(said)
