"""Items of multiple choice a CPU second: each choice alone, sharing its context, and with oneDNN's products.

    python -m benchmarks.evaluation                # SmolLM2 and the tasks that examples/smollm2/prepare.py writes
    python -m benchmarks.evaluation --items 100 --threads 2

The three take turns on the same items. The largest difference of a log-probability from choices alone is printed too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from puzzledsl.child.load import load_checkpoint
from puzzledsl.data.tasks import EncodedChoice, encode_item, read_tasks
from puzzledsl.evaluate import choices
from puzzledsl.models.families.load import load_tokenizer

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "smollm2"
TASKS = ("sciq", "arc_easy", "piqa", "hellaswag")
Items = list[tuple[EncodedChoice, ...]]


@contextmanager
def products(fast: bool) -> Iterator[None]:
    """Evaluation's own products, or PyTorch's."""
    engine: Any = choices
    kept = engine.fast_products
    engine.fast_products = kept if fast else nullcontext
    try:
        yield
    finally:
        engine.fast_products = kept


def timed(model: PreTrainedModel, items: Items, share: bool, fast: bool) -> tuple[float, list[float]]:
    """CPU seconds, and every log-probability."""
    with products(fast):
        began = time.process_time()
        found = choices.log_likelihoods(model, items, share_context=share)
        return time.process_time() - began, [value for item in found for value in item]


def encoded(path: Path, tokenizer: Any, count: int) -> Items:
    """The first items of a task file."""
    return [encode_item(tokenizer, item) for item in read_tasks(path, count)]


def table(model: PreTrainedModel, items_of: Callable[[str], Items]) -> Iterator[str]:
    """A line a task."""
    yield f"{'items a CPU second':<20}{'alone':>8}{'shared':>8}{'oneDNN':>8}{'gain':>8}  largest difference"
    for task in TASKS:
        items = items_of(task)
        alone, expected = timed(model, items, share=False, fast=False)
        shared, _ = timed(model, items, share=True, fast=False)
        fast, found = timed(model, items, share=True, fast=True)
        apart = max(abs(a - b) for a, b in zip(expected, found, strict=True))
        rates = "".join(f"{len(items) / seconds:>8.2f}" for seconds in (alone, shared, fast))
        yield f"{task:<20}{rates}{alone / fast:>7.1f}x  {apart:.1e}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--items", type=int, default=24, help="of each task (default: 24)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parent", type=Path, default=EXAMPLE / "parent")
    parser.add_argument("--data", type=Path, default=EXAMPLE / "data")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tokenizer = load_tokenizer(arguments.parent)
    model = load_checkpoint(arguments.parent, dtype=torch.float32, device=torch.device("cpu"))
    path = arguments.data
    for line in table(model, lambda task: encoded(path / f"{task}.jsonl", tokenizer, arguments.items)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
