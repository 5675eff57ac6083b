"""Questions of task files as text, and the parts that they are split into."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.data.documents import Place, Text, documents
from puzzledsl.data.streams import Making, in_part
from puzzledsl.data.tasks import answered, read_tasks
from puzzledsl.ir import nodes
from tests.data.chats import WHERE
from tests.language.rules import program
from tests.tiny import tiny_tokenizer

HALVES = (Fraction(0), Fraction(1, 2)), (Fraction(1, 2), Fraction(1))


def write_items(path: Path, count: int = 40) -> nodes.Data:
    items = [{"context": f"q{i}", "choices": ["no", f"a{i}"], "answer": 1} for i in range(count)]
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return nodes.Data(name="d", source=nodes.TaskData(paths=(path.name,)), where=WHERE)


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


def test_a_line_that_is_no_question_is_named(tmp_path: Path) -> None:
    data = write_items(tmp_path / "t.jsonl", 1)
    (tmp_path / "t.jsonl").write_text('{"context": "q"}\n')
    with pytest.raises(DiagnosticError, match=re.escape("t.jsonl")) as found:
        [*documents(data, tmp_path)]
    assert found.value.diagnostics[0].code == "E1207"
