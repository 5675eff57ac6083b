"""Multiple-choice files: what is an item, where a choice's tokens begin; and items as text, in parts."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from puzzledsl.data.documents import Place, Text, documents
from puzzledsl.data.streams import Making, in_part
from puzzledsl.data.tasks import answered, encode_choice, encode_item, read_tasks
from puzzledsl.ir import nodes
from tests.data.chats import data, failure
from tests.language.rules import program
from tests.tiny import tiny_tokenizer

GOOD = {"context": "2 + 2 is", "choices": ["four", "five"], "answer": 0}


BAD = (
    {"choices": ["one"]},
    {"choices": "ab"},
    {"choices": ["a", ""]},
    {"choices": ["a", 1]},
    {"context": None},
    {"answer": 2},
    {"answer": "0"},
    {"context": ["one"]},
    {"context": ["one", ""]},
    {"context": ["one", "two", "three"]},
    {"normalised": "no"},
)


@pytest.mark.parametrize("line", ["{", "[]", '{"context": "a"}', *(json.dumps(GOOD | bad) for bad in BAD)])
def test_a_bad_line_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps(GOOD) + "\n" + line + "\n")
    problem = failure(data(nodes.TaskData(paths=("t.jsonl",))), tmp_path)
    assert problem.code == "E1207" and "line 2 of" in problem.message and "t.jsonl" in problem.message
    assert '"answer": 0' in problem.help


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


def test_a_token_over_the_border_belongs_to_the_choice() -> None:
    vocab = {"<unk>": 0, "a": 1, "b": 2, " ": 3, "c": 4, "b ": 5, "b c": 6}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("b", " "), ("b ", "c")], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    encoded = encode_choice(fast, "ab", "c")
    assert encoded.ids == (1, 6) and encoded.start == 1


HALVES = (Fraction(0), Fraction(1, 2)), (Fraction(1, 2), Fraction(1))


def write_items(path: Path, count: int = 40) -> nodes.Data:
    items = [{"context": f"q{i}", "choices": ["no", f"a{i}"], "answer": 1} for i in range(count)]
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return data(nodes.TaskData(paths=(path.name,)))


@pytest.mark.states("data.tasks")
def test_a_program_names_task_files(tmp_path: Path) -> None:
    source = program(tmp_path, 'data d = tasks("a.jsonl", "b.jsonl", part: 0%..50%)').data["d"].source
    assert source == nodes.TaskData(paths=("a.jsonl", "b.jsonl"), part=HALVES[0])


@pytest.mark.states("data.tasks")
def test_a_document_is_a_question_with_its_right_answer(tmp_path: Path) -> None:
    data = write_items(tmp_path / "t.jsonl", 3)
    assert [*documents(data, tmp_path)] == [Text(f"q{i} a{i}", "t.jsonl") for i in range(3)]


@pytest.mark.states("data.tasks")
def test_halves_of_a_task_share_no_question_and_leave_none_out(tmp_path: Path) -> None:
    data = write_items(tmp_path / "t.jsonl")
    items, tokenizer = read_tasks(tmp_path / "t.jsonl"), tiny_tokenizer()
    found = []
    for half in HALVES:
        source = data.source.model_copy(update={"part": half})
        making = Making(Place.of(data.model_copy(update={"source": source}), tmp_path), tokenizer)
        read = [tokenizer.decode([*ids], skip_special_tokens=True) for ids in making.tokens()]
        assert read == [answered(item) for item in items if in_part(Text(answered(item)), half)]
        found += read
    assert len(found) == len(items) and {*found} == {answered(item) for item in items}
