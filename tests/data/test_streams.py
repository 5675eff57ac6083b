"""Which documents of a source are read, where they come from, and what is said about them."""

import json
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.data.counts import counts_in, counts_of, in_words
from puzzledsl.data.documents import Place, Text
from puzzledsl.data.streams import Making
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import TextCounts
from tests.data.chats import (
    ANSWER,
    MORE,
    QUESTION,
    chat_data,
    chat_tokenizer,
    data,
    failure,
    read,
    texts_of,
    write_chats,
)
from tests.interrupting import Recorder
from tests.tiny import tiny_tokenizer


def rows_of(base: Path, texts: list[str], name: str = "d.jsonl") -> nodes.JsonlData:
    (base / name).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return nodes.JsonlData(paths=(name,))


def made(source: nodes.PlainData, base: Path) -> tuple[list[str], TextCounts]:
    """The documents whose tokens are in the stream, without their end tokens, and the counts."""
    making, tokenizer = Making(Place.of(data(source), base), tiny_tokenizer()), tiny_tokenizer()
    return [tokenizer.decode(ids, skip_special_tokens=True) for ids in making.tokens()], making.counts


def test_exact_copies_are_dropped_unless_kept(tmp_path: Path) -> None:
    source = rows_of(tmp_path, ["a", "b", "a", "c", "a", " a"])
    texts, counts = made(source, tmp_path)
    assert texts == ["a", "b", "c", " a"] and (counts.documents, counts.duplicates) == (4, 2)
    texts, counts = made(source.model_copy(update={"duplicates": "keep"}), tmp_path)
    assert texts == ["a", "b", "a", "c", "a", " a"]
    assert (counts.duplicates, counts.copies_dropped) == (2, False)
    (tmp_path / "t.txt").write_text("x\n\ny\n\nx")
    paragraphs = nodes.TextData(paths=("t.txt",))
    assert made(paragraphs, tmp_path)[0] == ["x", "y", "x"]
    assert made(paragraphs.model_copy(update={"duplicates": "drop"}), tmp_path)[0] == ["x", "y"]


@given(st.lists(st.integers(0, 30), max_size=60), st.lists(st.integers(0, 100), max_size=4))
def test_parts_share_out_the_documents_and_copies_are_in_one(
    tmp_path_factory: pytest.TempPathFactory, texts: list[int], cuts: list[int]
) -> None:
    """Whatever the cuts: each document is in one part, whose documents no other part has."""
    base = tmp_path_factory.mktemp("parts")
    source = rows_of(base, [f"text {i}" for i in texts])
    bounds = [Fraction(cut, 100) for cut in sorted({0, 100, *cuts})]
    found = [set(made(source.model_copy(update={"part": ends}), base)[0]) for ends in pairwise(bounds)]
    whole = set(made(source, base)[0])
    assert set().union(*found) == whole and sum(map(len, found)) == len(whole)


def test_a_part_has_its_share_and_the_same_documents_in_another_order(tmp_path: Path) -> None:
    texts = [f"document number {i}" for i in range(2000)]
    part = {"part": (Fraction(1, 4), Fraction(3, 4))}
    found, counts = made(rows_of(tmp_path, texts).model_copy(update=part), tmp_path)
    assert len(found) == pytest.approx(1000, abs=100) and counts.other_part == 2000 - len(found)
    other = rows_of(tmp_path, texts[::-1], "other.jsonl").model_copy(update=part)
    assert made(other, tmp_path)[0] == found[::-1]


@given(take=st.integers(1, 40))
def test_take_is_the_first_tokens(tmp_path_factory: pytest.TempPathFactory, take: int) -> None:
    base = tmp_path_factory.mktemp("take")
    source = rows_of(base, ["abc", "defg", "h", "ijklmno"])
    whole = [i for ids in Making(Place.of(data(source), base), tiny_tokenizer()).tokens() for i in ids]
    making = Making(Place.of(data(source.model_copy(update={"take": take})), base), tiny_tokenizer())
    found = [i for ids in making.tokens() for i in ids]
    counts = making.counts
    assert found == whole[:take] and counts.tokens == len(found) == min(take, 19)
    assert counts.stopped == (take <= 19)
    ends = [4, 9, 11, 19]
    assert counts.cut_tokens == (next(end for end in ends if end >= take) - take if take <= 19 else 0)


