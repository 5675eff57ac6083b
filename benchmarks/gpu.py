"""A first run on a GPU: the whole pipeline on it, each stage checked against a CPU's results, and its speed.

    make gpu                                        # a machine with a CUDA device; writes build/gpu/gpu.json
    python -m benchmarks.gpu --size toy             # a minute, to see whether it runs at all
    python -m benchmarks.gpu --parent DIR --text 'corpus/*.txt'

A small program runs twice, on the CPU in float32 and on the GPU in what the package chooses there (bfloat16). Then a larger one
runs on the GPU alone: for each task, seconds, tokens a second, the share of the card's matrix-product rate that the task's
arithmetic reaches (model FLOP utilisation, loading included), and the most bytes on the card. Exit status: 0, every check holds;
1, some do not; 2, there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_checks import Check, checks
from benchmarks.gpu_program import SIZES, Size, write_program
from benchmarks.gpu_run import Timed, on_the_cpu, run
from puzzledsl.measure.stopwatch import matrix_product_flop_per_s
from puzzledsl.models.placement import placement

ROOT = Path(__file__).resolve().parents[1]


def card() -> dict[str, Any]:
    """The GPU and the software, as the results name them."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": torch.cuda.get_device_name(0),
        "memory_bytes": int(properties.total_memory),
        "capability": list(torch.cuda.get_device_capability(0)),
        "torch": torch.__version__,
    }


def found(size: Size, directory: Path, parent: Path | None, text: str | None) -> dict[str, Any]:
    """Run everything and return the content of the JSON file."""
    small = write_program(directory / "small", size.small, parent, text)
    with on_the_cpu():
        run(small, directory / "cpu", device="cpu", dtype="fp32")
    run(small, directory / "gpu", device="cuda", dtype="bf16")
    compared = checks(directory / "cpu", directory / "gpu")
    large = write_program(directory / "large", size.large, None, None)
    device, dtype = placement(large.parent / "parent")
    peak = matrix_product_flop_per_s(device, dtype)
    timed = run(large, directory / "speed", device="cuda", dtype="bf16")
    return {
        "card": card(),
        "size": size.name,
        "dtype": str(dtype).removeprefix("torch."),
        "peak_product_flop_per_s": peak,
        "checks": [asdict(check) | {"ok": check.ok} for check in compared],
        "tasks": [task.figures(peak) for task in timed],
        "ok": all(check.ok for check in compared),
    }


def text_of(content: dict[str, Any]) -> str:
    """The checks and the speeds as two tables."""
    lines = [
        f"{content['card']['name']}: {content['peak_product_flop_per_s'] / 1e12:.1f} TFLOP/s of products"
    ]
    for check in content["checks"]:
        sign = "ok " if check["ok"] else "OFF"
        lines.append(
            f"{sign} {check['stage']:<8}{check['what']:<44}{check['off']:>9.2g} of {check['allowed']:g}"
        )
    lines.append(f"{'task':<20}{'s':>9}{'tokens/s':>11}{'utilised':>10}{'GB':>8}")
    for task in content["tasks"]:
        rate = "" if task["tokens_per_s"] is None else f"{task['tokens_per_s']:,.0f}"
        share = "" if task["utilisation"] is None else f"{task['utilisation']:.1%}"
        lines.append(
            f"{task['task']:<20}{task['seconds']:>9.2f}{rate:>11}{share:>10}{task['peak_bytes'] / 1e9:>8.2f}"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run, print, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=[size.name for size in SIZES], default=SIZES[-1].name)
    parser.add_argument(
        "--parent", type=Path, help="checkpoint of the small program (default: random weights)"
    )
    parser.add_argument("--text", help="its text, for example 'corpus/*.txt' (default: made up)")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "build" / "gpu")
    given = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was run", file=sys.stderr)
        return 2
    size = next(size for size in SIZES if size.name == given.size)
    content = found(size, given.out, given.parent, given.text)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "gpu.json").write_text(json.dumps(content, indent=1) + "\n")
    print(text_of(content))
    return 0 if content["ok"] else 1


__all__ = ["Check", "Timed", "main"]

if __name__ == "__main__":
    sys.exit(main())
