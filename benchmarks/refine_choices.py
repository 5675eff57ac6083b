"""Ablation of refining: `python -m benchmarks.refine_choices --program PROGRAM [--speeds 1.3 1.7] [--seeds 3]`.

`refine = measured(N)` with one thing changed at a time: how far draws spread, what the prior says of errors that entries share,
how much measurements count. Each row is a change; a cell is the KL of the best of N children at a speed-up, on held-out text that
nothing was chosen on, as a share of the KL of the search's own optimum: the mean over the seeds, which draw the text to heal on
and the children, and in brackets the least and the largest. `pzl run PROGRAM --until score` makes what it reads; on a small
parent (`python -m benchmarks.second_parent`) a cell takes some 20 CPU seconds a seed.

Records go to a JSON Lines file: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from benchmarks.child import Records, tokens
from benchmarks.child_judge import Judge
from benchmarks.child_made import Bench, Recipe
from puzzledsl.refining import proposals, surrogate

Changes = Mapping[tuple[ModuleType, str], float]
VARIANTS: dict[str, Changes] = {
    "as it is": {},
    "draws spread 0": {(proposals, "SPREAD"): 0.0},
    "draws spread 0.5": {(proposals, "SPREAD"): 0.5},
    "draws spread 1 (Thompson sampling as it is)": {(proposals, "SPREAD"): 1.0},
    "optima and draws in turn": {(proposals, "TURN"): 2},
    "no shared errors": {(surrogate, "SHARED"): 1e-6, (surrogate, "BY_KIND"): 1e-6},
    "shared errors alone": {(surrogate, "OWN"): 1e-6, (surrogate, "OWN_RUN"): 1e-6},
    "all errors doubled": {
        (surrogate, name): 2 * getattr(surrogate, name)
        for name in ("SHARED", "BY_KIND", "OWN", "SHARED_RUN", "OWN_RUN")
    },
    "far measurements count alike": {(surrogate, "DISTANCE_NOISE"): 0.0},
}
"""Constants of the package that each row changes."""
HELDOUT = 4096
"""Tokens of held-out text."""


@contextmanager
def changed(changes: Changes) -> Iterator[None]:
    """The package with other constants, for a while."""
    before = {key: getattr(*key) for key in changes}
    try:
        for (module, name), value in changes.items():
            setattr(module, name, value)
        yield
    finally:
        for (module, name), value in before.items():
            setattr(module, name, value)


class Table:
    """KLs of children, each made once."""

    def __init__(self, bench: Bench, judge: Judge, records: Records, healed: int) -> None:
        self._bench, self._judge, self._records, self._healed = bench, judge, records, healed

    def kl(self, method: str, variant: str, speed: float, seed: int) -> float | None:
        """KL on held-out text of the method's child; None where none meets the requirements."""
        recipe = Recipe(method, speed, seed, self._healed, 0)
        changes = {f"{module.__name__}.{name}": value for (module, name), value in VARIANTS[variant].items()}
        inputs = {**self._bench.inputs(recipe), "judge": self._judge.inputs(), "changes": changes}
        key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:24]
        record = self._records.get(key)
        if record is None:
            print(f"  {variant}: {recipe.title} …", file=sys.stderr, flush=True)
            with changed(VARIANTS[variant]):
                made = self._bench.made(recipe)
            judged = {} if made.model is None else {"kl": self._judge.judged(made.model)["kl"]["value"]}
            record = {"key": key, "variant": variant, **recipe.as_json(), "status": made.status, **judged}
            self._records.add(record)
        return record.get("kl")

    def cell(self, method: str, variant: str, speed: float, seeds: int) -> str:
        """Mean, least and largest share of the optimum's KL."""
        shares = []
        for seed in range(seeds):
            found = self.kl(method, variant, speed, seed)
            optimum = self.kl("searched", "as it is", speed, seed)
            if found is None or optimum is None:
                return "none"
            shares.append(found / optimum)
        return f"{sum(shares) / len(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"


def main() -> None:
    """Make what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--program", type=Path, required=True, help="a program with a build beside it")
    add("--build", type=Path, help="its build, with costs, pieces and scores (default: build/ beside it)")
    add("--out", type=Path, default=Path("build/refine_choices.jsonl"), help="(default: %(default)s)")
    add("--work", type=Path, default=Path("build/refine_choices"), help="(default: %(default)s)")
    add("--speeds", type=float, nargs="+", default=(1.3, 1.7), help="times the parent's (default: 1.3 1.7)")
    add("--seeds", type=int, default=3, help="(default: %(default)s)")
    add("--children", type=int, nargs="+", default=(12,), help="that are measured (default: 12)")
    add("--tokens", type=tokens, default=8192, help="that children are healed on (default: 8Ki)")
    options = parser.parse_args()
    bench = Bench(options.program, options.build, None, options.work)
    judge = Judge(bench, items=0, heldout=HELDOUT, task_tokens=0)
    table = Table(bench, judge, Records(options.out), options.tokens)
    titles = [f"{speed:g}x" for speed in options.speeds]
    print("| children | change | " + " | ".join(titles) + " |\n|---|---" + "|---" * len(titles) + "|")
    for children in options.children:
        for variant in VARIANTS:
            cells = [
                table.cell(f"refined{children}", variant, speed, options.seeds) for speed in options.speeds
            ]
            print(f"| {children} | {variant} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
