"""A block library holds whole pieces only, whatever happened while it was written."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir.nodes import Schedule
from puzzledsl.ir.tables import BldJob, line_of_piece
from puzzledsl.pieces.store.library import Library
from tests.cases import cases
from tests.pieces.train.bld_programs import contents, exit_code
from tests.refused import refused


def job(name: str) -> BldJob:
    return BldJob(
        id=name, bld="b", layer=0, sub_block="ffn", ffn=MlpFfn(width=8), shapes={"w": (2, 3)},
        init="least_squares", loss="normalized_mse", tokens=8, context=4, batch=1, lr=Schedule(peak=1e-3),
        calibration_tokens=8, seed=0,
    )  # fmt: skip


def weights(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"w": torch.randn(2, 3, generator=generator), "b": torch.randn(2, generator=generator)}


def put(library: Library, name: str, seed: int = 0) -> None:
    library.enter(library.write(job(name), weights(seed), 0.5, 0.25, 8))


def code_of(library: Library, name: str) -> tuple[str, str]:
    diagnostic = refused(library.load, name)
    assert "pzl bld" in diagnostic.help
    return diagnostic.code, diagnostic.message


def test_what_is_put_is_loaded_by_this_and_by_another_library(tmp_path: Path) -> None:
    library, there_before = Library(tmp_path), Library(tmp_path)
    assert not library.has("a") and not there_before.has("a") and library.pieces() == ()
    put(library, "a")
    for reader in (library, there_before, Library(tmp_path)):
        assert reader.has("a")
        loaded = reader.load("a")
        assert loaded.keys() == weights().keys()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in weights().items())
    (piece,) = Library(tmp_path).pieces()
    assert (piece.job, piece.loss_initial, piece.loss_final, piece.tokens) == (job("a"), 0.5, 0.25, 8)


def test_a_piece_made_from_other_inputs_is_not_there(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.enter(library.write(job("a"), weights(), 1, 1, 8, inputs={"parent": "p1"}))
    assert library.has("a") and library.has("a", {"parent": "p1"}) and not library.has("a", {"parent": "p2"})
    library.enter(library.write(job("a"), weights(1), 1, 1, 8, inputs={"parent": "p2"}))
    assert Library(tmp_path).has("a", {"parent": "p2"}) and len(library.pieces()) == 1


def test_missing_and_damaged_pieces_are_named(tmp_path: Path) -> None:
    library = Library(tmp_path)
    assert code_of(library, "a")[0] == "E1301"
    put(library, "a")
    file = tmp_path / "a.safetensors"
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        file.write_bytes(damaged)
        assert not library.has("a")
        code, message = code_of(library, "a")
        assert code == "E1302" and str(file) in message
    file.unlink()
    assert not library.has("a") and code_of(library, "a")[0] == "E1302"
    put(library, "a")
    assert library.has("a") and file.read_bytes() == whole
    (tmp_path / "index.jsonl").write_text("[]\n")
    assert refused(Library(tmp_path).pieces).message.endswith("no JSON object")


@settings(deadline=None, max_examples=cases(30))
@given(cut=st.integers(min_value=1, max_value=10_000), extra=st.binary(max_size=5))
def test_a_torn_last_line_is_no_piece_and_is_repaired(
    tmp_path_factory: pytest.TempPathFactory, cut: int, extra: bytes
) -> None:
    root = tmp_path_factory.mktemp("library")
    put(Library(root), "a")
    index = root / "index.jsonl"
    line = index.read_bytes()
    torn = line[: min(cut, len(line) - 1)] + extra.replace(b"\n", b"")
    piece = Library(root).pieces()[0]
    named = piece.job.model_copy(update={"id": "z"})
    other = piece.model_copy(update={"job": named, "file": "z.safetensors"})
    index.write_bytes(line_of_piece(other) + torn)
    library = Library(root)
    assert [piece.job.id for piece in library.pieces()] == ["z"]
    put(library, "b")
    assert [piece.job.id for piece in Library(root).pieces()] == ["b", "z"]
    assert index.read_bytes().count(b"\n") == 2


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(deadline=None, max_examples=cases(60))
def test_no_flipped_bit_of_a_line_goes_unseen(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    """It is told, or (the bit made or unmade a line end) the line is none; a figure is never another."""
    root = tmp_path_factory.mktemp("library")
    put(Library(root), "a")
    (piece,) = Library(root).pieces()
    index = root / "index.jsonl"
    content = bytearray(index.read_bytes())
    content[at % len(content)] ^= 1 << bit
    index.write_bytes(bytes(content))
    said, found = "", ()
    try:
        found = Library(root).pieces()
    except DiagnosticError as error:
        said = error.diagnostics[0].message
    assert "index.jsonl" in said or all(other == piece for other in found)  # a piece has no hash


def finished(root: Path, names: str) -> dict[str, bytes]:
    library = Library(root)
    for name in names:
        put(library, name)
    library.finish()
    library.finish()
    return {name: file for name, file in contents(library).items() if not name.endswith(".tmp")}


def test_the_end_is_the_same_bytes_in_any_order_and_after_repeats(tmp_path: Path) -> None:
    assert finished(tmp_path / "one", "abc") == finished(tmp_path / "two", "cabbac")


def test_a_job_id_that_is_no_file_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="file name"):
        put(Library(tmp_path), "../outside")


def test_a_killed_writer_leaves_whole_pieces(tmp_path: Path) -> None:
    def write_until_killed() -> None:
        library = Library(tmp_path / "k")
        for name in "abc":
            put(library, name)
        os.replace = lambda *_: os._exit(9)  # killed between the file and its index line
        Path.replace = lambda *_: os._exit(9)  # type: ignore[assignment, method-assign]
        put(library, "d")

    assert exit_code(write_until_killed) == 9
    library = Library(tmp_path / "k")
    assert [piece.job.id for piece in library.pieces()] == ["a", "b", "c"] and all(map(library.has, "abc"))
    missing = "".join(name for name in "abcde" if not library.has(name))
    assert finished(library.root, missing) == finished(tmp_path / "w", "abcde")