def test_counts_are_told_once_and_stay_with_the_tokens(tmp_path: Path) -> None:
    cache, progress = tmp_path / "tokens", Recorder()
    source = rows_of(tmp_path, ["abc", "abc", "de"]).model_copy(update={"take": 6})
    declared = {"d": data(source), "unread": data(nodes.TextData(paths=("none.txt",)), "unread")}
    for _ in range(2):
        read(
            declared["d"], tmp_path, tiny_tokenizer(), cache="tokens", context=3, tokens=6, progress=progress
        )
    (told,) = progress.named("text")
    line = "data `d`: 2 documents, 6 tokens; 1 exact duplicates dropped; `take` ends it, 1 tokens of the last document cut"
    assert told["text"] == line
    found = counts_in(cache, declared)
    assert found.keys() == {"d"} and in_words(found["d"][0]) == line
    (file,) = cache.glob("*.npy")
    assert counts_of(file) == found["d"][0]


def test_answers_are_counted(tmp_path: Path) -> None:
    write_chats(tmp_path / "c.jsonl", [[QUESTION, ANSWER], [QUESTION, ANSWER], [MORE], [MORE, ANSWER]])
    making = Making(Place.of(chat_data("c.jsonl"), tmp_path), chat_tokenizer())
    list(making.tokens())
    counts = making.counts
    assert (counts.documents, counts.duplicates, counts.unanswered) == (2, 1, 1)
    assert counts.learned_tokens == 2 * (len("It is 4.") + 1) < counts.tokens
    assert f"({counts.learned_tokens} of them answers)" in in_words(counts)
    assert "1 conversations without an answer left out" in in_words(counts)


@pytest.mark.parametrize(
    ("texts", "part", "reason"),
    [
        ([" ", ""], None, "not blank"),
        (["a", "b"], (Fraction(0), Fraction(1, 10**9)), "all 2 documents are in"),
    ],
)
def test_a_source_without_text(tmp_path: Path, texts: list[str], part: Any, reason: str) -> None:
    problem = failure(data(rows_of(tmp_path, texts).model_copy(update={"part": part})), tmp_path)
    assert problem.code == "E1214" and reason in problem.message


def parquet(path: Path, records: list[dict[str, Any]]) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records), path, row_group_size=2)


def test_parquet_rows_in_order_without_null(tmp_path: Path) -> None:
    parquet(tmp_path / "b.parquet", [{"body": "one"}, {"body": None}, {"body": "two"}, {"body": " "}])
    source = nodes.ParquetData(paths=("*.parquet",), column="body")
    assert texts_of(data(source), tmp_path) == [Text("one", "b.parquet:1"), Text("two", "b.parquet:3")]
    problem = failure(data(source.model_copy(update={"column": "text"})), tmp_path)
    assert problem.code == "E1203" and "body" in problem.help


def test_conversations_in_parquet_are_those_of_json_lines(tmp_path: Path) -> None:
    chats = [[QUESTION, ANSWER], [MORE, ANSWER]]
    write_chats(tmp_path / "c.jsonl", chats)
    parquet(tmp_path / "c.parquet", [{"messages": chat} for chat in chats])
    columnar = nodes.ParquetData(paths=("c.parquet",), messages="messages", loss="answers")
    one, two = (read(source, tmp_path, tokens=40) for source in (chat_data("c.jsonl"), data(columnar)))
    assert one.digest() == two.digest()


def test_a_directory_of_a_data_set_is_read_by_the_real_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two splits in the layout of the hub; the library finds them, streams one, and keeps its order."""
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    for split, count in (("train", 5), ("test", 3)):
        path = tmp_path / "set" / "data" / f"{split}-00000-of-00001.parquet"
        parquet(path, [{"body": f"{split} {i}"} for i in range(count)])
    source = nodes.HfData(id="set", split="test", column="body")
    assert texts_of(data(source), tmp_path) == [Text(f"test {i}", f"set:{i + 1}") for i in range(3)]
    problem = failure(data(source.model_copy(update={"split": "validation"})), tmp_path)
    assert problem.code == "E1202" and "validation" in problem.message and "the split" in problem.help


def offline(*args: object, **kwargs: object) -> Any:
    raise ConnectionError("Couldn't reach 'owner/name' on the Hub (LocalEntryNotFoundError)\nmore")


def breaking(*args: object, **kwargs: object) -> Any:
    yield {"text": "one"}
    raise TimeoutError("timed out")


@pytest.mark.parametrize(
    ("hub", "said"), [(offline, "Couldn't reach"), (breaking, "behind row 1: timed out")]
)
def test_a_hub_that_cannot_be_reached_or_breaks_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Any, said: str
) -> None:
    monkeypatch.setattr(pytest.importorskip("datasets"), "load_dataset", hub)
    problem = failure(data(nodes.HfData(id="owner/name")), tmp_path)
    assert problem.code == "E1202" and said in problem.message and "more" not in problem.message
    assert "connect to the hub" in problem.help


def test_a_hub_data_set_without_its_package_is_a_diagnostic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    problem = failure(data(nodes.HfData(id="someone/something")), tmp_path)
    assert problem.code == "E1205" and "`datasets`" in problem.message
