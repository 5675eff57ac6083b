"""Estimates of what is left against what it took, of each stage of a run.

    python -m benchmarks.estimates my.pzl [-o build]      # runs it, in CPU seconds
    python -m benchmarks.estimates build/log.jsonl        # reads the log of a run, in wall seconds

With a program, all times are CPU seconds of the process and of the engines that it starts, so that other work on the machine does
not count; run it on one core, where these are the seconds of a machine that does nothing else. A row is the first estimate of a
stage: the units that were done, the seconds that it said were left, and those that it took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from puzzledsl.cli.main import run
from puzzledsl.pipeline import process as reporter
from puzzledsl.pipeline.process import Reporter


def cpu_seconds() -> float:
    """CPU seconds of this process, and of the processes below it: of those that have ended, and of those that run."""
    ticks, parents = {}, {}
    for process in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with suppress(OSError):  # it ended meanwhile
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            parents[process], ticks[process] = int(fields[1]), sum(map(int, fields[11:15]))
    below, last = 0, {os.getpid()}
    while last := {process for process, parent in parents.items() if parent in last}:
        below += sum(map(ticks.__getitem__, last))
    return time.process_time() + sum(os.times()[2:4]) + below / os.sysconf("SC_CLK_TCK")


def run_in_cpu_time(arguments: list[str]) -> int:
    """`pzl run`, whose reporter reads a clock of CPU time, and writes it into the log, too."""
    vars(reporter)["time"] = SimpleNamespace(monotonic=cpu_seconds)
    append = Reporter._append

    def with_cpu(self: Reporter, event: str, fields: dict[str, object]) -> None:
        append(self, event, {**fields, "cpu_s": cpu_seconds()})

    Reporter._append = with_cpu  # type: ignore[method-assign]
    return run(["run", *arguments])


def moment(line: dict[str, Any]) -> float:
    """Seconds at which a line was written."""
    return float(line["cpu_s"]) if "cpu_s" in line else datetime.fromisoformat(line["time"]).timestamp()


def first_estimates(log: Path) -> Iterator[tuple[str, str, int, int, float, float]]:
    """Yield stage, name, units done and to do, and the seconds left, as said and as they were, of each stage that ended."""
    begun: dict[tuple[str, str], dict[str, Any]] = {}
    for line in map(json.loads, log.read_text("utf-8").splitlines()):
        key = line.get("stage", ""), line.get("name", "")
        if line["event"] == "start":
            begun.pop(key, None)
        elif line["event"] == "progress" and line["seconds_left"]:
            begun.setdefault(key, line)
        elif line["event"] in ("end", "failed") and (first := begun.pop(key, None)) is not None:
            yield *key, first["done"], first["total"], first["seconds_left"], moment(line) - moment(first)


def main() -> int:
    given, code = Path(sys.argv[1]), 0
    if given.suffix == ".pzl":
        code = run_in_cpu_time(sys.argv[1:])
        build = Path(sys.argv[sys.argv.index("-o") + 1]) if "-o" in sys.argv else given.parent / "build"
        given = build / "log.jsonl"
    print("stage     name         units  said left  was left  ratio")
    for stage, name, done, total, said, was in first_estimates(given):
        units = f"{done}/{total}"
        print(f"{stage:<9} {name:<10} {units:>7} {said:>8.1f} s {was:>7.1f} s  {said / was:5.2f}")
    return code


if __name__ == "__main__":
    sys.exit(main())
