"""Redo the paper's tables and figures on SmolLM2-135M: `python -m benchmarks.paper [TABLE]... [--budget quick]`.

Needs what `python examples/smollm2/prepare.py` makes. Finished children are kept in the build directory, so that a run that was
stopped goes on and a second one makes nothing. Writes paper.json (results: the same bytes on one kind of processor with as many
threads), times.json (seconds that each table took to make, and what was timed) and, with --docs, docs/paper.md with its pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.paper.document import LIBRARY, write_document
from benchmarks.paper.estimate import verdict
from benchmarks.paper.result import Result, Table
from benchmarks.paper.study import BUDGETS, PROGRAMS, Study
from benchmarks.paper.tables import tables
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import write_text

RESULTS, TIMES, TIMED = "paper.json", "times.json", "timed"
console = Console(stderr=True, highlight=False)


def dumped(value: object) -> str:
    """JSON as the files have it."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _told(table: Table, result: Result, seconds: float) -> None:
    console.print(f"[bold]{table.title}[/]  {table.question}  ({seconds:.0f} s)")
    for claim in result.claims:
        gain = claim.gain
        figure = f"{gain.value:+.3g} ({gain.low:.3g} to {gain.high:.3g}) {claim.unit}"
        console.print(f"  {verdict(claim.gain):12} {claim.statement}: {figure}")


def main() -> int:
    """Run what is named, in the paper's order."""
    known = tables()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="tables:\n" + "\n".join(f"  {t.name:9} {t.question}" for t in known.values()),
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="such as table11; all unless named")
    parser.add_argument("--budget", choices=sorted(BUDGETS), default="quick", help="default: quick")
    parser.add_argument(
        "-o",
        "--build",
        type=Path,
        metavar="DIR",
        default=None,
        help="default: examples/paper/build/BUDGET",
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter")
    parser.add_argument("--docs", action="store_true", help="also write docs/paper.md and its pictures")
    options = parser.parse_args()
    if unknown := sorted(set(options.tables) - set(known)):
        parser.error(f"no table is called {', '.join(unknown)}; tables: {', '.join(known)}")
    build = options.build or PROGRAMS / "build" / options.budget
    settings = dict(pair.split("=", 1) for pair in options.set)
    results, times = _read(build / RESULTS), _read(build / TIMES)
    try:
        study = Study(BUDGETS[options.budget], build, settings=settings, say=console.print)
        began = time.monotonic()
        study.library()
        seconds = time.monotonic() - began
        times.setdefault(LIBRARY, round(seconds))
        console.print(f"block library and scores: {seconds:.0f} s")
        for name in options.tables or known:
            began, made = time.monotonic(), study.made
            result = known[name].run(study)
            seconds = time.monotonic() - began
            results[name] = result.as_json()
            if study.made > made or name not in times:
                times[name] = round(times.get(name, 0) + seconds)
            times[TIMED] = {**times.get(TIMED, {}), **study.timed}
            _told(known[name], result, seconds)
            write_text(build / RESULTS, dumped(results))
            write_text(build / TIMES, dumped(times))
    except DiagnosticError as error:
        console.print(str(error), markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; what was finished is kept, and the same command goes on")
        return 130
    if options.docs:
        write_document(results, times)
    print(build / RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
