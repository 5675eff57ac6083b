"""Laws of what examples/smollm2 trains on beside its passages: nothing of it is reported on."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

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
