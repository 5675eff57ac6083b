"""Recall of `pzl check` on planted mistakes: generated programs with 1-6 planted ones each, through the whole checker.

    python -m benchmarks.diagnostics [--quick] [--programs 500] [--seed 0] [--show 10]

A planted change counts as a mistake only where the program with it alone is refused. Located: some diagnostic marks, by its
span or a label, the line of the mistake or a neighbour. Spurious: every error beyond one for each located mistake.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.checker.check import check
from tests.generated import program
from tests.generated.mistakes import Mistake, mistake, with_mistakes

APART = 3
"""Lines between two mistakes of a program at least: closer ones could not be told apart."""


@dataclass
class Figures:
    """Counts. `missed` and `spurious` list seed, mistake or diagnostic, and its kind."""

    programs: int = 0
    lines: int = 0
    planted: int = 0
    located: int = 0
    by_span: int = 0
    reported: int = 0
    exceptions: int = 0
    slowest_s: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    missed: list[tuple[int, Mistake]] = field(default_factory=list)
    surplus: list[tuple[int, int, list[Diagnostic], list[Mistake]]] = field(default_factory=list)

    @property
    def located_share(self) -> float:
        return self.located / max(self.planted, 1)

    @property
    def spurious_share(self) -> float:
        return (self.reported - self.located) / max(self.planted, 1)


def measure(seeds: range, folder: Path) -> Figures:
    """The figures over one program a seed."""
    figures = Figures()
    path = folder / "program.pzl"
    for seed in seeds:
        chance = random.Random(seed)
        text = program(chance)
        if _errors(path, text, figures):
            raise AssertionError(f"seed {seed}: the generated program is not valid")
        planted = _plant(path, text, chance, figures)
        found = _errors(path, with_mistakes(text, planted), figures)
        _count(figures, seed, planted, found)
        figures.programs += 1
        figures.lines += text.count("\n")
    return figures


def _errors(path: Path, text: str, figures: Figures) -> list[Diagnostic]:
    path.write_text(text, "utf-8")
    start = time.process_time()
    try:
        found = check(path, {}).diagnostics
    except Exception:
        figures.exceptions += 1
        return []
    figures.slowest_s = max(figures.slowest_s, time.process_time() - start)
    return [d for d in found if d.severity == "error"]


def _plant(path: Path, text: str, chance: random.Random, figures: Figures) -> list[Mistake]:
    """1 to 6 mistakes, each of which alone makes the program wrong."""
    planted: list[Mistake] = []
    wanted = chance.randint(1, 6)
    for _ in range(200):
        avoid = {near for m in planted for near in range(m.line - APART + 1, m.line + APART)}
        found = mistake(text, chance, avoid)
        if found is not None and _errors(path, with_mistakes(text, [found]), figures):
            planted.append(found)
        if len(planted) == wanted:
            break
    return planted


def _count(figures: Figures, seed: int, planted: list[Mistake], found: list[Diagnostic]) -> None:
    spans = [d.span.line for d in found if d.span is not None]
    marked = spans + [label.span.line for d in found for label in d.secondary]
    located = [m for m in planted if any(abs(m.line - line) <= 1 for line in marked)]
    figures.planted += len(planted)
    figures.located += len(located)
    figures.by_span += sum(any(abs(m.line - line) <= 1 for line in spans) for m in planted)
    figures.reported += len(found)
    figures.kinds.update(m.kind for m in planted)
    figures.missed += [(seed, m) for m in planted if m not in located]
    if len(found) > len(located):
        figures.surplus.append((len(found) - len(located), seed, found, planted))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="20 programs")
    parser.add_argument("--programs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="the first program's seed")
    parser.add_argument(
        "--show", type=int, default=0, help="how many missed mistakes and noisy programs to print"
    )
    arguments = parser.parse_args()
    count = 20 if arguments.quick else arguments.programs
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(range(arguments.seed, arguments.seed + count), Path(folder))
    print(f"programs     {figures.programs}, {figures.lines / figures.programs:.0f} lines each on average")
    print(f"mistakes     {figures.planted} of {len(figures.kinds)} kinds, 1-6 a program, each verified alone")
    print(
        f"located      {figures.located_share:.1%} within one line ({figures.by_span / figures.planted:.1%} by the main span)"
    )
    print(f"spurious     {figures.spurious_share:.3f} a mistake")
    print(f"exceptions   {figures.exceptions}")
    print(f"slowest      {figures.slowest_s:.3f} s")
    print(f"whole run    {time.process_time() - start:.0f} s of CPU")
    for seed, missed in figures.missed[: arguments.show]:
        print(f"missed   seed {seed} line {missed.line} {missed.kind}: {missed.text.strip()}")
    for surplus, seed, found, planted in sorted(figures.surplus, key=lambda s: -s[0])[: arguments.show]:
        print(f"surplus {surplus}  seed {seed}")
        for m in planted:
            print(f"    planted {m.line} {m.kind}: {m.text.strip()}")
        for d in found:
            print(f"    said    {d.span.line if d.span else 0} {d.code} {d.message}")


if __name__ == "__main__":
    main()
