"""Estimates of `pzl run --dry-run` against what a run takes: seconds and peak memory, task by task.

    python -m benchmarks.estimates FILE [--build DIR] [--set NAME=VALUE]… [--until STAGE] [--json FILE]
    python -m benchmarks.estimates --shape hidden=512,layers=12,… [--budget NAME=VALUE]…

The second form writes a program with a random Llama of that shape. Everything is estimated first, with an empty build
directory; then each task runs in a process of its own. Seconds are those of the task's processor time if `--cpu` is given
(with one thread it is the time of an idle machine), else of the clock. Peak memory is the process's resident set.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SHAPE = {"hidden": 512, "layers": 8, "intermediate": 1376, "heads": 8, "kv_heads": 4, "vocab": 4096}
BUDGET = {
    "tokens": "8Ki",
    "calibration": "8Ki",
    "context": "256",
    "batch": "4",
    "samples": "512",
    "distil": "4Ki",
}
SOURCE = """\
parent base = hf("parent")
space wide of base {{
  attention = parent | gqa(kv_heads: {kv_heads}) | linear | noop
  ffn = parent | mlp(width: 75% | 50% | 25%) | linear | noop
}}
hardware here = measured(device: cpu)
scenario chat on here = batch(1, 64 -> 32)
data corpus = text("corpus.txt")
bld pieces of wide {{
  train = attention + ffn
  tokens = {tokens}, context = {context}, batch = {batch}, calibration = {calibration}
  lr = cosine(1e-3, warmup: 10%), data = corpus
}}
score kl of pieces = replace_one(kl_divergence, samples: {samples})
search best of wide {{ minimize kl, require params <= 80% * base.params }}
uptrain final of best {{
  loss = 1 * kld + 1 * cosine
  tokens = {distil}, context = {context}, batch = {batch}, lr = cosine(1e-4), data = corpus
}}
eval quality of final {{ data = corpus, tokens = {samples} }}
export ship of final = hf("out")
"""


def program_of(folder: Path, shape: dict[str, int], budget: dict[str, str]) -> Path:
    """Write a program with a random parent and a text of random words; return the `.pzl` file."""
    import random

    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=shape["hidden"],
        num_hidden_layers=shape["layers"],
        intermediate_size=shape["intermediate"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        vocab_size=shape["vocab"],
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=0,
        bos_token_id=0,
    )
    made: Any = AutoModelForCausalLM
    made.from_config(config, dtype=torch.bfloat16).save_pretrained(folder / "parent")
    words = [f"w{i}" for i in range(shape["vocab"] - 1)]
    tokenizer = Tokenizer(
        models.WordLevel({"<unk>": 0} | {w: i + 1 for i, w in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<unk>").save_pretrained(folder / "parent")
    chance = random.Random(0)
    documents = (" ".join(chance.choices(words, k=400)) for _ in range(400))
    (folder / "corpus.txt").write_text("\n\n".join(documents))
    file = folder / "program.pzl"
    file.write_text(SOURCE.format(kv_heads=shape["kv_heads"] // 2, **budget))
    return file


def estimated(file: Path, build: Path, settings: Sequence[str], until: str | None) -> dict[str, Any]:
    """Return what `pzl run --dry-run --json` says."""
    command = [
        sys.executable,
        "-m",
        "puzzledsl.cli.main",
        "run",
        str(file),
        "-o",
        str(build),
        "--dry-run",
        "--json",
    ]
    command += [word for pair in settings for word in ("--set", pair)]
    command += ["--until", until] if until else []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def task_alone(file: Path, build: Path, settings: Sequence[str], stage: str, name: str) -> dict[str, float]:
    """Run one task in a process of its own; return its seconds by the clock and of the processor, and bytes at the peak."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.estimates",
        str(file),
        "--build",
        str(build),
        "--task",
        stage,
        name,
    ]
    command += [word for pair in settings for word in ("--set", pair)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{stage} {name} failed:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


LOADED = (
    "puzzledsl.models.families.load",
    "puzzledsl.evaluate.run",
    "transformers.models.llama.modeling_llama",
)
"""Modules that a run imports once, so that they are a part of no task."""


def run_task(file: Path, build: Path, settings: list[str], stage: str, name: str) -> None:
    """Run one task here and print what it took."""
    from puzzledsl.cli import loading
    from puzzledsl.pipeline.compile import compile_program
    from puzzledsl.pipeline.execute import execute
    from puzzledsl.pipeline.process.locks import locked
    from puzzledsl.pipeline.process.reporter import Reporter
    from puzzledsl.pipeline.run_all import tasks_of

    for name_of_module in LOADED:
        importlib.import_module(name_of_module)
    ctx = loading.context(file, settings, build)
    with Reporter(None) as progress, locked(ctx):
        ctx.progress = progress
        compile_program(ctx, models=False)
        [task] = [task for task in tasks_of(ctx) if task.key == (stage, name)]
        clock, own = time.perf_counter(), time.process_time()
        execute(ctx, [task])
        seconds, cpu = time.perf_counter() - clock, time.process_time() - own
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"clock_s": seconds, "cpu_s": cpu, "peak_bytes": peak}))


