"""Rounding with error compensation beside rounding to the nearest, on SmolLM2-135M: `python -m benchmarks.rounding`.

Every sub-block of every layer is stored in each type, by `init { quantise = gptq }` and by `quantise = nearest`, and its
normalised error on held-out activations is compared; then the children that have one type everywhere are compared with the
parent on held-out text. The parent is made by examples/smollm2/prepare.py; its weights come from a Q4_1 file, which flatters
4-bit grids. Exits with 1 where a compensated 4-bit piece is no nearer to the parent than the rounded one, or where 8 bits
everywhere lose 1e-3 nats or more. What is made is kept in the work directory, and the same command goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.stage1_train import CONTEXT, checked_program, held_out, kl_between, prepare
from puzzledsl.base.progress import Silent
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.child.definition import model_definition
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import LayerAssignment, Solution
from puzzledsl.pieces.store.library import Library
from puzzledsl.pieces.train.run import BldInputs, run_bld
from puzzledsl.plan.bld import bld_plan

METHODS = ("gptq", "nearest")
EIGHT_BITS_LOSE = 1e-3
SOURCE = """\
parent p = hf("parent")
data mix = text("train.txt")
data unseen = text("heldout.txt")
"""
OF_METHOD = """\
space {method}_space of p {{
  attention = parent(dtype: {types})
  ffn = parent(dtype: {types})
  init {{ quantise = {method} }}
}}
bld {method} of {method}_space {{
  train = attention + ffn, tokens = 0, context = {context}, batch = 8, calibration = {calibration}, data = mix
}}
score {method}_kl of {method} = replace_one(kl_divergence)
search {method}_child of {method}_space {{ minimize {method}_kl }}
"""
Errors = dict[tuple[int, str, str], float]
"""Held-out error by layer, sub-block and type."""


def main(options: argparse.Namespace) -> int:
    """Print both tables. Return 1 where a demand is not met."""
    torch.set_num_threads(options.threads)
    prepare(options.example, options.work)
    program = program_in(options.work, options.types, options.calibration)
    errors = {method: pieces_of(program, options.work, method) for method in METHODS}
    compensated, rounded = (errors[method] for method in METHODS)
    worse = [key for key, error in compensated.items() if "4" in key[2] and error >= rounded[key]]
    print("| type | sub-blocks | error of nearest | of gptq | ratio, mean | least | greatest | no nearer |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.types:
        keys = [key for key in compensated if key[2] == name]
        ratios = [compensated[key] / rounded[key] for key in keys]
        means = [sum(found[key] for key in keys) / len(keys) for found in (rounded, compensated)]
        cells = [*(f"{mean:.3e}" for mean in means), f"{sum(ratios) / len(ratios):.3f}"]
        cells += [f"{min(ratios):.3f}", f"{max(ratios):.3f}", str(sum(ratio >= 1 for ratio in ratios))]
        print(f"| {name} | {len(keys)} | " + " | ".join(cells) + " |")
    for layer, sub_block, name in worse:
        print(f"no nearer: layer {layer} {sub_block} {name}")
    print("\n| type everywhere | KL of nearest, nats | of gptq |\n|---|---|---|", flush=True)
    lost: dict[str, float] = {}
    for name in options.types:
        kl = {method: child_kl(program, options.work, method, name) for method in METHODS}
        lost[name] = kl["gptq"]
        print(f"| {name} | {kl['nearest']:.2e} | {kl['gptq']:.2e} |", flush=True)
    too_much = [name for name, kl in lost.items() if "8" in name and kl >= EIGHT_BITS_LOSE]
    return int(bool(worse or too_much))


def program_in(directory: Path, types: list[str], calibration: int) -> Program:
    """The checked program, which is left beside what it makes."""
    path = directory / "rounding.pzl"
    given = {"types": " | ".join(types), "context": CONTEXT, "calibration": calibration}
    path.write_text(SOURCE + "".join(OF_METHOD.format(method=method, **given) for method in METHODS))
    return checked_program(path)


def pieces_of(program: Program, directory: Path, method: str) -> Errors:
    """Make the pieces of a method that are not there yet, and return their errors."""
    jobs, library = bld_plan(program, method), Library(directory / method)
    work = directory / "work" / method
    run_bld(BldInputs(program, method, jobs, directory / "parent", directory, library, work, Silent()))
    found: Errors = {}
    for piece in library.pieces():
        alternative = piece.job.attention or piece.job.ffn
        assert alternative is not None
        found[piece.job.layer, piece.job.sub_block, alternative.dtype or ""] = piece.loss_final
    return found


def child_kl(program: Program, directory: Path, method: str, dtype: str) -> float:
    """KL to the parent of a child that has this type in every sub-block, on held-out text, in nats."""
    parent, out = directory / "parent", directory / "children" / f"{method}-{dtype}"
    layer = LayerAssignment(attention=f"parent@{dtype}", ffn=f"parent@{dtype}")
    solution = Solution(objective=0.0, layers=(layer,) * program.parents["p"].shape.layers)
    definition = model_definition(program, f"{method}_child", solution, bld_plan(program, method))
    if not (out / "config.json").is_file():
        realise(definition, parent, Library(directory / method).load, out)
    return kl_between(parent, out, held_out(program, directory))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--example", type=Path, default=Path("examples/smollm2"))
    parser.add_argument("--work", type=Path, default=Path("build/rounding"))
    parser.add_argument("--types", nargs="+", default=["q8_0", "q4_0"])
    parser.add_argument("--calibration", type=int, default=16384)
    parser.add_argument("--threads", type=int, default=1)
    raise SystemExit(main(parser.parse_args()))
