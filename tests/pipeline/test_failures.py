"""Faults from outside (a full disk, bad numbers, files that cannot be read) are told, and finished pieces are kept."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from puzzledsl.cli.main import run
from puzzledsl.models.families import tensors
from puzzledsl.pieces.store import library as shelves
from puzzledsl.pieces.train import piece_state
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


@pytest.fixture
def fails(program: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    def command(*arguments: str) -> str:
        """Return the message of a command that must fail."""
        capsys.readouterr()
        assert run([*arguments]) == 1
        said = capsys.readouterr().err
        assert "Traceback" not in said and "= help: " in said
        return said

    return command  # type: ignore[return-value]


def kept(build: Path) -> set[tuple[int, str]]:
    """(layer, initialiser and sub-block) of the pieces that are there; each is whole."""
    assert faults(build / "library") == []
    return {(piece.job.layer, piece.file) for piece in pieces_of(build / "library")}


def hashes(library: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in library.iterdir() if p.name[0] != "."}


# ---------------------------------------------------------------- a full disk


def test_a_full_disk_keeps_what_is_finished(
    program: Path, fails: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, written, whole = program.parent / "build", [], shelves.write_tensors

    def write_tensors(path: Path, *content: Any) -> str:
        written.append(path)
        if len(written) > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return whole(path, *content)

    with monkeypatch.context() as patch:
        patch.setattr(shelves, "write_tensors", write_tensors)
        said = fails("bld", str(program))  # type: ignore[operator]
    assert "error[E0608]" in said and "No space left on device" in said
    before = kept(build)
    assert len(before) == 5
    assert run(["bld", str(program)]) == 0
    assert before < kept(build) and len(kept(build)) == 12


def test_a_file_that_may_grow_no_further_is_a_full_disk(program: Path, fails: object) -> None:
    """A real refusal of the operating system, where activations are written through a memory map."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert run(["check", str(program)]) == 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        said = fails("bld", str(program))  # type: ignore[operator]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "error[E0608]" in said and "File too large" in said
    assert not list((program.parent / "build").rglob("*.tmp"))
    assert run(["bld", str(program)]) == 0


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 170 KiB, where this user may make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=170k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("only root may mount a file system of its own")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no `mount`")
def test_a_disk_that_is_really_full(program: Path, tiny_disk: Path, fails: object) -> None:
    build = tiny_disk / "build"
    said = fails("bld", str(program), "-o", str(build))  # type: ignore[operator]
    assert "error[E0608]" in said and "No space left on device" in said
    assert 0 < len(kept(build)) < 12
    subprocess.run(["mount", "-o", "remount,size=20m", str(tiny_disk)], check=True)
    assert run(["bld", str(program), "-o", str(build)]) == 0
    assert run(["bld", str(program)]) == 0
    assert hashes(build / "library") == hashes(program.parent / "build" / "library")


# ---------------------------------------------------------------- numbers


def test_training_that_ends_in_no_number_is_an_error_and_keeps_the_other_pieces_of_the_layer(
    program: Path, fails: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = piece_state.normalized_mse
    monkeypatch.setattr(piece_state, "normalized_mse", lambda *arguments: loss(*arguments) * torch.nan)
    said = fails("bld", str(program))  # type: ignore[operator]
    assert "error[E1411]: bld `pieces`: training `gqa1` of layer 0 ended in a loss of nan" in said
    assert "training `mlp20` of layer 0" in said
    assert {layer for layer, _ in kept(program.parent / "build")} == {0}, "the linear ones need no training"
    assert len(kept(program.parent / "build")) == 2


def spoil(program: Path, name: str, value: float) -> None:
    path = program.parent / "parent" / "model.safetensors"
    weights = load_file(path)
    weights[name][0, 0] = value
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize(("sub_block", "name"), [("attention", "self_attn.v_proj"), ("ffn", "mlp.up_proj")])
def test_a_parent_with_a_number_that_is_none(program: Path, fails: object, sub_block: str, name: str) -> None:
    spoil(program, f"model.layers.1.{name}.weight", torch.nan)
    said = fails("bld", str(program))  # type: ignore[operator]
    assert f"error[E1412]: the {sub_block} of the parent's layer 1 returns NaN or infinite values" in said
    assert {layer for layer, _ in kept(program.parent / "build")} == {0}


# ---------------------------------------------------------------- files that cannot be read


def test_a_shard_whose_bytes_cannot_be_read(
    program: Path, fails: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path, offset: int, buffer: bytearray) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(tensors, "_fill", broken)
    said = fails("bld", str(program))  # type: ignore[operator]
    assert "error[E0705]" in said and "it cannot be read (Input/output error)" in said


def test_a_shard_that_is_a_directory(program: Path, fails: object) -> None:
    shard = program.parent / "parent" / "model.safetensors"
    shard.unlink()
    shard.mkdir()
    said = fails("bld", str(program))  # type: ignore[operator]
    assert "error[E0613]" in said and "model.safetensors" in said and "Is a directory" in said


def test_a_shard_cut_off_between_two_runs_keeps_the_pieces(program: Path, fails: object) -> None:
    assert run(["bld", str(program)]) == 0
    before = kept(program.parent / "build")
    shard = program.parent / "parent" / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    for stage in ("bld", "score"):
        assert "error[E0705]" in fails(stage, str(program))  # type: ignore[operator]
    assert kept(program.parent / "build") == before


def test_text_that_cannot_be_read(program: Path, fails: object) -> None:
    rows = [json.dumps({"text": "some words " * 40}) for _ in range(50)]
    (program.parent / "corpus.jsonl").write_text("\n".join([*rows, '{"text": "cut o']))
    program.write_text(SMALL.replace('text("corpus.txt")', 'jsonl("corpus.jsonl", column: text)'))
    said = fails("bld", str(program))  # type: ignore[operator]
    assert "error[E1202]" in said and "line 51 is not JSON" in said


# ---------------------------------------------------------------- another model's tokenizer


def test_a_tokenizer_with_more_tokens_than_the_embedding(
    program: Path, tmp_path: Path, fails: object
) -> None:
    shutil.rmtree(tmp_path / "parent")
    save_tiny(tmp_path / "parent", layers=3, vocab=100)
    said = fails("bld", str(program))  # type: ignore[operator]
    assert "error[E0707]" in said and "the embedding has 100 rows" in said


def test_a_tokenizer_that_does_not_know_how_the_model_ends_a_text(program: Path, fails: object) -> None:
    config = program.parent / "parent" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token_id": [128_001, 128_009]}))
    said = fails("bld", str(program))  # type: ignore[operator]
    assert "error[E0707]" in said and "texts end with token 128,001" in said
