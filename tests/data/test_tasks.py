"""Multiple-choice files: what is an item, and where a choice's tokens begin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.data.tasks import Item, encode_choice, encode_item, read_tasks
from tests.tiny import tiny_tokenizer

GOOD = {"context": "2 + 2 is", "choices": ["four", "five"], "answer": 0}


def test_items_are_read_in_order_up_to_the_limit(tmp_path: Path) -> None:
    lines = [json.dumps(GOOD | {"answer": i % 2}) for i in range(4)]
    (tmp_path / "t.jsonl").write_text("\n\n".join(lines) + "\n")
    items = read_tasks(tmp_path / "t.jsonl", 3)
    assert items == tuple(Item("2 + 2 is", ("four", "five"), i % 2) for i in range(3))
    assert len(read_tasks(tmp_path / "t.jsonl")) == 4


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"context": "a"}',
        json.dumps(GOOD | {"choices": ["one"]}),
        json.dumps(GOOD | {"choices": "ab"}),
        json.dumps(GOOD | {"choices": ["a", ""]}),
        json.dumps(GOOD | {"choices": ["a", 1]}),
        json.dumps(GOOD | {"context": None}),
        json.dumps(GOOD | {"answer": 2}),
        json.dumps(GOOD | {"answer": "0"}),
        json.dumps(GOOD | {"context": ["one"]}),
        json.dumps(GOOD | {"context": ["one", ""]}),
        json.dumps(GOOD | {"context": ["one", "two", "three"]}),
        json.dumps(GOOD | {"normalised": "no"}),
    ],
)
def test_a_bad_line_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps(GOOD) + "\n" + line + "\n")
    with pytest.raises(DiagnosticError) as caught:
        read_tasks(tmp_path / "t.jsonl")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "E1207" and "line 2" in diagnostic.message and '"answer": 0' in diagnostic.help


def test_each_choice_may_have_a_context(tmp_path: Path) -> None:
    """A blank is filled in two ways; what follows it is scored."""
    line = {"context": ["Ann", "Bob"], "choices": ["left.", "left."], "answer": 1, "normalised": False}
    (tmp_path / "t.jsonl").write_text(json.dumps(line) + "\n")
    (item,) = read_tasks(tmp_path / "t.jsonl")
    assert item.contexts == ("Ann", "Bob") and not item.normalised
    tokenizer = tiny_tokenizer()
    encoded = encode_item(tokenizer, item)
    assert [tokenizer.decode(choice.ids) for choice in encoded] == ["Ann left.", "Bob left."]
    assert [choice.start for choice in encoded] == [3, 3]


def test_one_context_is_every_choices() -> None:
    assert Item("a", ("b", "c"), 0).contexts == ("a", "a")


def test_a_choice_begins_where_the_context_ends() -> None:
    encoded = encode_choice(tiny_tokenizer(), "ab", "cd")
    assert tiny_tokenizer().decode(encoded.ids) == "ab cd" and encoded.start == 2


def test_a_token_over_the_border_belongs_to_the_choice() -> None:
    vocab = {"<unk>": 0, "a": 1, "b": 2, " ": 3, "c": 4, "b ": 5, "b c": 6}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("b", " "), ("b ", "c")], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    encoded = encode_choice(fast, "ab", "c")
    assert encoded.ids == (1, 6) and encoded.start == 1
