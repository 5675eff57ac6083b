"""The paper's programs at toy size: a tiny parent and random texts in place of SmolLM2 and the example's."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from benchmarks.paper.study import LIBRARY, PROGRAMS, Budget, Study
from tests.tiny import save_tiny

WORDS = "the a child parent layer head block token cat dog house river walks sees finds under over red blue old".split()
TASKS = ("hellaswag", "arc_easy", "arc_challenge", "piqa", "winogrande", "sciq", "mmlu", "boolq")
TOY = {
    "piece_tokens": "512",
    "samples": "128",
    "distilling": "512",
    "calibrating": "512",
    "healing": "0",
    "calibration": "1Ki",
    "reading": "256",
    "training": "512",
    "second": "512",
}


def _passage(draw: random.Random) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(60)) + "."


def _item(draw: random.Random) -> str:
    choices = [" ".join(draw.sample(WORDS, 3)) for _ in range(draw.choice((2, 4)))]
    item = {"context": _passage(draw)[:80], "choices": choices, "answer": draw.randrange(len(choices))}
    return json.dumps(item) + "\n"


def write_texts(folder: Path) -> Path:
    """Random texts and task files under the names that the example's have."""
    draw = random.Random(0)
    folder.mkdir()
    for name in ("train", "varied", "heldout", "calibration", "choice", "sampled"):
        (folder / f"{name}.txt").write_text("\n\n".join(_passage(draw) for _ in range(120)) + "\n")
    for name in TASKS:
        (folder / f"{name}.jsonl").write_text("".join(_item(draw) for _ in range(12)))
    return folder


@pytest.fixture(scope="package")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of a parent of four layers, its library made."""
    root = tmp_path_factory.mktemp("paper")
    parent = save_tiny(root / "parent", layers=4, hidden=32, heads=4, kv_heads=2, intermediate=48)
    texts = write_texts(root / "texts")
    programs = shutil.copytree(PROGRAMS, root / "programs", ignore=shutil.ignore_patterns("build"))
    library = programs / LIBRARY
    text = library.read_text("utf-8").replace("hf(model, shape: smollm2_135m)", "hf(model)")
    text = text.replace("../smollm2/parent", str(parent)).replace("../smollm2/data", str(texts))
    library.write_text(text.replace('use "std/parents.pzl" (smollm2_135m)\n', ""), "utf-8")
    settings = {**TOY, "model": f'"{parent}"', "texts": f'"{texts}"'}
    return Study(
        Budget(
            seeds=1,
            rival_seeds=1,
            piece_seeds=1,
            heldout=512,
            items=6,
            points=1,
            lengths=(128, 256),
            sheets=2,
        ),
        root / "build",
        settings=settings,
        programs=programs,
    )
