"""`pzl solve` as a whole process from cold Python, on a table of 80 layers x 54 pairs with three requirements.

Run `python -m benchmarks.cold [--rounds 9]`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.synthetic import synthetic

PROGRAM = """\
use "std/hardware.pzl" (h100_sxm)
use "std/parents.pzl" (llama3_1_70b)
parent llama = hf("meta-llama/Llama-3.1-70B-Instruct", shape: llama3_1_70b)
space wide of llama {{
  attention = gqa(kv_heads: 8 | 4 | 2 | 1) | linear | noop
  ffn = mlp(width: 100% | 87% | 75% | 50% | 25% | 20% | 10%, round: 256) | linear | noop
}}
hardware h = h100_sxm(gpus: 1, dtype: fp8, kv_cache: fp8)
scenario chat on h = batch(256, 128 -> 1024)
scenario rag on h = batch(32, 2048 -> 128)
score kl of wide = table("kl.csv")
search best of wide {{
  minimize kl
  require chat.memory <= {memory}x
  require chat.throughput >= {throughput}x
  require rag.latency <= {latency}x
}}
"""
NUMPY = [sys.executable, "-c", "import numpy"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode, numpy and pzl alike


def write_program(directory: Path, seed: int) -> Path:
    """The program and its score table, one row a pair."""
    program, _, scores = synthetic(seed=seed)
    lines = ["layer,attention,ffn,kl"]
    for layer, pairs in enumerate(scores["kl"].pairs):
        for pair, value in pairs.items():
            attention, ffn = pair.split("/")
            lines.append(f"{layer},{attention},{ffn},{value!r}")
    (directory / "kl.csv").write_text("\n".join(lines) + "\n")
    bounds = [float(r.parent_ratio) for r in program.searches["best"].requirements]  # type: ignore[union-attr, arg-type]
    path = directory / "search.pzl"
    path.write_text(PROGRAM.format(memory=bounds[0], throughput=bounds[1], latency=bounds[2]))
    return path


def cold_start(directory: Path, rounds: int) -> str:
    """Medians over the rounds of `pzl solve` and of importing numpy, taken in turns."""
    environment = {**ENVIRONMENT, "PYTHONPYCACHEPREFIX": str(directory / "bytecode")}
    walls: dict[str, list[float]] = {"pzl": [], "numpy": []}
    cpus: dict[str, list[float]] = {"pzl": [], "numpy": []}
    for number in range(rounds + 1):
        path = write_program(directory, number % 4)
        command = [sys.executable, "-m", "puzzledsl.cli.main", "solve", str(path), "--json"]
        for name, run in (("pzl", command), ("numpy", NUMPY)):
            wall, cpu, output = _run(run, environment)
            if number:  # the first one writes bytecode and the grammar's cache, as installing and any command before do
                walls[name].append(wall)
                cpus[name].append(cpu)
            if name == "pzl":
                assert [r["status"] for r in json.loads(output)] == ["optimal"]
    wall, numpy = statistics.median(walls["pzl"]), statistics.median(walls["numpy"])
    cpu, bare = statistics.median(cpus["pzl"]), statistics.median(cpus["numpy"])
    return (
        f"cold `pzl solve` of 80x54: {wall:.2f} s (CPU {cpu:.2f} s), `import numpy` {numpy:.2f} s "
        f"(CPU {bare:.2f} s): {wall / numpy:.1f}x (CPU {cpu / bare:.1f}x; target: 1.5 s, 6x)"
    )


def _run(command: list[str], environment: dict[str, str]) -> tuple[float, float, str]:
    """Wall-clock and CPU seconds, and what it printed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, run.stdout


def main() -> int:
    """Print the one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="of both, in turns (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print(cold_start(Path(directory), options.rounds))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
