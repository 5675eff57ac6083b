"""Laws of what examples/smollm2 trains on beside its passages: nothing of it is reported on."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import sys
import zipfile
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "smollm2"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"smollm2_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


texts, sample = load("texts"), load("sample")
SOCIAL = {
    "context": "Ann fell.",
    "question": "How does Ann feel?",
    "answerA": "glad",
    "answerB": "sore",
    "answerC": "old",
}


def request(doc_id: int, doc: dict[str, Any]) -> str:
    return json.dumps({"doc_id": doc_id, "doc": doc}) + "\n"


@pytest.mark.parametrize(
    ("task", "doc", "text"),
    [
        ("socialiqa", SOCIAL | {"label": "2"}, "Ann fell. How does Ann feel? Sore."),
        (
            "csqa",
            {"query": "Question: What flies?\n A. a stone\n B. a bird\nAnswer:", "gold": 1},
            "Question: What flies?\nAnswer: a bird",
        ),
        (
            "winogrande",
            {"sentence": "The _ is full.", "option1": "cup", "option2": "sea", "answer": "1"},
            "The cup is full.",
        ),
    ],
)
def test_an_item_becomes_text_with_its_right_answer(task: str, doc: dict[str, Any], text: str) -> None:
    assert texts.TASKS[task](doc) == text


@given(st.lists(st.text(min_size=1, max_size=50).filter(lambda t: "\n" not in t)), st.integers(1, 90))
def test_documents_hold_every_text_in_order(found: list[str], characters: int) -> None:
    documents = list(texts.grouped(found, characters))
    assert "\n".join(documents).split("\n") == (found or [""])
    assert all(len(d.replace("\n", "")) >= characters for d in documents[:-1])


def test_of_twins_the_first_stays() -> None:
    same = "a sentence that begins in quite the same way "
    assert texts.without_twins([same + "one", "other", same + "two"]) == [same + "one", "other"]


def wheel(training: list[dict[str, Any]], validation: list[dict[str, Any]]) -> zipfile.ZipFile:
    """As many lines an item as it has answers; of SocialIQA alone there are any."""
    archive = zipfile.ZipFile(io.BytesIO(), "w")
    for task in texts.TASKS:
        for split, form, docs in (("train", "mc", training), ("val", "rc", validation)):
            kept = docs if task == "socialiqa" else []
            lines = "".join(request(i, doc) * 3 for i, doc in enumerate(kept))
            name = texts.REQUESTS_IN_WHEEL.format(task=task, split=split, form=form)
            archive.writestr(name, gzip.compress(lines.encode()))
    return archive


def test_nothing_that_is_reported_on_is_written(tmp_path: Path) -> None:
    """One text shares a run with heldout.txt, one with an item of a task and one with its choice; a fourth is free."""
    words = ("one", "two", "three", "four")
    long = [f"{word} " * 20 + "and then a long walk home through the rain." for word in words]
    (tmp_path / "heldout.txt").write_text(f"Something else.\n\nBefore. {long[0].upper()}\n")
    item = {"context": f"{long[1]} Why?", "choices": ["no", f"yes {long[2]}"], "answer": 0}
    (tmp_path / "task.jsonl").write_text(json.dumps(item) + "\n")
    training = [SOCIAL | {"context": text, "label": "1"} for text in long]
    validation = [{"query": f"Question: {text}\nAnswer:", "choices": ["a", "b"], "gold": 1} for text in long]
    texts.write_texts(wheel(training, validation), tmp_path)
    assert (tmp_path / "varied.txt").read_text() == f"{long[3]} How does Ann feel? Glad.\n"
    assert (tmp_path / "choice.txt").read_text() == f"Question: {long[3]}\nAnswer: b\n"


def test_prompts_are_the_same_each_time_and_take_turns() -> None:
    passages = [f"passage {i} " * 30 for i in range(9)]
    first, second = (list(islice(sample.prompts(passages), 200)) for _ in range(2))
    assert first == second
    assert {prompt for prompt in first if prompt in sample.PROMPTS} == set(sample.PROMPTS)
    assert all((prompt in sample.PROMPTS) == (i % 3 == 0) for i, prompt in enumerate(first[:108]))


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_sampled_document_has_no_blank_line(prompt: str, answer: str) -> None:
    assert not any(not line.strip() for line in sample.document(prompt, answer).splitlines())


def test_sampled_text_is_made_once_and_holds_nothing_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More tokens than are there are sampled anew; fewer are not."""
    prepare, data, asked = load("prepare"), tmp_path / "data", []
    data.mkdir()
    held_out = "a sentence of the held-out text that is longer than sixty characters"
    (data / "heldout.txt").write_text(held_out)
    (data / "train.txt").write_text("one passage\n\nanother\n")

    def answers(parent: Path, passages: list[str], tokens: int, advance: Any) -> list[str]:
        assert parent == tmp_path / "parent" and passages == ["one passage", "another"]
        asked.append(tokens)
        return [f"Prompt\n{tokens} new words", f"Prompt\nHere is {held_out}."]

    fake = ModuleType("sample")
    monkeypatch.setattr(fake, "sample", answers, raising=False)
    monkeypatch.setitem(sys.modules, "sample", fake)
    monkeypatch.setitem(sys.modules, "texts", texts)
    for tokens in (64, 32, 64, 128):
        prepare.write_sampled(tmp_path, tokens)
    assert asked == [64, 128]
    assert (data / "sampled.txt").read_text() == "Prompt\n128 new words\n"
