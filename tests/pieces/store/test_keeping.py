"""Cleaning up removes exactly what nobody needs; verifying finds exactly what is damaged."""

from __future__ import annotations

from pathlib import Path

from puzzledsl.pieces.store.index import faults, pieces_of, remove, unneeded
from puzzledsl.pieces.store.library import Library
from tests.pieces.store.test_block_library import content, job, put, weights


def filled(root: Path, *names: str) -> Library:
    library = Library(root)
    for seed, name in enumerate(names):
        put(library, name, seed)
    return library


def test_a_whole_library_has_no_faults(tmp_path: Path) -> None:
    filled(tmp_path, "a", "b")
    assert faults(tmp_path) == ()
    assert faults(tmp_path / "nowhere") == ()


def test_damaged_and_missing_pieces_are_named(tmp_path: Path) -> None:
    filled(tmp_path, "a", "b", "c")
    flipped = bytearray((tmp_path / "a.safetensors").read_bytes())
    flipped[-1] ^= 1
    (tmp_path / "a.safetensors").write_bytes(flipped)
    (tmp_path / "c.safetensors").unlink()
    assert [fault.file for fault in faults(tmp_path)] == ["a.safetensors", "c.safetensors"]


def test_cleaning_up_leaves_what_is_needed_as_it_was(tmp_path: Path) -> None:
    filled(tmp_path / "kept", "a", "c").finish()
    library = filled(tmp_path / "all", "a", "c", "b")
    library.finish()
    (tmp_path / "all" / "stray.safetensors").write_bytes(b"12345")
    freed = unneeded(tmp_path / "all", {"a", "c"})
    size = (tmp_path / "all" / "b.safetensors").stat().st_size
    assert [p.job.id for p in freed.pieces] == ["b"] and freed.strays == ("stray.safetensors",)
    assert freed.size_bytes == size + 5
    remove(tmp_path / "all", freed)
    assert content(tmp_path / "all") == content(tmp_path / "kept")
    assert unneeded(tmp_path / "all", {"a", "c"}).size_bytes == 0


def test_pieces_are_listed_layer_by_layer(tmp_path: Path) -> None:
    library = Library(tmp_path)
    for name, layer in (("a", 2), ("b", 0), ("c", 1)):
        library.enter(library.write(job(name, layer), weights(), 0.5, 0.25, 8))
    assert [p.job.layer for p in pieces_of(tmp_path)] == [0, 1, 2]
