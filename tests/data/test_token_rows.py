"""Blocks that are read from files when they are asked for are those that would be in memory."""

from __future__ import annotations

import hashlib
import pickle
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from puzzledsl.data import streams as rows
from puzzledsl.data.documents import Place, Text
from puzzledsl.data.streams import Stream, TokenRows, token_rows
from puzzledsl.ir import nodes
from tests.blocks import token_blocks
from tests.data.test_token_blocks import text
from tests.tiny import tiny_tokenizer


def folders(base: Path) -> tuple[nodes.Data, dict[str, object]]:
    (base / "a.txt").write_text("\n\n".join(f"document {i} of many" for i in range(90)))
    return text("a.txt"), {"context": 8, "tokens": 400, "seed": 3, "cache": base / "cache"}


def test_parts_are_slices_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, settings = folders(tmp_path)
    whole = token_blocks(source, tmp_path, tiny_tokenizer(), **settings)
    found = token_rows(source, tmp_path, tiny_tokenizer(), **settings)
    assert whole.dtype == torch.int64 and found.shape == tuple(whole.shape) == (50, 8)
    assert torch.equal(found[:], whole) and torch.equal(found[7:19], whole[7:19])
    assert torch.equal(found.part(4, 20).part(3)[2:5], whole[9:12]) and len(found.part(48)) == 2
    monkeypatch.setattr(rows, "DIGEST_TOKENS", 24)
    assert found.digest() == hashlib.sha256(whole.numpy().tobytes()).hexdigest()


def test_another_process_maps_the_same_files(tmp_path: Path) -> None:
    """Rows are small when they are pickled, whatever the text; the file is neither tokenised nor checked again."""
    source, settings = folders(tmp_path)
    found = token_rows(source, tmp_path, tiny_tokenizer(), **settings)
    (file,) = (tmp_path / "cache").iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # of its seal
    travelling = pickle.dumps(found)
    file.write_bytes(content)
    assert file.name.encode() in travelling and len(travelling) < 4000
    assert torch.equal(pickle.loads(travelling)[:], found[:])


def test_a_data_set_of_the_hub_is_read_once_for_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every stage has the same text, whatever becomes of it on the hub."""
    source = nodes.Data(name="mix", source=nodes.HfData(id="someone/something"), where=text("a").where)
    read = []

    def elsewhere(place: Place) -> Iterator[Text]:
        read.append(place)
        return iter([Text(f"text {i}") for i in range(40)])

    monkeypatch.setattr(rows, "documents_at", elsewhere)
    settings = {"context": 4, "tokens": 64, "seed": 0}
    plain = token_rows(source, tmp_path, tiny_tokenizer(), **settings, cache=tmp_path / "other")
    for _ in range(2):
        kept = token_rows(source, tmp_path, tiny_tokenizer(), **settings, cache=tmp_path / "cache")
        assert torch.equal(kept[:], plain[:])
    assert len(read) == 2


def test_a_large_text_is_not_in_memory(tmp_path: Path) -> None:
    path, context = tmp_path / "large.npy", 1024
    np.save(path, np.zeros(4 << 20, dtype=np.int32))
    tracemalloc.start()
    found = TokenRows([Stream(path)], np.zeros(4096, "u2"), np.arange(4096), context)
    found[100:104]
    found.digest()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 8 * rows.DIGEST_TOKENS < 8 * 4096 * context
