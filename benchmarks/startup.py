"""Time that `pzl` takes to start and to check, as a whole process, beside `python -c pass`.

    python -m benchmarks.startup [--quick] [--rounds 15]

For each command: the least and the median wall-clock time over the rounds, which alternate between the commands, the least
CPU time, and the ratio of that to the bare interpreter's. Files and grammar are warm.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.generated import program

ROOT = Path(__file__).parents[1]
PZL = [sys.executable, "-m", "puzzledsl.cli.main"]
LIMITS_S = {"pzl --help": 0.4, "pzl check, 70 lines": 0.8, "pzl check, 2000 lines": 2.5}


def measure(command: list[str]) -> tuple[float, float]:
    """Wall-clock and CPU seconds of one run."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=environment)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="2 rounds")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        long = Path(folder) / "long.pzl"
        long.write_text(program(random.Random(7), lines=2000), "utf-8")
        lines = long.read_text("utf-8").count("\n")
        short = ROOT / "examples" / "nemotron51b.pzl"
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "pzl --help": [*PZL, "--help"],
            "pzl check, 70 lines": [*PZL, "check", str(short)],
            "pzl fmt, 70 lines": [*PZL, "fmt", "--check", str(short)],
            "pzl check, 2000 lines": [*PZL, "check", str(long)],
        }
        _print(commands, 2 if arguments.quick else arguments.rounds)
        print(f"the long program has {lines} lines")


def _print(commands: dict[str, list[str]], rounds: int) -> None:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for command in commands.values():
        measure(command)  # warms the caches
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(measure(command))
    bare = min(cpu for _, cpu in times["python -c pass"])
    print(f"{'':24}{'least':>9}{'median':>9}{'limit':>9}{'CPU':>9}{'ratio':>8}")
    for name, taken in times.items():
        walls, cpu = [wall for wall, _ in taken], min(cpu for _, cpu in taken)
        limit = f"{LIMITS_S[name]:.1f} s" if name in LIMITS_S else ""
        print(
            f"{name:24}{min(walls):7.3f} s{statistics.median(walls):7.3f} s{limit:>9}{cpu:7.3f} s{cpu / bare:7.0f}x"
        )


if __name__ == "__main__":
    main()
