"""Stage 1, making and scoring a block library: `python -m benchmarks.stage1 [PART]... [--help]`.

Parts: `speed` (how near a BLD step is to what the machine multiplies), `library` (least squares without training beside the
paper's recipe), `score` (replace-1-block scoring). All, in this order, where none is named. Seconds are CPU seconds; figures to
judge by are ratios within one run.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

HERE = {"speed": "benchmarks.stage1_speed", "library": "benchmarks.stage1_train"}
PARTS = (*HERE, "score")


def main() -> int:
    """Run the parts that are asked for. Scoring is a command of its own, which ends with 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=" | ".join(PARTS))
    parser.add_argument("--threads", type=int, default=1, help="of the matrix multiplications (default 1)")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("build/stage1"),
        help="what is made is kept here (default build/stage1)",
    )
    parser.add_argument(
        "--example", type=Path, default=Path("examples/smollm2"), help="SmolLM2 as `make demo` prepares it"
    )
    parser.add_argument("--tokens", type=int, default=200_000, help="that BLD trains each piece on")
    parser.add_argument("--child-tokens", type=int, default=4096, help="the same for SmolLM2's child")
    parser.add_argument("--layers", default="2,5", help="of SmolLM2 whose pieces are compared (default 2,5)")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]}: {', '.join(PARTS)}")
    code = 0
    for part in options.parts or PARTS:
        if part in HERE:
            importlib.import_module(HERE[part]).main(options)
        else:
            print("\n## Replace-1-block scoring", flush=True)
            arguments = ["--threads", str(options.threads)]
            if (options.example / "parent").is_dir():
                arguments += ["--example", str(options.example)]
            code = subprocess.run(
                [sys.executable, "-m", "benchmarks.stage1_score", *arguments], check=False
            ).returncode
    return code


if __name__ == "__main__":
    raise SystemExit(main())
