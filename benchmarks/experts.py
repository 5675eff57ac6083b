"""Half the bytes of a mixture's experts: one program of pzl beside pruning by frequency and REAP, at the same bytes.

    python -m benchmarks.experts --to build/experts --minutes 6 --seed 0

Trains the parent (`benchmarks.experts_parent`), runs `experts.pzl` with `pzl run`, and prints held-out KL to the parent of its
child and of its rivals, untrained and after the same uptraining. Rivals keep equally many experts in each layer, as published;
they are shown as they are, and after pzl's healing. Rows below are parts of our method alone, the same in every layer.
What is made is kept: a second run only prints. `--minutes` are CPU minutes of the parent's training.
"""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks import experts_parent
from benchmarks.experts_parent import EXPERTS, TOP_K, WIDTH
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.files import write_text
from puzzledsl.base.progress import Silent
from puzzledsl.checker.check import check
from puzzledsl.child.checkpoint.realise import realise
from puzzledsl.child.healing.text import healing_text
from puzzledsl.child.healing.walk import heal
from puzzledsl.child.load import load_checkpoint
from puzzledsl.data.blocks import token_blocks
from puzzledsl.evaluate.divergence import compare_block, divergence_figures, final_states
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import LayerDefinition, ModelDefinition
from puzzledsl.models.families.access import ffn, layers, output_embedding, shape_of
from puzzledsl.models.families.load import load_tokenizer
from puzzledsl.models.families.slots import weights_of
from puzzledsl.models.families.tensors import LazyTensor
from puzzledsl.models.mixtures.choose import damage_order, frequency, highest, reap
from puzzledsl.models.mixtures.experts import Mixture
from puzzledsl.models.mixtures.fit import refit, refit_downs
from puzzledsl.models.mixtures.merge import groups_of, merge
from puzzledsl.models.mixtures.narrow import narrow
from puzzledsl.models.mixtures.rules import ModuleRules
from puzzledsl.pieces.initialise.statistics import walk_layers
from puzzledsl.uptrain.run import UptrainInputs, run_uptrain

HALF = EXPERTS // 2
CALIBRATION, HELD_OUT = 8192, 16384
PROGRAM = """\
# A small mixture of experts with half the bytes of its experts. Made by benchmarks/experts.py.
parent small = hf("parent")

space wide of small {{
  attention = parent
  ffn = parent | moe(width: 75% | 50% | 37.5% | 25%) | moe(experts: 12, width: 75% | 62.5% | 50%)
}}

data corpus  = text("data/corpus.txt")
data varied  = text("data/varied.txt")
data heldout = text("data/heldout.txt")
data mixed   = mix(corpus: 1, varied: 1)

bld pieces of wide {{
  train = ffn
  tokens = 0, context = 256, calibration = 8Ki, data = mixed
  heal = 16Ki
}}
score kl of pieces = replace_one(kl_divergence, samples: 1Ki)

search best of wide {{
  minimize kl
  require params <= {params}          # {experts} of them in experts, half of the parent's
}}

uptrain final of best {{
  loss = 1 * kld + 1 * cosine
  tokens = 32Ki, context = 256, batch = 4, data = mixed
}}
"""
Method = Callable[[Mixture, Tensor, Tensor], Mixture]


def kept_by(saliency: Callable[[Mixture, Tensor], list[float]]) -> Method:
    """Return the pruning that keeps the experts of the highest saliency."""
    return lambda full, x, y: full.only(highest(saliency(full, x), HALF))


def measured(full: Mixture, x_TH: Tensor, y_TH: Tensor) -> Mixture:
    """Keep the experts whose absence would add most to the error."""
    return full.only(sorted(damage_order(full, x_TH, y_TH)[-HALF:]))


def merged(full: Mixture, x_TH: Tensor, y_TH: Tensor) -> Mixture:
    """Merge the other experts into these."""
    kept = sorted(damage_order(full, x_TH, y_TH)[-HALF:])
    return merge(full, groups_of(full, kept, x_TH), x_TH, WIDTH)