def main() -> None:
    """Measure a program and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--build", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--until", metavar="STAGE")
    parser.add_argument("--shape", default="")
    parser.add_argument("--budget", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--cpu", action="store_true", help="compare with processor time")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--task", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        run_task(options.file, options.build, options.set, *options.task)
        return
    with tempfile.TemporaryDirectory(prefix="pzl-estimates-") as scratch:
        file = options.file
        if file is None:
            sizes = SHAPE | {k: int(v) for k, v in (p.split("=") for p in options.shape.split(",") if p)}
            budget = BUDGET | dict(pair.split("=", 1) for pair in options.budget)
            file = program_of(Path(scratch), sizes, budget)
        build = options.build or Path(scratch) / "build"
        rows = list(measured(file, build, options.set, options.until, "cpu_s" if options.cpu else "clock_s"))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    off = [row["estimated_s"] / row["seconds"] for row in rows if row["seconds"] >= 3]
    if off:
        worst = max(off, key=lambda ratio: abs(math.log(ratio)))
        inside = sum(1 / 1.3 <= ratio <= 1.3 for ratio in off)
        print(f"{inside} of {len(off)} tasks of 3 s and more within 30 %; the worst is {worst:.2f}x")


def measured(
    file: Path, build: Path, settings: list[str], until: str | None, clock: str
) -> list[dict[str, Any]]:
    """Estimate all tasks, run each, print a row for each."""
    rows = []
    plan = estimated(file, build, settings, until)
    print(f"{os.environ.get('OMP_NUM_THREADS', os.cpu_count())} thread(s); {clock} of the tasks\n")
    print(f"{'task':<24}{'estimated':>10}{'took':>10}{'ratio':>7}{'memory':>12}{'peak':>10}{'ratio':>7}")
    for step in plan["steps"]:
        took = task_alone(file, build, settings, step["stage"], step["name"])
        peak = step.get("peak_bytes") or max((p["device_bytes"] for p in step.get("memory", [])), default=0)
        row = {
            "task": f"{step['stage']} {step['name']}",
            "estimated_s": step["seconds"],
            "seconds": took[clock],
            "estimated_bytes": peak,
            "peak_bytes": took["peak_bytes"],
        }
        rows.append(row)
        print(
            f"{row['task']:<24}{row['estimated_s']:>10.1f}{row['seconds']:>10.1f}"
            f"{row['estimated_s'] / max(row['seconds'], 1e-3):>7.2f}{peak / 2**20:>8.0f} MiB"
            f"{took['peak_bytes'] / 2**20:>6.0f} MiB{peak / took['peak_bytes']:>7.2f}",
            flush=True,
        )
    return rows


if __name__ == "__main__":
    main()
