"""Llama-405B's block library on 64 GPUs, by arithmetic: `python -m benchmarks.scale`. The figures of docs/scale.md.

Runs nothing: bytes and FLOP are counted from shapes, hours follow from a shipped profile.
"""

from __future__ import annotations

import argparse
import tempfile
from fractions import Fraction
from pathlib import Path

from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.checker.check import check
from puzzledsl.checker.shipped import shipped_profiles
from puzzledsl.pipeline.planning.stage_one import StageOne, stage_one
from puzzledsl.plan.bld import bld_plan

SOURCE = """\
use "std/parents.pzl" ({parent})
parent p = hf("parent", shape: {parent})
space wide of p {{
  attention = parent | gqa(kv_heads: 4 | 2) | linear | noop
  ffn = parent | mlp(width: 50% | 25% | 10%) | linear | noop
}}
data corpus = text("corpus.txt")
bld pieces of wide {{
  train = attention + ffn
  tokens = {tokens}, context = 8Ki, batch = 64, calibration = 64Ki, data = corpus
}}
"""


def estimate(parent: str, profile: str, workers: int, tokens: str, samples: int) -> StageOne | None:
    """The arithmetic of one cluster."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "scale.pzl"
        file.write_text(SOURCE.format(parent=parent, tokens=tokens))
        program = check(file).program
    assert program is not None
    space = program.spaces["wide"].layers[0]
    scored = len(space.attention) + len(space.ffn) - 2
    shape, jobs = program.parents["p"].shape, bld_plan(program, "pieces")
    hardware = shipped_profiles()[profile]
    return stage_one(shape, jobs, hardware, workers, scored=scored, samples=samples)


def rows(found: StageOne) -> list[tuple[str, str]]:
    """The table of docs/scale.md."""

    def size(count: float) -> str:
        return format_quantity(Fraction(count), BYTES, digits=3)

    def time(seconds: float) -> str:
        return f"{seconds / 3600:.2f} h"

    return [
        ("workers, layers each", f"{found.workers}, {found.layers_a_worker}"),
        ("pieces, passes over the text", f"{found.jobs:,}, {found.passes}"),
        ("a worker's layers of the parent, bf16", size(found.parent_bytes)),
        ("a worker's pieces in training", size(found.pieces_bytes)),
        ("both, of", size(found.room_bytes)),
        ("a layer's Gram matrix and its inverse", size(found.gram_bytes)),
        ("a token between two stages", size(found.hidden_bytes)),
        ("between two stages", f"{size(found.link_bytes_per_s)}/s"),
        ("one saving, all workers", size(found.saved_bytes)),
        ("the library, bf16", size(found.library_bytes)),
        ("training", f"{found.training_flop:.2e} FLOP, {time(found.training_s)}"),
        ("its optimiser", time(found.optimiser_s)),
        ("calibration", f"{found.calibration_flop:.2e} FLOP, {time(found.calibration_s)}"),
        (
            "refinement",
            f"{found.refinement_flop:.2e} FLOP, {time(found.refinement_s)}"
            if found.refinement_flop
            else "none",
        ),
        ("replace-1 scores", f"{found.scoring_flop:.2e} FLOP, {time(found.scoring_s)}"),
        ("all of it", f"{found.hours:.1f} h"),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parent", default="llama3_1_405b", help="a shape of std/parents.pzl")
    parser.add_argument("--profile", default="h200", help="a card of std/hardware.pzl")
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--tokens", default="1B")
    parser.add_argument("--samples", type=int, default=4096, help="scored positions")
    given = parser.parse_args()
    found = estimate(given.parent, given.profile, given.workers, given.tokens, given.samples)
    if found is None:
        raise SystemExit("one piece of a layer does not fit into a worker: more workers, or larger ones")
    for name, value in rows(found):
        print(f"{name:<40} {value}")


if __name__ == "__main__":
    main()
