"""Scoring on Ray workers: `python -m benchmarks.score_workers [--example examples/smollm2] [--samples 1Ki] [--every 1]`.

Scores 240 replacements of SmolLM2-135M, eight in each of its 30 layers, with pieces of random weights (times do not depend on
them): in one process with one thread and with two, and with one and with two Ray workers, which have one thread each. Prints
the seconds by the clock, with and without the start of the workers. Exits with 1 unless two workers take at most LIMIT of the
time of one, on as many cores as there are workers, and all figures are the same bit for bit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.stage1_score import random_piece
from puzzledsl.base.progress import Silent
from puzzledsl.checker.check import check
from puzzledsl.cluster.connect import Cluster
from puzzledsl.cluster.ray_tasks import RayExecutor
from puzzledsl.models.families.load import load_parent
from puzzledsl.pieces.store.library import Library
from puzzledsl.plan.bld import bld_plan
from puzzledsl.scoring.figures_cache import FiguresCache
from puzzledsl.scoring.inputs import ScoreInputs
from puzzledsl.scoring.position_kls import PositionKls
from puzzledsl.scoring.replacements import Replacement, replacements
from puzzledsl.scoring.scorer import Here
from puzzledsl.scoring.workers.on_workers import OnWorkers
from puzzledsl.scoring.workers.whole import WholeParent, sent

LIMIT = 0.65
PROGRAM = """
parent p = hf("parent")
space w of p {{
  attention = parent | gqa(kv_heads: 1) | linear | noop
  ffn = parent | mlp(width: 75% | 50% | 25% | 10%) | noop
}}
data d = text("data/train.txt")
bld b of w {{ train = attention + ffn, tokens = 0, context = 256, data = d }}
score s of b = replace_one(kl_divergence, samples: {samples})
search best of w {{ minimize s }}
"""
Figures = dict[tuple[int, str, str], dict[str, float]]


def prepared(example: Path, folder: Path, samples: str) -> ScoreInputs:
    """The program, the example's parent and text, and pieces of random weights."""
    for name in ("parent", "data"):
        (folder / name).symlink_to((example / name).resolve())
    (folder / "p.pzl").write_text(PROGRAM.format(samples=samples))
    checked = check(folder / "p.pzl", {})
    assert checked.program is not None, checked.diagnostics
    program, library = checked.program, Library(folder / "build" / "library")
    model, jobs = load_parent(folder / "parent"), bld_plan(checked.program, "b")
    torch.manual_seed(0)
    for job in jobs:
        library.enter(library.write(job, random_piece(model, job), 0.0, 0.0, 0))
    return ScoreInputs(program, "s", folder / "parent", folder, library, jobs, folder / "work", Silent())


def here(inputs: ScoreInputs, todo: list[Replacement], threads: int) -> tuple[Figures, float, float]:
    """Figures, and seconds with and without loading the parent."""
    torch.set_num_threads(threads)
    began = time.perf_counter()
    scorer = Here(inputs, todo, ())
    loaded = time.perf_counter()
    return _measured(scorer.measure, inputs, began, loaded)


def there(inputs: ScoreInputs, todo: list[Replacement], workers: int) -> tuple[Figures, float, float]:
    """Figures, and seconds with and without the start of the workers, of which the first loads the parent."""
    import ray

    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    try:
        began = time.perf_counter()
        tasks = WholeParent(sent(inputs), todo, ())
        with RayExecutor(Cluster("local")).open(tasks.spec(), Silent()) as teams:
            scorer = OnWorkers(teams, inputs, tasks)
            return _measured(scorer.measure, inputs, began, time.perf_counter())
    finally:
        ray.shutdown()


def _measured(
    measure: Callable[[FiguresCache, PositionKls], None], inputs: ScoreInputs, began: float, loaded: float
) -> tuple[Figures, float, float]:
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        known = FiguresCache(Path(folder) / "figures.jsonl", "")
        measure(known, PositionKls())
    ended = time.perf_counter()
    return known.figures, ended - began, ended - loaded


def main() -> int:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--example", type=Path, default=Path("examples/smollm2"))
    parser.add_argument("--samples", default="1Ki", help="scored tokens (default: %(default)s)")
    parser.add_argument("--every", type=int, default=1, help="which of the replacements (default: all)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        inputs = prepared(options.example, Path(folder), options.samples)
        program = inputs.program
        todo = replacements(program.scores["s"], program.spaces["w"], "subblock", inputs.jobs)
        todo = todo[:: options.every]
        print(f"{len(todo)} replacements, {options.samples} tokens: seconds in all, and of scoring alone")
        found: dict[str, tuple[Figures, float, float]] = {}
        for name, run in (
            ("one process, 1 thread", lambda: here(inputs, todo, 1)),
            ("one process, 2 threads", lambda: here(inputs, todo, 2)),
            ("1 worker", lambda: there(inputs, todo, 1)),
            ("2 workers", lambda: there(inputs, todo, 2)),
        ):
            found[name] = run()
            print(f"  {name:24} {found[name][1]:7.1f} {found[name][2]:7.1f}", flush=True)
    ratio = found["2 workers"][1] / found["1 worker"][1]
    alike = all(figures == found["1 worker"][0] for figures, _, _ in found.values())
    print(
        f"2 workers take {ratio:.2f} of 1 worker (<= {LIMIT}); all figures are {'' if alike else 'NOT '}the same"
    )
    return int(not (alike and ratio <= LIMIT))


if __name__ == "__main__":
    raise SystemExit(main())