RIVALS: Mapping[str, Method] = {"frequency": kept_by(frequency), "REAP": kept_by(reap)}
PARTS: Mapping[str, Method] = {
    "experts by measured damage": measured,
    "the same, refitted": lambda full, x, y: refit(measured(full, x, y), x, y),
    "merged experts, refitted": lambda full, x, y: refit(merged(full, x, y), x, y),
    "half the width": lambda full, x, y: narrow(full, x, WIDTH // 2),
    "the same, down projections refitted": lambda full, x, y: refit_downs(narrow(full, x, WIDTH // 2), x, y),
    "the same, router refitted too": lambda full, x, y: refit(narrow(full, x, WIDTH // 2), x, y),
    "half the width, 8 experts a token, refitted": lambda full, x, y: refit(
        replace(narrow(full, x, WIDTH // 2), top_k=2 * TOP_K), x, y
    ),
}


class Bench:
    """The parent, its program, and what children are compared on."""

    def __init__(self, base: Path) -> None:
        self.base, self.work = base, base / "build" / "rivals"
        self.parent_dir, self.program_path = base / "parent", base / "experts.pzl"
        self.parent = load_checkpoint(self.parent_dir)
        write_text(self.program_path, program_text(self.parent))
        self.program = checked(self.program_path)
        self.tokenizer = load_tokenizer(self.parent_dir)
        self.heldout_NS = self.text("heldout", HELD_OUT)
        self._states = final_states(self.parent, self.heldout_NS)

    def text(self, name: str, tokens: int) -> Tensor:
        """Return the first blocks of a text's shuffled order, [N, S]."""
        source, cache = self.program.data[name], self.work / "tokens"
        return token_blocks(
            source, self.base, self.tokenizer, context=256, tokens=tokens, seed=0, cache=cache
        )

    def kl(self, directory: Path) -> tuple[float, float]:
        """Return held-out KL to the parent and its standard error over blocks."""
        model = load_checkpoint(directory)
        heads = output_embedding(self.parent), output_embedding(model)
        states = final_states(model, self.heldout_NS)
        blocks = [
            compare_block(ids, before, heads[0], after, heads[1])
            for ids, before, after in zip(self.heldout_NS, self._states, states, strict=True)
        ]
        figure = divergence_figures(blocks)["kl"]
        return figure.value, figure.stderr or math.nan

    def child(self, name: str, method: Method, *, healed: bool) -> Path:
        """Return the checkpoint of a method's child, the same in every layer."""
        out = self.work / (f"{name}, healed" if healed else name).replace(" ", "-")
        if out.is_dir():
            return out
        pieces: dict[str, Mapping[str, Tensor]] = {}
        chosen = []
        blocks = torch.split(self.text("mixed", CALIBRATION), 8)
        for layer_idx, statistics in walk_layers(self.parent, blocks):
            block = ffn(layers(self.parent)[layer_idx])
            full = Mixture.of(weights_of(block), TOP_K, ModuleRules(block))
            x = torch.cat([trace.ffn_input.flatten(0, 1) for _, trace in statistics.calls])
            made = method(full, x, full(x))
            pieces[str(layer_idx)] = made.state()
            alternative = MoeFfn(experts=len(made.experts), top_k=made.top_k, width=made.experts[0].width)
            chosen.append(
                LayerDefinition(attention=ParentAttention(), ffn=alternative, ffn_piece=str(layer_idx))
            )
        definition = ModelDefinition(name="rival", search="best", parent="small", layers=tuple(chosen))
        weights = self._healed(definition, pieces) if healed else {}
        realise(definition, self.parent_dir, pieces.__getitem__, out, healed=weights)
        return out

    def _healed(
        self, definition: ModelDefinition, pieces: dict[str, Mapping[str, Tensor]]
    ) -> Mapping[str, LazyTensor]:
        bld = self.program.blds["pieces"]
        texts = healing_text(self.program, bld, self.base, self.tokenizer, self.work / "tokens")
        assert texts is not None
        unfinished = self.work / "healing"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        return heal(self.parent, definition.layers, pieces.__getitem__, *texts, unfinished, Silent()).weights

    def uptrained(self, child: Path) -> Path:
        """Return the checkpoint after the program's uptraining."""
        out = child.with_name(f"{child.name}-uptrained")
        if not out.is_dir():
            folders = self.parent_dir, child, out, self.base, self.work / "unfinished", self.work / "tokens"
            run_uptrain(UptrainInputs(self.program, "final", *folders, Silent()))
        return out


def program_text(parent: PreTrainedModel) -> str:
    """Return the program, with the limit on parameters."""
    shape = shape_of(parent.config)
    half = shape.layers * EXPERTS * 3 * shape.hidden * WIDTH // 2
    total = sum(weight.numel() for weight in parent.parameters())
    return PROGRAM.format(params=total - half, experts=half)


def checked(path: Path) -> Program:
    """Return the program of a file."""
    found = check(path, {})
    if found.program is None:
        sys.exit(f"{path} has errors: `pzl check` shows them")
    return found.program


def line(name: str, before: tuple[float, float], after: tuple[float, float] | None) -> str:
    """Return a row of the table."""
    figures = [f"{kl:.3g} ± {error:.1g}" for kl, error in (before, *([after] if after else []))]
    return f"| {name} | {' | '.join(figures)} |"


def main() -> None:
    """Make what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--to", type=Path, default=Path("build/experts"), help="(default: %(default)s)")
    add("--data", type=Path, default=Path("examples/smollm2/data"), help="texts (default: %(default)s)")
    add(
        "--minutes", type=float, default=6, help="CPU minutes of the parent's training (default: %(default)s)"
    )
    add("--seed", type=int, default=0, help="of the parent (default: %(default)s)")
    add("--no-parts", action="store_true", help="leave out the parts of our method")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not (options.to / "parent").is_dir():
        experts_parent.make(options.data, options.to, options.minutes, options.seed)
    bench = Bench(options.to)
    command = [sys.executable, "-m", "puzzledsl.cli.main", "run", str(bench.program_path)]
    subprocess.run(command, check=True)
    print("| child | KL untrained | KL uptrained |\n|---|---|---|")
    build = BuildDir(options.to / "build")
    print(line("pzl", bench.kl(build.model("best")), bench.kl(build.model("final"))), flush=True)
    for name, method in RIVALS.items():
        for healed in (False, True):
            child = bench.child(name, method, healed=healed)
            row = f"{name}, healed" if healed else name
            print(line(row, bench.kl(child), bench.kl(bench.uptrained(child))), flush=True)
    print("\n| part of our method | KL untrained | healed |\n|---|---|---|")
    for name, method in () if options.no_parts else PARTS.items():
        plain, healed_ = (bench.kl(bench.child(name, method, healed=healed)) for healed in (False, True))
        print(line(name, plain, healed_), flush=True)


if __name__ == "__main__":
    main()
