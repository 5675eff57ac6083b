"""Structure and precision chosen together, beside each alone: `python -m benchmarks.precision [--speeds 3 3.25]`.

The parent is a small Llama that is trained here in float32, by bytes, on the text of the SmolLM2 example (on this repository's
own where that is not prepared). SmolLM2 itself is no subject: its weights come from a Q4_1 file, which flatters 4-bit grids.

One library holds every piece: fewer heads, narrower FFNs and no-ops, each in float16, q8_0, q5_0 and q4_0. One table of scores
serves searches that may choose structure alone (in float16, or all of it in one of llama.cpp's types), precision alone, or both.
At each speed-up, the child of each is healed and compared with the parent on held-out text. Tokens per second are those of a
profile that reads the weights of a decode step from memory, as llama.cpp at batch 1 does; a parent of this size has no time of
its own to measure. Exits with 1 where both together have more than 0.8 of the KL of the better of structure in float16 and
precision alone.
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.stage1_train import CONTEXT, HELD_OUT_TOKENS, final_states_of, train_parent
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Silent
from puzzledsl.checker.check import check
from puzzledsl.child.checkpoint.realise import realise
from puzzledsl.child.definition import model_definition
from puzzledsl.child.healing.run import HealingInputs, healed_weights
from puzzledsl.costs.table import cost_table
from puzzledsl.data.blocks import token_blocks
from puzzledsl.evaluate.divergence import compare_block
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import BldJob, CostTable, ScoreTable, Solution
from puzzledsl.models.families.load import load_tokenizer
from puzzledsl.pieces.store.library import Library
from puzzledsl.pieces.train.run import BldInputs, run_bld
from puzzledsl.plan.bld import bld_plan
from puzzledsl.scoring.inputs import ScoreInputs
from puzzledsl.scoring.run import run_score
from puzzledsl.search.solve import solve_search

DEMANDED = 0.8
TYPES = ("full", "q8_0", "q5_0", "q4_0")
ALONE = ("structure", "precision")
"""Searches whose better child is the measure."""
HARDWARE = """\
hardware laptop {
  memory = 8GB, bandwidth = 50GB/s, link = 1GB/s
  peak { fp16 = 100TFLOP/s }
  dtype = fp16, kv_cache = fp16, embedding = fp16
  efficiency { compute = 60%, bandwidth = 90%, attention = 30%, link = 70% }
  overhead = 0.01us, link_latency = 1us, reserve = 1MB, kv_fraction = 90%, page = 16, max_batch = 1
}
"""
SOURCE = """\
parent p = hf("parent")
data mix = text("train.txt")
data unseen = text("heldout.txt")
{hardware}scenario chat on laptop = batch(1, 16 -> 112)
space v of p {{
  attention = parent(dtype: {types}) | gqa(kv_heads: 2 | 1, dtype: {types}) | noop
  ffn = parent(dtype: {types}) | mlp(width: 75% | 50% | 25%, dtype: {types}) | noop
}}
bld pieces of v {{
  train = attention + ffn, tokens = {tokens}, context = {context}, batch = 8, calibration = {calibration}
  lr = cosine(1e-3, warmup: 10%), data = mix
}}
score kl of pieces = replace_one(kl_divergence, samples: 2048, children: 0, data: mix)
{searches}"""


@dataclass(frozen=True)
class Subject:
    """The program, its library, and the tables that every search reads."""

    program: Program
    directory: Path
    library: Library
    jobs: tuple[BldJob, ...]
    costs: CostTable
    scores: ScoreTable
    blocks: Tensor

    @property
    def parent(self) -> Path:
        """The parent's directory."""
        return self.directory / "parent"


def main(options: argparse.Namespace) -> int:
    """Print a table of KL and speed-ups. Return 1 where a demand is not met."""
    torch.set_num_threads(options.threads)
    began = time.process_time()
    directory: Path = options.work
    prepare(options.example, directory, options.steps)
    subject = make(directory, options)
    print(f"{len(subject.jobs)} pieces, {time.process_time() - began:.0f} CPU s so far", flush=True)
    kinds = ["structure", *(f"structure in {name}" for name in TYPES[1:]), "precision", "both"]
    print("| speed-up | " + " | ".join(kinds) + " | both / better alone |")
    print("|---" * (len(kinds) + 2) + "|", flush=True)
    missed = False
    for speed in options.speeds:
        found = {kind: child_kl(subject, _name(kind, speed)) for kind in kinds}
        alone = min(kl for kind, kl in found.items() if kind in ALONE and kl is not None)
        both = found["both"]
        assert both is not None
        missed |= both > DEMANDED * alone
        row = ["none" if found[kind] is None else f"{found[kind]:.2e}" for kind in kinds]
        print(f"| {speed}x | " + " | ".join(row) + f" | {both / alone:.3f} |", flush=True)
    print(f"demanded of the last column: <= {DEMANDED}; {time.process_time() - began:.0f} CPU s in all")
    return int(missed)


