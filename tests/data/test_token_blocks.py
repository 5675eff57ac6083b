"""Text becomes token blocks: every token once, in an order of the seed, from any kind of file; read when they are asked for."""

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from puzzledsl.base.files import seal
from puzzledsl.data import streams
from puzzledsl.data.streams import token_rows
from puzzledsl.ir import nodes
from tests.blocks import token_blocks
from tests.data.chats import data, failure, jsonl, text, texts_of
from tests.tiny import tiny_tokenizer

END = 2


def test_blocks_are_the_packed_documents_in_another_order(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("gh\n\n\nij")
    (tmp_path / "a.txt").write_text("\n\nabc\nd\n  \nef\n\n")
    tokenizer = tiny_tokenizer()
    expected = [*tokenizer("abc\nd").input_ids, END, *tokenizer("ef").input_ids, END]
    expected += [*tokenizer("gh").input_ids, END, *tokenizer("ij").input_ids, END]
    blocks = token_blocks(text("*.txt"), tmp_path, tokenizer, context=1, tokens=len(expected), seed=5)
    assert sorted(blocks[:, 0].tolist()) == sorted(expected)
    pairs = token_blocks(text("*.txt"), tmp_path, tokenizer, context=2, tokens=len(expected) - 1, seed=5)
    cut = [expected[i : i + 2] for i in range(0, len(expected) - 1, 2)]
    assert sorted(pairs.tolist()) == sorted(cut)


LINES = st.text(st.characters(codec="ascii", exclude_characters="\r\x0b\x0c\x1c\x1d\x1e"), max_size=9)


@given(st.lists(LINES, max_size=6))
def test_blank_lines_separate_documents(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    base = tmp_path_factory.mktemp("text")
    kept = ["\n".join(line for line in part.split("\n") if line.strip()) for part in parts]
    kept = [part for part in kept if part]
    (base / "x.txt").write_text("\n\n".join(kept), newline="")
    assert [each.text for each in texts_of(text("x.txt"), base)] == kept


def test_a_smaller_request_is_a_prefix_and_the_seed_decides(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(f"document {i} of many" for i in range(50)))

    def blocks(tokens: int, seed: int) -> list[list[int]]:
        found = token_blocks(text("a.txt"), tmp_path, tiny_tokenizer(), context=8, tokens=tokens, seed=seed)
        return found.tolist()

    assert blocks(200, 1)[:5] == blocks(40, 1)
    assert blocks(200, 1) != blocks(200, 2)
    assert len(blocks(33, 1)) == 5


def test_the_cache_is_used_made_again_when_damaged_and_keyed_by_content(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text " * 20)
    cache = tmp_path / "cache"

    def blocks() -> list[list[int]]:
        source = text("a.txt")
        return token_blocks(
            source, tmp_path, tiny_tokenizer(), context=4, tokens=100, seed=0, cache=cache
        ).tolist()

    first = blocks()
    (kept,) = cache.iterdir()
    np.save(kept, np.flip(np.load(kept)))
    seal(kept)
    assert blocks() != first, "the second call reads the cache"
    content = bytearray(kept.read_bytes())
    for damaged in (content[:-100], content[:200] + bytes([content[200] ^ 1]) + content[201:], b""):
        kept.write_bytes(damaged)
        assert blocks() == first
    (tmp_path / "a.txt").write_text("other text " * 20)
    assert blocks() != first and len(list(cache.iterdir())) == 2


def test_a_tokenizer_that_begins_documents_is_let_to(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    (tmp_path / "a.txt").write_text("a\n\nb")
    blocks = token_blocks(text("a.txt"), tmp_path, tokenizer, context=6, tokens=6, seed=0)
    a, b = tiny_tokenizer()("ab").input_ids
    assert blocks.tolist() == [[1, a, END, 1, b, END]]


def test_jsonl_and_parquet_and_a_local_data_set_hold_the_same_documents(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = [{"body": "first\n\nstill first", "n": 1}, {"body": "  ", "n": 2}, {"body": "second", "n": 3}]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / "hub").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "hub" / "train-00000.parquet")
    hub = data(nodes.HfData(id="hub", column="body"))
    for source in (jsonl("d.jsonl", column="body"), jsonl("hub/*.parquet", column="body"), hub):
        assert [each.text for each in texts_of(source, tmp_path)] == ["first\n\nstill first", "second"]


def test_too_little_text_says_how_much_there_is(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcdefg")
    problem = failure(text("a.txt"), tmp_path, tokens=100)
    assert problem.code == "E1204" and "8" in problem.help
    assert "has 8 tokens" in problem.message and "100 are needed" in problem.message


@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        ("nothing/*.txt", None, "E1201", ""),
        ("latin.txt", b"caf\xe9 " * 10, "E1202", "UTF-8"),
        ("bad.jsonl", b'{"text": "fine"}\n{"text": \n', "E1202", "line 2"),
        ("other.jsonl", b'{"body": "fine"}\n', "E1203", "`text`"),
        ("list.jsonl", b"[1]\n", "E1203", ""),
        ("no.parquet", b"not parquet", "E1202", ""),
    ],
)
def test_missing_and_unreadable_files_are_diagnostics(
    tmp_path: Path, name: str, content: bytes | None, code: str, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    problem = failure(text(name) if name.endswith("txt") else jsonl(name), tmp_path)
    assert problem.code == code and said in problem.message
    assert name != "other.jsonl" or "body" in problem.help


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
    monkeypatch.setattr(streams, "DIGEST_TOKENS", 24)
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
