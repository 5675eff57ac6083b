"""Compare children by speed-up and method: `python -m benchmarks.child --build BUILD [--speeds 1.2] [--methods searched …]`.

One child for each speed-up, method and seed, made as `pzl run` makes them: a search over the measured costs and scores of the
example's build, assembled, healed on `--tokens` and, where asked, uptrained. Each is judged by its KL to the parent on held-out
text and on the text of the tasks, and by the accuracy that it keeps: chance-corrected, pooled over the task files beside the
held-out text. Nothing is chosen on what is reported: `refinedN`, `evolvedN`, `evopressN` and `evouniformN` measure N children
on the score's text; the last two start from the children of `block_influence` and `uniform`, and `evopressN` knows no scores.
CPU seconds are those of making the child: search, measuring, healing, uptraining. `predicted` is the loss that the scores give
the child, after the last refit where they are refitted.

Records go to a JSON Lines file, one a child, under the digest of what they depend on: a run that was stopped goes on, and only
what is new is made. `pzl run examples/smollm2/smollm2.pzl --until score` makes the build.

KL's standard error is a bootstrap over runs of 64 positions; that of accuracy is over items, paired with the parent's answers.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.child_judge import Judge
from benchmarks.child_made import Bench, Recipe
from benchmarks.child_methods import METHODS, known, parse

SPEEDS = (1.1, 1.2, 1.3, 1.45, 1.7)
DEFAULT_METHODS = ("searched", "block_influence", "angular_run", "uniform_width", "drop6+searched")
COLUMNS = ("method", "asked", "speed", "params", "dropped", "predicted", "KL", "KL, tasks", "kept", "CPU s")
Record = dict[str, Any]


class Records:
    """A JSON Lines file of finished children."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        self._known: dict[str, Record] = {r["key"]: r for r in map(_whole, lines) if r is not None}

    def get(self, key: str) -> Record | None:
        """A record that is there already."""
        return self._known.get(key)

    def add(self, record: Record) -> None:
        """Append a record; on return it is in the file."""
        self._known[record["key"]] = record
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def _whole(line: str) -> Record | None:
    """A line's record; None for the torn last line of a run that was killed."""
    try:
        record: Record = json.loads(line)
    except ValueError:
        return None
    return record


def children(bench: Bench, judge: Judge, records: Records, asked: Sequence[Recipe]) -> Iterator[Record]:
    """A record for each child, made unless it is there."""
    for recipe in asked:
        inputs = {**bench.inputs(recipe), "judge": judge.inputs()}
        key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:24]
        record = records.get(key)
        if record is None:
            print(f"  {recipe.title} …", file=sys.stderr, flush=True)
            record = {"key": key, **_record(bench, judge, recipe)}
            records.add(record)
        yield record


def _record(bench: Bench, judge: Judge, recipe: Recipe) -> Record:
    began = time.process_time()
    made = bench.made(recipe)
    cpu_s = time.process_time() - began
    record: Record = {**recipe.as_json(), "cpu_s": round(cpu_s, 1), "status": made.status}
    if made.model is not None and made.chosen is not None:
        record |= {**made.chosen.as_json(), **judge.judged(made.model)}
    return record


def row(record: Record) -> str:
    """A child as a row of the table."""
    asked = f"{record['asked']:g}x"
    seed = f", seed {record['seed']}" if record["seed"] else ""
    if "kl" not in record:
        return f"| {record['method']}{seed} | {asked} | {record['status']} |" + " |" * (len(COLUMNS) - 3)
    dropped = [i for i, layer in enumerate(record["layers"]) if layer == "noop/noop"]
    cells = (
        record["method"] + seed,
        asked,
        f"{record['speed']:.3f}",
        f"{record['params']:.3f}",
        " ".join(map(str, dropped)),
        f"{record['predicted']:.3f}",
        _shown(record["kl"]),
        _shown(record.get("kl_tasks")),
        _shown(record["kept"].get("pooled")),
        f"{record['cpu_s']:.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def _shown(figure: dict[str, float] | None) -> str:
    return "" if figure is None else f"{figure['value']:.3f} ± {figure['stderr']:.3f}"


def tokens(text: str) -> int:
    """`8192` or `8Ki`."""
    return int(text[:-2]) * 1024 if text.endswith("Ki") else int(text)


def main() -> None:
    """Make what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--program", type=Path, default=Path("examples/smollm2/smollm2.pzl"), help="(default: %(default)s)")
    add("--build", type=Path, help="its build, with costs, pieces and scores (default: build/ beside it)")
    add("--costs", type=Path, help="a cost table (JSON) in place of the build's measured one")
    add(
        "--out", type=Path, default=Path("build/child.jsonl"), help="finished children (default: %(default)s)"
    )
    add("--work", type=Path, default=Path("build/child"), help="unfinished ones (default: %(default)s)")
    add("--speeds", type=float, nargs="+", default=SPEEDS, help="times the parent's (default: %(default)s)")
    add(
        "--methods",
        nargs="+",
        default=DEFAULT_METHODS,
        help=f"{known()} (default: {' '.join(DEFAULT_METHODS)})",
    )
    add(
        "--seeds",
        type=int,
        default=1,
        help="draws of the text for healing and uptraining (default: %(default)s)",
    )
    add("--tokens", type=tokens, default=24 * 1024, help="healed on; 0: not healed (default: 24Ki)")
    add("--uptrain", type=tokens, default=0, help="tokens of distillation (default: none)")
    add("--items", type=int, default=350, help="of each task; 0: no accuracy (default: %(default)s)")
    add("--shots", type=int, default=0, help="answered questions before each item (default: none)")
    add("--heldout", type=tokens, default=4096, help="held-out tokens (default: 4Ki)")
    add("--task-tokens", type=tokens, default=1536, help="tokens of task text (default: %(default)s)")
    options = parser.parse_args()
    unknown = [name for name in options.methods if parse(name) is None]
    if unknown:
        parser.error(f"no method `{unknown[0]}`: {known()}")
    bench = Bench(options.program, options.build, options.costs, options.work)
    sizes = {"items": options.items, "heldout": options.heldout, "task_tokens": options.task_tokens}
    judge = Judge(bench, **sizes, shots=options.shots)
    asked = [
        Recipe(method, speed, seed, options.tokens, options.uptrain)
        for speed in options.speeds
        for method in options.methods
        for seed in range(options.seeds)
    ]
    print(judge.title())
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for record in children(bench, judge, Records(options.out), asked):
        print(row(record), flush=True)


__all__ = ["METHODS", "Records", "children", "main", "row"]

if __name__ == "__main__":
    main()