def prepare(example: Path, directory: Path, steps: int) -> None:
    """Write the text, and train the parent where it is not there yet."""
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / "parent" / "config.json").is_file():
        return
    for name in ("train.txt", "heldout.txt"):
        source = example / "data" / name
        parts = [source] if source.is_file() else sorted(Path().glob("docs/*.md"))
        held = name == "heldout.txt"
        texts = [path.read_text() for i, path in enumerate(parts) if source.is_file() or (i % 5 == 0) == held]
        (directory / name).write_text("\n\n".join(texts))
    train_parent(directory, steps)


def _name(kind: str, speed: float) -> str:
    return f"{kind.replace(' ', '_')}_{str(speed).replace('.', '_')}"


def _searches(speeds: list[float]) -> str:
    return "".join(_search(speed) for speed in speeds)


def _search(speed: float) -> str:
    text = ""
    for dtype in TYPES:
        kind = "structure" if dtype == "full" else f"structure in {dtype}"
        inside = (
            f"all(l.attention is (parent(dtype: {dtype}) | gqa(dtype: {dtype}) | noop)\n"
            f"      and l.ffn is (parent(dtype: {dtype}) | mlp(dtype: {dtype}) | noop) for l in layers)"
        )
        text += _one(_name(kind, speed), speed, inside)
    text += _one(
        _name("precision", speed), speed, "all(l.attention is parent and l.ffn is parent for l in layers)"
    )
    return text + _one(_name("both", speed), speed, "")


def _one(name: str, speed: float, more: str) -> str:
    lines = [f"search {name} of v {{", "  minimize kl", f"  require chat.throughput >= {speed}x"]
    return "\n".join([*lines, *([f"  require {more}"] if more else []), "}", ""])


def make(directory: Path, options: argparse.Namespace) -> Subject:
    """Check the program, make its pieces, and score them."""
    path = directory / "precision.pzl"
    text = SOURCE.format(
        hardware=HARDWARE,
        types=" | ".join(TYPES),
        tokens=options.tokens,
        context=CONTEXT,
        calibration=options.calibration,
        searches=_searches(options.speeds),
    )
    path.write_text(text)
    checked = check(path)
    if checked.program is None:
        raise SystemExit("\n".join(d.message for d in checked.diagnostics))
    program, quiet, work = checked.program, Silent(), directory / "work"
    library, jobs, parent = Library(directory / "library"), bld_plan(program, "pieces"), directory / "parent"
    run_bld(BldInputs(program, "pieces", jobs, parent, directory, library, work, quiet))
    scores = run_score(ScoreInputs(program, "kl", parent, directory, library, jobs, work, quiet))
    blocks = token_blocks(
        program.data["unseen"],
        directory,
        load_tokenizer(parent),
        context=CONTEXT,
        tokens=HELD_OUT_TOKENS,
        seed=0,
    )
    return Subject(program, directory, library, jobs, cost_table(program, "v", directory), scores, blocks)


def child_kl(subject: Subject, search: str) -> float | None:
    """Solve a search, heal and write its child, and return its KL to the parent in nats; None without a child."""
    try:
        solution = solve_search(subject.program, search, subject.costs, {"kl": subject.scores}).solutions[0]
    except (DiagnosticError, IndexError):
        return None
    out = subject.directory / "children" / search
    _write(subject, search, solution, out)
    states, heads = zip(
        *(final_states_of(path, subject.blocks) for path in (subject.parent, out)), strict=True
    )
    figures = [
        compare_block(ids, p, heads[0], c, heads[1])
        for ids, p, c in zip(subject.blocks, *states, strict=True)
    ]
    return sum(figure.kl for figure in figures) / len(figures)


def _write(subject: Subject, search: str, solution: Solution, out: Path) -> None:
    program, directory = subject.program, subject.directory
    definition = model_definition(program, search, solution, subject.jobs)
    work, cache = directory / "work" / search, directory / "tokens"
    pieces = subject.library.load
    healed = healed_weights(
        HealingInputs(
            program, definition, subject.jobs, subject.parent, directory, pieces, cache, work, Silent()
        )
    )
    shutil.rmtree(out, ignore_errors=True)
    realise(definition, subject.parent, pieces, out, healed=healed)
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--example", type=Path, default=Path("examples/smollm2"))
    parser.add_argument("--work", type=Path, default=Path("build/precision"))
    parser.add_argument(
        "--steps", type=int, default=1500, help="steps of 1,024 bytes that the parent is trained for"
    )
    parser.add_argument("--tokens", type=int, default=0, help="tokens of BLD a piece")
    parser.add_argument("--calibration", type=int, default=16384)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--speeds", type=float, nargs="+", default=[2.5, 3.0, 3.25, 3.5, 4.0])
    raise SystemExit(main(parser.parse_args()))
