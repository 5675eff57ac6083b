"""Which rate, batch, dtype, warm-up and text should a short uptraining use? Equal tokens, from one child without pieces.

Needs `python examples/smollm2/prepare.py` and no build: the child is the parent without a run of layers, healed with
`--heal`. Each row changes what it names and nothing else. Choices are made on `calibration.txt` and `choice.txt`, which no row
trains on and no table of results reports. A finished row is kept, so an interrupted table goes on.

    python -m benchmarks.gkd_recipe                                    # the table of docs/science.md, about an hour of CPU
    python -m benchmarks.gkd_recipe --heal 8192 rate=2e-4 source=mixed,batch=8
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.alternatives.noop import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.files import write_text
from puzzledsl.base.progress import Silent
from puzzledsl.checker.check import check
from puzzledsl.child.checkpoint.realise import realise
from puzzledsl.child.healing.walk import heal
from puzzledsl.child.load import load_checkpoint
from puzzledsl.data.blocks import token_blocks
from puzzledsl.evaluate.divergence import compare_block, divergence_figures, final_states
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import LayerDefinition, ModelDefinition
from puzzledsl.models.families.access import output_embedding
from puzzledsl.models.families.load import load_tokenizer
from puzzledsl.uptrain.run import UptrainInputs, run_uptrain

EXAMPLE = Path(__file__).parents[1] / "examples" / "smollm2"
LAYERS, EVAL_CONTEXT = 30, 512
TEXTS = {"kl": "calibration", "kl_tasks": "choice"}
DEFAULTS = {
    "rate": "1e-4",
    "batch": "4",
    "dtype": "bf16",
    "warmup": "5%",
    "tokens": "12Ki",
    "loss": "kld + cosine",
    "source": "train",
}
ROWS = ("rate=1e-4", "rate=5e-5", "rate=2e-4", "batch=2", "batch=8", "warmup=0%", "dtype=fp32")
ROWS += ("source=mixed", "source=third-sampled")
PROGRAM = """
use "std/parents.pzl" (smollm2_135m)
parent smollm = hf("parent", shape: smollm2_135m)
hardware h = measured(device: cpu, dtype: fp32)
scenario chat on h = batch(1, 64 -> 128)
space w of smollm {{ attention = parent | noop, ffn = parent | noop }}
score kl of w = table("none.csv")
search best of w {{ minimize kl }}
data calibration = text("data/calibration.txt")
data choice = text("data/choice.txt")
data healing = mix(train: 11, varied: 5)
data train = text("data/train.txt")
data varied = text("data/varied.txt")
{data}
uptrain row of best {{
  loss = {loss}, tokens = {tokens}, context = 256, batch = {batch}, dtype = {dtype}
  lr = cosine({rate}, warmup: {warmup}), data = corpus
}}
"""
SAMPLED = 'data sampled = text("data/sampled.txt")'
SOURCES = {
    "train": "data corpus = mix(train: 1)",
    "varied": "data corpus = mix(varied: 1)",
    "mixed": "data corpus = mix(train: 1, varied: 1)",
    "sampled": f"{SAMPLED}\ndata corpus = mix(sampled: 1)",
    "third-sampled": f"{SAMPLED}\ndata corpus = mix(train: 2, sampled: 1)",
}
HEALING_SEED, HELD_OUT_TOKENS = (
    1,
    1024,
)  # blocks that heal and that judge it; rows train on others, but for chance


class Clock(Silent):
    """CPU seconds of the steps alone."""

    def __init__(self) -> None:
        self.last = self.spent = 0.0
        self.steps = 0

    def start(self, task: str, total: int) -> None:
        """Begin to count."""
        self.last = time.process_time()

    def log(self, event: str, **fields: object) -> None:
        """Count to the end of each step; leave out evaluations."""
        now = time.process_time()
        if event == "uptrain_step":
            self.spent, self.steps = self.spent + now - self.last, self.steps + 1
        self.last = now


class Bench:
    """The parent, the child, the texts that rows are judged on, and the rows that are finished."""

    def __init__(self, base: Path, work: Path, dropped: range, healed: int, eval_tokens: int) -> None:
        self.base, self.work, self.eval_tokens = base, work, eval_tokens
        self.tokenizer = load_tokenizer(base / "parent")
        parent = load_checkpoint(base / "parent")
        self.child = work / f"without-{dropped.start}-{dropped[-1]}"
        if not self.child.is_dir():
            self._make_child(child_without(dropped), parent, healed)
        self.parent_VH = output_embedding(parent)
        program = self.program(DEFAULTS)
        self.texts = {
            key: self._blocks(program, name, EVAL_CONTEXT, eval_tokens) for key, name in TEXTS.items()
        }
        with fast():
            self.states = {key: final_states(parent, blocks_NT) for key, blocks_NT in self.texts.items()}

    def _make_child(self, definition: ModelDefinition, parent: PreTrainedModel, healed: int) -> None:
        """Realise the child, healed on so many tokens."""
        weights, unfinished = {}, self.work / "healing"
        if healed:
            tokens = healed + HELD_OUT_TOKENS
            blocks_NS = self._blocks(self.program(DEFAULTS), "healing", 256, tokens, HEALING_SEED)
            calibration, held_out = blocks_NS[: healed // 256], blocks_NS[healed // 256 :]
            unfinished.mkdir(parents=True, exist_ok=True)
            layers = definition.layers
            weights = heal(parent, layers, no_piece, calibration, held_out, unfinished, Silent()).weights
        realise(definition, self.base / "parent", no_piece, self.child, healed=weights)
        shutil.rmtree(unfinished, ignore_errors=True)

    def _blocks(self, program: Program, name: str, context: int, tokens: int, seed: int = 0) -> Tensor:
        source, cache = program.data[name], self.work / "tokens"
        return token_blocks(
            source, self.base, self.tokenizer, context=context, tokens=tokens, seed=seed, cache=cache
        )

    def program(self, settings: dict[str, str]) -> Program:
        """The program of a row."""
        path = self.work / "row.pzl"
        write_text(path, PROGRAM.format(data=SOURCES[settings["source"]], **settings))
        found = check(path, {})
        if found.program is None:
            raise SystemExit(f"{path} has errors: `pzl check` shows them")
        return found.program

    def row(self, settings: dict[str, str] | None) -> dict[str, float]:
        """Train with these settings (None: leave the child as it is) and measure."""
        name = "untrained" if settings is None else "-".join(settings[key] for key in sorted(settings))
        kept = self.work / f"{re.sub(r'[^A-Za-z0-9.%+-]', '', name)}-{self.eval_tokens}.json"
        if kept.is_file():
            return dict(json.loads(kept.read_text()))
        directory, clock = self.child, Clock()
        if settings is not None:
            directory = self.work / "trained"
            shutil.rmtree(directory, ignore_errors=True)
            folders = self.base / "parent", self.child, directory, self.base, self.work / "unfinished"
            run_uptrain(UptrainInputs(self.program(settings), "row", *folders, self.work / "tokens", clock))
        found = {**self.measure(directory), "cpu_s": clock.spent, "steps": clock.steps}
        write_text(kept, json.dumps(found))
        return found

    def measure(self, directory: Path) -> dict[str, float]:
        """KL to the parent on each text, with its standard error."""
        model, found = load_checkpoint(directory), {}
        embedding_VH = output_embedding(model)
        for key, blocks_NT in self.texts.items():
            with fast():
                states = final_states(model, blocks_NT)
                blocks = [
                    compare_block(ids_T, parent_TH, self.parent_VH, model_TH, embedding_VH)
                    for ids_T, parent_TH, model_TH in zip(blocks_NT, self.states[key], states, strict=True)
                ]
            figure = divergence_figures(blocks)["kl"]
            found |= {key: figure.value, f"{key}_se": figure.stderr or 0.0}
        return found


@contextmanager
def fast() -> Iterator[None]:
    """Measure with bf16 products: KL of the parent to itself .001, the same for every row."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield


