"""Feeds `pzl check` and `pzl fmt` inputs nobody wrote: no traceback, no hang, no span outside the file.

    python -m benchmarks.fuzz [--quick] [--inputs 200000] [--seed 0]

Inputs are drawn from a seed: raw bytes, words of the language in no order, edited programs, programs with mistakes. What
fails is kept in the folder `fuzz-findings` and printed once a cause.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.inputs import some_input
from tests.fuzz.oracle import HANG_S, answer

FINDINGS = Path("fuzz-findings")


@dataclass
class Figures:
    """Counts of a run."""

    inputs: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    slowest: bytes = b""

    def take(self, kind: str, data: bytes, path: Path) -> None:
        """Feed one input and count what comes of it."""
        found = answer(data, path)
        self.inputs[kind] += 1
        if found.seconds > self.slowest_s:
            self.slowest_s, self.slowest = found.seconds, data
        for problem in found.problems:
            self.problems[problem] += 1
            if self.problems[problem] == 1:
                FINDINGS.mkdir(exist_ok=True)
                (FINDINGS / f"{hashlib.sha256(data).hexdigest()[:12]}.pzl").write_bytes(data)
                print(f"  {problem}", flush=True)

    def report(self, start: float) -> None:
        """Print the figures."""
        for kind, count in sorted(self.inputs.items()):
            print(f"{count:>9,} {kind}")
        print(f"{self.inputs.total():>9,} inputs in {time.process_time() - start:.0f} s of CPU")
        print(f"{self.problems.total():>9,} problems, {len(self.problems)} causes")
        print(f"{self.slowest_s:>9.3f} s for the slowest (limit {HANG_S:.0f} s)")


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for one input after another, in memory where there is such a place."""
    return tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


def seeded(count: int, seed: int, path: Path) -> Figures:
    """`count` inputs of one seed."""
    figures = Figures()
    for number in range(count):
        chance = random.Random(seed * 10**9 + number)
        figures.take(*some_input(chance), path)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="500 inputs")
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.process_time()
    with scratch() as folder:
        figures = seeded(
            500 if arguments.quick else arguments.inputs, arguments.seed, Path(folder) / "input.pzl"
        )
    figures.report(start)


if __name__ == "__main__":
    main()
