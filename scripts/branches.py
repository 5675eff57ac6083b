"""Share of the lines and of the branches that the tests take, a package a line, from the `.coverage` of `make coverage`.

python scripts/branches.py [--floor PERCENT]

Exit code 1 where the whole takes less than `--floor` of its branches, or of its lines.
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


def measured() -> dict[str, Figures]:
    """The figures of each file, by its path inside the package."""
    data = coverage.Coverage()
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
    floor: float = parser.parse_args(argv).floor
    packages, whole = by_package(measured()), Figures()
    print(f"{'package':12} {'branches':>14} {'':7}  {'lines':>14}")
    for name, figures in packages.items():
        whole.add(figures)
        print(_row(name, figures))
    print(_row("all", whole))
    if min(whole.shares) >= floor:
        return 0
    print(f"error: below {floor:g} %", file=sys.stderr)
    return 1


def _row(name: str, figures: Figures) -> str:
    branches, lines = figures.shares
    return (
        f"{name:12} {figures.branches_taken:6} of {figures.branches:5} {branches:6.1f}%"
        f"  {figures.lines_taken:6} of {figures.lines:5} {lines:6.1f}%"
    )


if __name__ == "__main__":
    sys.exit(main())
