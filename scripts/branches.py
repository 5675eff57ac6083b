"""Share of the lines and of the branches that the tests take, a package a line, from the `.coverage` of `make coverage`.

python -m scripts.branches [--floor PERCENT] [--record benchmarks/strength.json [--write]]

Exit code 1 where the whole takes less than `--floor` of its branches, or of its lines. `--record` is about all of the package,
what imports torch too: 1 where a folder takes a smaller share than the file says; `--write` writes the shares to it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePath

import coverage

from benchmarks.strength import compared


@dataclass(slots=True)
class Figures:
    """Lines and branches that there are, and those that tests take."""

    lines: int = 0
    lines_taken: int = 0
    branches: int = 0
    branches_taken: int = 0

    def add(self, more: Figures) -> None:
        """Count what another has too."""
        self.lines += more.lines
        self.lines_taken += more.lines_taken
        self.branches += more.branches
        self.branches_taken += more.branches_taken

    @property
    def shares(self) -> tuple[float, float]:
        """Per cent of the branches and of the lines; 100 where there are none."""
        pairs = ((self.branches_taken, self.branches), (self.lines_taken, self.lines))
        branches, lines = (100 * taken / there if there else 100.0 for taken, there in pairs)
        return branches, lines


def measured(whole: bool) -> dict[str, Figures]:
    """The figures of each file, by its path inside the package; where not of the whole, as pyproject.toml leaves files out."""
    data = coverage.Coverage()
    if whole:
        data.set_option("report:omit", [])
    data.load()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "coverage.json")
        data.json_report(outfile=str(report))
        files = json.loads(report.read_text("utf-8"))["files"]
    return {
        path.rpartition("puzzledsl/")[2]: Figures(
            s["num_statements"], s["covered_lines"], s["num_branches"], s["covered_branches"]
        )
        for path, s in ((path, file["summary"]) for path, file in files.items())
    }


def by_package(files: dict[str, Figures]) -> dict[str, Figures]:
    """The figures of each folder of the package; `.` are the modules beside the folders."""
    found: dict[str, Figures] = defaultdict(Figures)
    for path, figures in files.items():
        parts = PurePath(path).parts
        found[parts[0] if len(parts) > 1 else "."].add(figures)
    return dict(sorted(found.items()))


def main(argv: list[str] | None = None) -> int:
    """Print the figures; 1 where they are below the floor."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--floor", type=float, default=0, metavar="PERCENT")
    parser.add_argument("--record", type=Path, metavar="FILE")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(argv)
    floor: float = options.floor
    packages, whole = by_package(measured(options.record is not None)), Figures()
    print(f"{'package':12} {'branches':>14} {'':7}  {'lines':>14}")
    for name, figures in packages.items():
        whole.add(figures)
        print(_row(name, figures))
    print(_row("all", whole))
    if options.record:
        found = {
            name: {"branches": [f.branches_taken, f.branches], "lines": [f.lines_taken, f.lines]}
            for name, f in packages.items()
        }
        return compared(options.record, "coverage", found, _shares, options.write)
    if min(whole.shares) >= floor:
        return 0
    print(f"error: below {floor:g} %", file=sys.stderr)
    return 1


def _shares(recorded: dict[str, list[int]]) -> list[float]:
    return [100 * taken / there if there else 100.0 for taken, there in recorded.values()]


def _row(name: str, figures: Figures) -> str:
    branches, lines = figures.shares
    return (
        f"{name:12} {figures.branches_taken:6} of {figures.branches:5} {branches:6.1f}%"
        f"  {figures.lines_taken:6} of {figures.lines:5} {lines:6.1f}%"
    )


if __name__ == "__main__":
    sys.exit(main())
