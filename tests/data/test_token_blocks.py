"""Text becomes token blocks: every token once, in an order of the seed, from any kind of file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import seal
from puzzledsl.data.documents import Text, documents
from puzzledsl.data.streams import fingerprint
from puzzledsl.ir import nodes
from tests.blocks import token_blocks
from tests.tiny import tiny_tokenizer

WHERE = nodes.Where(file="p.pzl", line=3, column=1, end_line=3, end_column=9)
END = 2


def text(*paths: str) -> nodes.Data:
    return nodes.Data(name="mix", source=nodes.TextData(paths=paths), where=WHERE)


def jsonl(*paths: str, column: str = "text") -> nodes.Data:
    return nodes.Data(name="mix", source=nodes.JsonlData(paths=paths, column=column), where=WHERE)


def texts_of(source: nodes.Data, base: Path) -> list[str]:
    return [document.text for document in documents(source, base) if isinstance(document, Text)]


def failure(source: nodes.Data, base: Path, tokens: int = 8) -> tuple[str, str, str]:
    with pytest.raises(DiagnosticError) as caught:
        token_blocks(source, base, tiny_tokenizer(), context=4, tokens=tokens, seed=0)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.span is not None and diagnostic.span.line == 3
    return diagnostic.code, diagnostic.message, diagnostic.help


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


@given(
    st.lists(
        st.text(st.characters(codec="ascii", exclude_characters="\r\x0b\x0c\x1c\x1d\x1e"), max_size=9),
        max_size=6,
    )
)
def test_blank_lines_separate_documents(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    base = tmp_path_factory.mktemp("text")
    kept = ["\n".join(line for line in part.split("\n") if line.strip()) for part in parts]
    kept = [part for part in kept if part]
    (base / "x.txt").write_text("\n\n".join(kept), newline="")
    assert texts_of(text("x.txt"), base) == kept


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


def test_another_tokenizer_is_another_fingerprint() -> None:
    other = tiny_tokenizer()
    other.add_tokens(["hello"])
    assert fingerprint(tiny_tokenizer()) == fingerprint(tiny_tokenizer()) != fingerprint(other)


def test_a_tokenizer_that_begins_documents_is_let_to(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

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
    hub = nodes.Data(name="mix", source=nodes.HfData(id="hub", column="body"), where=WHERE)
    expected = ["first\n\nstill first", "second"]
    assert texts_of(jsonl("d.jsonl", column="body"), tmp_path) == expected
    assert texts_of(jsonl("hub/*.parquet", column="body"), tmp_path) == expected
    assert texts_of(hub, tmp_path) == expected


def test_too_little_text_says_how_much_there_is(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcdefg")
    code, message, help = failure(text("a.txt"), tmp_path, tokens=100)
    assert code == "E1204" and "has 8 tokens" in message and "100 are needed" in message and "8" in help


def test_missing_and_unreadable_files_are_diagnostics(tmp_path: Path) -> None:
    assert failure(text("nothing/*.txt"), tmp_path)[0] == "E1201"
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 10)
    code, message, _ = failure(text("latin.txt"), tmp_path)
    assert code == "E1202" and "UTF-8" in message
    (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{"text": \n')
    code, message, _ = failure(jsonl("bad.jsonl"), tmp_path)
    assert code == "E1202" and "line 2" in message
    (tmp_path / "other.jsonl").write_text('{"body": "fine"}\n')
    code, message, help = failure(jsonl("other.jsonl"), tmp_path)
    assert code == "E1203" and "`text`" in message and "body" in help
    (tmp_path / "list.jsonl").write_text("[1]\n")
    assert failure(jsonl("list.jsonl"), tmp_path)[0] == "E1203"
    (tmp_path / "no.parquet").write_bytes(b"not parquet")
    assert failure(jsonl("no.parquet"), tmp_path)[0] == "E1202"


def test_a_hub_data_set_without_its_package_is_a_diagnostic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    source = nodes.Data(name="mix", source=nodes.HfData(id="someone/something"), where=WHERE)
    code, message, _ = failure(source, tmp_path)
    assert code == "E1205" and "`datasets`" in message
