"""Cleaning up removes exactly what nobody needs."""

from __future__ import annotations

from pathlib import Path

from puzzledsl.pieces.store.index import remove, unneeded
from puzzledsl.pieces.store.library import Library
from tests.pieces.store.test_block_library import content, put


def filled(root: Path, *names: str) -> Library:
    library = Library(root)
    for seed, name in enumerate(names):
        put(library, name, seed)
    return library


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