def no_piece(job: str) -> Mapping[str, Tensor]:
    """Fail: a child of parent layers and no-ops has no pieces."""
    raise KeyError(job)


def child_without(dropped: range) -> ModelDefinition:
    """The parent with both sub-blocks of these layers left out."""
    kept = LayerDefinition(attention=ParentAttention(), ffn=ParentFfn())
    gone = LayerDefinition(attention=NoOpAttention(), ffn=NoOpFfn())
    layers = tuple(gone if layer in dropped else kept for layer in range(LAYERS))
    return ModelDefinition(name="best", search="best", parent="smollm", layers=layers)


def shown(name: str, found: dict[str, float], tokens: float) -> str:
    """A line of the table."""
    cpu_s = found["cpu_s"]
    speed = f"{tokens / cpu_s:.0f}" if cpu_s else ""
    return (
        f"| {name} | {found['kl']:.3f} ± {found['kl_se']:.3f} | {found['kl_tasks']:.3f} ± {found['kl_tasks_se']:.3f} | "
        f"{cpu_s:.0f} | {speed} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, default=EXAMPLE, help="where parent/ and data/ lie")
    parser.add_argument("--work", type=Path, default=EXAMPLE / "build" / "work" / "gkd-recipe")
    parser.add_argument("--drop", default="12..17", help="layers the child is without")
    parser.add_argument(
        "--heal", type=int, default=0, metavar="TOKENS", help="heal the child on so many (8192)"
    )
    parser.add_argument("--eval-tokens", type=int, default=3072, help="of each text a row is judged on")
    parser.add_argument("rows", nargs="*", help="changes to the defaults, such as rate=5e-5,batch=2")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    first, last = map(int, options.drop.split(".."))
    work = options.work / (f"healed-{options.heal}" if options.heal else "plain")
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.base, work, range(first, last + 1), options.heal, options.eval_tokens)
    print("| change | KL | KL on task text | CPU s | tokens per CPU s |\n|---|---|---|---|---|")
    print(shown("untrained", bench.row(None), 0), flush=True)
    for row in options.rows or ROWS:
        settings = DEFAULTS | dict(pair.split("=", 1) for pair in row.split(","))
        found = bench.row(settings)
        print(shown(row, found, found["steps"] * int(settings["batch"]) * 256), flush=True)


if __name__ == "__main__":
    main()
