"""Which losses should uptraining minimise? Every combination of the paper's three, at an equal budget of tokens.

Needs a finished build of the program that `examples/smollm2/losses.pzl` takes its child from (`pzl run smollm2.pzl`). Each
row is that file with other `--set`s, trained from the same child on the same tokens, then compared with the parent on text
that no stage has seen. A finished row is kept, so an interrupted table goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import time
from pathlib import Path

import torch

from puzzledsl.base.files import write_text
from puzzledsl.base.progress import Silent
from puzzledsl.checker.check import check
from puzzledsl.child.load import load_checkpoint
from puzzledsl.data.blocks import token_blocks
from puzzledsl.evaluate.divergence import compare_block, divergence_figures, final_states
from puzzledsl.ir.nodes import Program
from puzzledsl.models.families.access import output_embedding
from puzzledsl.models.families.load import load_tokenizer
from puzzledsl.uptrain.run import UptrainInputs, run_uptrain

PROGRAM = Path(__file__).parents[1] / "examples" / "smollm2" / "losses.pzl"
LOSSES = ("lm", "cosine", "kld")
COMBINATIONS = [weights for weights in itertools.product((0, 1), repeat=3) if any(weights)]
EVAL_CONTEXT = 512
FIGURES = {"kl": "kl", "perplexity": "perplexity", "agreement": "top1_agreement"}


class Trial:
    """Paths, and the measurement of a checkpoint."""

    def __init__(self, program: Path, build: Path, work: Path, settings: dict[str, str], tokens: int) -> None:
        self.program, self.build, self.work, self.settings = program, build, work, settings
        self.parent_dir, self.child_dir = build.parent / "parent", build / "models" / "best"
        checked = self.lower((1, 1, 1))
        self.tokenizer = load_tokenizer(self.parent_dir)
        self.heldout_NT = token_blocks(
            checked.data[checked.evals["losses"].data or ""],
            build.parent,
            self.tokenizer,
            context=EVAL_CONTEXT,
            tokens=tokens,
            seed=0,
            cache=work / "tokens",
        )
        parent = load_checkpoint(self.parent_dir)
        self.parent_states = final_states(parent, self.heldout_NT)
        self.parent_VH = output_embedding(parent)

    def lower(self, weights: tuple[int, ...]) -> Program:
        """The program with these weights of the losses."""
        chosen = {f"{loss}_weight": str(weight) for loss, weight in zip(LOSSES, weights, strict=True)}
        program = check(self.program, {**self.settings, **chosen}).program
        if program is None:
            raise SystemExit(f"{self.program} has errors: `pzl check` shows them")
        return program

    def row(self, weights: tuple[int, ...]) -> dict[str, float]:
        """Train with these weights (none: leave the child as it is) and measure."""
        settings = [f"{name}={value}" for name, value in sorted(self.settings.items()) if any(weights)]
        kept = self.work / ("-".join([*map(str, weights), *settings, f"{self.heldout_NT.numel()}"]) + ".json")
        if kept.is_file():
            return dict(json.loads(kept.read_text()))
        directory, began = self.child_dir, time.process_time()
        if any(weights):
            directory = self.work / "trained"
            folders = self.parent_dir, self.child_dir, directory, self.build.parent, self.work / "unfinished"
            run_uptrain(
                UptrainInputs(self.lower(weights), "ablation", *folders, self.work / "tokens", Silent())
            )
        seconds = time.process_time() - began
        found = {**self.measure(directory), "cpu_s": seconds}
        write_text(kept, json.dumps(found))
        return found

    def measure(self, directory: Path) -> dict[str, float]:
        """KL to the parent, perplexity and top-1 agreement on the held-out blocks."""
        model = load_checkpoint(directory)
        states, embedding_VH = final_states(model, self.heldout_NT), output_embedding(model)
        blocks = [
            compare_block(ids_T, parent_TH, self.parent_VH, model_TH, embedding_VH)
            for ids_T, parent_TH, model_TH in zip(self.heldout_NT, self.parent_states, states, strict=True)
        ]
        figures = divergence_figures(blocks)
        return {key: figures[name].value for key, name in FIGURES.items()}


def shown(weights: tuple[int, ...], found: dict[str, float], untrained: dict[str, float]) -> str:
    """A line of the table. `recovered`: how much of the KL that the search lost came back."""
    marks = " | ".join("x" if weight else " " for weight in weights)
    recovered = 1 - found["kl"] / untrained["kl"]
    return (
        f"| {marks} | {found['kl']:.3f} | {100 * recovered:+.0f} % | {found['perplexity']:.1f} | "
        f"{100 * found['agreement']:.1f} % | {found['cpu_s']:.0f} |"
    )


def chosen(only: str | None) -> list[tuple[int, ...]]:
    """All combinations, or the one that names of losses joined by `+` say."""
    if only is None:
        return COMBINATIONS
    names = only.split("+")
    if not set(names) <= set(LOSSES):
        raise SystemExit(f"--only: `{only}` is not made of {', '.join(LOSSES)}")
    return [tuple(int(loss in names) for loss in LOSSES)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--build", type=Path, default=PROGRAM.parent / "build", help="the finished build directory"
    )
    parser.add_argument("--work", type=Path, help="where rows are kept (default: BUILD/work/gkd-ablation)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="of losses.pzl, such as budget=12Ki"
    )
    parser.add_argument(
        "--eval-tokens", type=int, default=2048, help="held-out tokens each row is measured on"
    )
    parser.add_argument("--again", action="store_true", help="forget the rows that are kept")
    parser.add_argument("--only", metavar="LOSSES", help="one combination, such as cosine+kld")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    work = options.work or options.build / "work" / "gkd-ablation"
    if options.again:
        shutil.rmtree(work, ignore_errors=True)
    settings = dict(pair.split("=", 1) for pair in options.set)
    trial = Trial(PROGRAM, options.build.resolve(), work, settings, options.eval_tokens)
    untrained = trial.row((0, 0, 0))
    print(
        "| LM | cosine | KL | KL to the parent | recovered | perplexity | top-1 agreement | CPU s |",
        flush=True,
    )
    print("|---|---|---|---|---|---|---|---|")
    print(shown((0, 0, 0), untrained, untrained), flush=True)
    for weights in chosen(options.only):
        print(shown(weights, trial.row(weights), untrained), flush=True)


if __name__ == "__main__":
    main()
