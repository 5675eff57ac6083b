"""Least squares beside the paper's recipe: pieces, and the child they make.

Three libraries of the same alternatives, made by `run_bld` itself: the paper's initialisers and BLD, least squares without
training, least squares and the same BLD. Losses are normalised MSE on held-out tokens. Two parents: a small Llama trained here
on this repository's own text (kept in the work directory), all of it and its child at a budget of 40 % of its sub-blocks'
weights; and SmolLM2 where `make demo` has prepared it: some of its layers, and its child at that budget on fewer tokens.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from puzzledsl.base.progress import Silent
from puzzledsl.checker.check import check
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.child.definition import model_definition
from puzzledsl.child.healing.run import HealingInputs, healed_weights
from puzzledsl.child.load import load_checkpoint
from puzzledsl.costs.table import cost_table
from puzzledsl.data.blocks import token_blocks
from puzzledsl.evaluate.divergence import compare_block, final_states
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import Piece
from puzzledsl.models.families.load import load_parent, load_tokenizer
from puzzledsl.pieces.store.library import Library
from puzzledsl.pieces.train.run import BldInputs, run_bld
from puzzledsl.plan.bld import bld_plan
from puzzledsl.scoring.inputs import ScoreInputs
from puzzledsl.scoring.run import run_score
from puzzledsl.search.solve import solve_search
from tests.tiny import tiny_tokenizer

PAPER, UNTRAINED, TRAINED = "paper", "untrained", "trained"
SMALL = {"layers": 8, "hidden": 128, "heads": 8, "kv_heads": 4, "head_dim": 16, "intermediate": 384}
STEPS, BATCH, CONTEXT = 2400, 8, 128
BUDGET = Fraction(2, 5)
CALIBRATION = 16384
HELD_OUT_TOKENS = 4096

SOURCE = """\
parent p = hf("parent")
data mix = text("train.txt")
data unseen = text("heldout.txt")
space paper_space of p {{
{space}
  init {{ gqa = mean_pool, mlp = channel_contribution, linear = product }}
}}
space space of p {{
{space}
}}
bld paper of paper_space {{ train = attention + ffn, tokens = {tokens}, {settings} }}
bld untrained of space {{ train = attention + ffn, tokens = 0, {settings} }}
bld trained of space {{ train = attention + ffn, tokens = {tokens}, {settings} }}
score paper_kl of paper = replace_one(kl_divergence, samples: {samples}, children: 0, data: mix)
score kl of trained = replace_one(kl_divergence, samples: {samples}, children: 0, data: mix)
search paper_child of paper_space {{ minimize paper_kl, require params <= {params} }}
search child of space {{ minimize kl, require params <= {params} }}
"""


@dataclass(frozen=True)
class Made:
    """One library: its pieces, and the CPU seconds they took."""

    pieces: dict[tuple[int, str, str], Piece]
    cpu_s: float


def main(options: argparse.Namespace) -> None:
    """Print, for each parent, losses and CPU seconds as ratios; for the small one the child's KL too."""
    torch.set_num_threads(options.threads)
    small = small_parent(options.work / "small")
    alternatives = (
        "parent | gqa(kv_heads: 2 | 1) | linear | noop",
        "parent | mlp(width: 75% | 50% | 25% | 10%) | linear | noop",
    )
    space = f"  attention = {alternatives[0]}\n  ffn = {alternatives[1]}"
    directory = options.work / "small"
    print(f"\n## A Llama of 8 layers, {options.tokens:,} tokens of BLD a piece, {options.threads} thread(s)")
    program = program_in(directory, space, options.tokens, f"context = {CONTEXT}, batch = 8", small)
    compare(program, directory)
    children(program, directory)
    if not (options.example / "parent" / "config.json").is_file():
        print("\nSmolLM2 is not prepared (`make demo` does it): left out")
        return
    directory = options.work / "smollm2"
    prepare(options.example, directory)
    print(f"\n## SmolLM2-135M, layers {options.layers} of 30, {options.tokens:,} tokens of BLD a piece")
    settings = "context = 256, batch = 4"
    compare(program_in(directory, some_layers(options.layers), options.tokens, settings, 0), directory)
    print(f"\n## A child of SmolLM2-135M, {options.child_tokens:,} tokens of BLD a piece", flush=True)
    space = "  attention = parent | gqa(kv_heads: 1) | linear | noop\n"
    space += "  ffn = parent | mlp(width: 75% | 50% | 25% | 10%) | linear | noop"
    largest = largest_child(directory / "parent")
    program = program_in(directory, space, options.child_tokens, settings, largest, samples=256)
    for bld in (PAPER, TRAINED):
        made(program, directory, bld)
    children(program, directory)


# ---------------------------------------------------------------- parents


def small_parent(directory: Path) -> int:
    """Train the small parent where it is not there yet. The largest number of parameters that its child may have."""
    text = sorted(
        path
        for pattern in ("docs/*.md", "puzzledsl/**/*.py", "tests/**/*.py")
        for path in Path().glob(pattern)
    )
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "parent" / "config.json").is_file():
        for name, wanted in (("heldout.txt", 0), ("train.txt", 1)):
            parts = [path.read_text() for i, path in enumerate(text) if min(i % 20, 1) == wanted]
            (directory / name).write_text("\n\n".join(parts))
        train_parent(directory)
    return largest_child(directory / "parent")


def largest_child(parent: Path) -> int:
    """The largest number of parameters that a child at the budget may have: embeddings and norms no search can change."""
    model = load_parent(parent)
    total = sum(p.numel() for p in model.parameters())
    blocks = sum(p.numel() for n, p in model.named_parameters() if ".layers." in n and "norm" not in n)
    return total - blocks + int(BUDGET * blocks)


def train_parent(
    directory: Path, steps: int = STEPS, size: Mapping[str, int] = SMALL, rate: float = 3e-3
) -> None:
    """Train a small Llama in float32 on `train.txt` of a directory, by bytes; it is written to `parent` there."""
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        hidden_size=size["hidden"],
        num_attention_heads=size["heads"],
        num_key_value_heads=size["kv_heads"],
        head_dim=size["head_dim"],
        intermediate_size=size["intermediate"],
        num_hidden_layers=size["layers"],
        vocab_size=len(tokenizer),
        tie_word_embeddings=True,
        max_position_embeddings=1024,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
        initializer_range=0.06,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    ids = torch.tensor(tokenizer((directory / "train.txt").read_text()[: steps * BATCH * CONTEXT]).input_ids)
    blocks = ids[: len(ids) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.05)
    order = torch.randperm(len(blocks), generator=torch.Generator().manual_seed(0))
    loss = torch.tensor(0.0)
    for step in range(steps):
        rows = blocks[order[torch.arange(step * BATCH, (step + 1) * BATCH) % len(blocks)]]
        loss = model(rows, labels=rows, use_cache=False).loss
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
    print(
        f"small parent: {sum(p.numel() for p in model.parameters()):,} parameters, loss {float(loss.detach()):.3f} nats a byte",
        flush=True,
    )
    model.save_pretrained(directory / "parent")
    tokenizer.save_pretrained(directory / "parent")


def prepare(example: Path, directory: Path) -> None:
    """The prepared example's parent and text."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, source in (("train.txt", "data/train.txt"), ("heldout.txt", "data/heldout.txt")):
        shutil.copyfile(example / source, directory / name)
    if not (directory / "parent").exists():
        (directory / "parent").symlink_to((example / "parent").resolve())


def some_layers(numbers: str) -> str:
    """A space in which these layers choose and all others are the parent's."""
    lines = ["  attention = parent", "  ffn = parent"]
    for number in numbers.split(","):
        lines.append(f"  layers[{number}].attention = parent | gqa(kv_heads: 1) | linear")
        lines.append(f"  layers[{number}].ffn = parent | mlp(width: 75% | 50% | 25% | 10%) | linear")
    return "\n".join(lines)


def program_in(
    directory: Path, space: str, tokens: int, settings: str, params: int, samples: int = 2048
) -> Program:
    """The checked program, which is left beside what it makes."""
    settings += f", calibration = {CALIBRATION}, lr = cosine(1e-3, warmup: 10%), data = mix"
    path = directory / "stage1.pzl"
    path.write_text(
        SOURCE.format(space=space, tokens=tokens, settings=settings, params=params or 10**9, samples=samples)
    )
    return checked_program(path)


# ---------------------------------------------------------------- pieces


def made(program: Program, directory: Path, bld: str) -> Made:
    """Run one BLD from nothing. The text is tokenised before the clock starts."""
    library = Library(directory / bld / "library")
    shutil.rmtree(directory / bld, ignore_errors=True)
    declaration, jobs = program.blds[bld], bld_plan(program, bld)
    cache, tokenizer = directory / bld / "tokens", load_tokenizer(directory / "parent")
    text = program.data[declaration.data or ""]
    token_blocks(text, directory, tokenizer, context=declaration.context, tokens=1, seed=0, cache=cache)
    began = time.process_time()
    run_bld(
        BldInputs(
            program, bld, jobs, directory / "parent", directory, library, directory / bld / "work", Silent()
        )
    )
    took = time.process_time() - began
    mine = {job.id for job in jobs}
    pieces = {
        (p.job.layer, p.job.sub_block, (p.job.attention or p.job.ffn).name): p  # type: ignore[arg-type]
        for p in library.pieces()
        if p.job.id in mine
    }
    return Made(pieces, took)


def compare(program: Program, directory: Path) -> None:
    """A table of alternatives (means over layers), and what is demanded of it."""
    paper, untrained, trained = (made(program, directory, bld) for bld in (PAPER, UNTRAINED, TRAINED))
    kinds: dict[tuple[str, str], list[tuple[int, str, str]]] = defaultdict(list)
    for key in sorted(paper.pieces):
        kinds[key[1:]].append(key)

    def mean(library: Made, keys: Sequence[tuple[int, str, str]], loss: Callable[[Piece], float]) -> float:
        return sum(loss(library.pieces[key]) for key in keys) / len(keys)

    titles = ("paper init", "paper+BLD", "LS", "LS+BLD", "LS ratio", "trained ratio")
    print(f"{'alternative':>20}" + "".join(f"{title:>15}" for title in titles))
    for kind, keys in kinds.items():
        start = mean(paper, keys, lambda p: p.loss_initial)
        rival = mean(paper, keys, lambda p: p.loss_final)
        plain = mean(trained, keys, lambda p: p.loss_initial)  # the untrained library's, on the same tokens
        best = mean(trained, keys, lambda p: p.loss_final)
        figures = (start, rival, plain, best, plain / rival, best / rival)
        print(f"{' '.join(kind):>20}" + "".join(f"{figure:15.4f}" for figure in figures))
    print("ratios to paper+BLD; demanded: LS <= 1.10 and < 1 for both linears, trained <= 1")
    print(
        f"CPU: paper {paper.cpu_s:.1f} s, LS {untrained.cpu_s:.1f} s ({untrained.cpu_s / paper.cpu_s:.3f} of it, <= 0.25), "
        f"LS+BLD {trained.cpu_s:.1f} s",
        flush=True,
    )


# ---------------------------------------------------------------- children


def children(program: Program, directory: Path) -> None:
    """The child of each recipe at the budget, on held-out text that neither has seen."""
    recipes = (
        ("paper init, BLD, sum of KL", PAPER, "paper_kl", "paper_child", False),
        ("least squares, BLD, sum of KL", TRAINED, "kl", "child", False),
        ("least squares, BLD, sum of KL, healed", TRAINED, "kl", "child", True),
    )
    found: dict[str, float] = {}
    for title, bld, score, search, heal in recipes:
        found[title] = child_kl(program, directory, bld, score, search, heal)
        share = found[title] / found[recipes[0][0]]
        print(
            f"child at {float(BUDGET):.0%} of the weights, {title}: KL {found[title]:.4f}, {share:.3f} of the paper's recipe",
            flush=True,
        )
    print("demanded of the last: <= 0.8")


def child_kl(program: Program, directory: Path, bld: str, score: str, search: str, heal: bool) -> float:
    """Score, solve, realise, and compare with the parent: KL in nats."""
    library, jobs = Library(directory / bld / "library"), bld_plan(program, bld)
    parent, quiet = directory / "parent", Silent()
    work = directory / bld / "work"
    table = run_score(ScoreInputs(program, score, parent, directory, library, jobs, work, quiet))
    costs = cost_table(program, program.searches[search].space, directory)
    solution = solve_search(program, search, costs, {score: table}).solutions[0]
    definition = model_definition(program, search, solution, jobs)
    healed = {}
    if heal:
        cache = directory / bld / "tokens"
        healed = healed_weights(
            HealingInputs(program, definition, jobs, parent, directory, library.load, cache, work, quiet)
        )
    realise(definition, parent, library.load, directory / "children" / search, healed=healed)
    return kl_between(parent, directory / "children" / search, held_out(program, directory))


def checked_program(path: Path) -> Program:
    """The program of a file. Raises SystemExit with what is wrong in it."""
    checked = check(path)
    if checked.program is None:
        raise SystemExit("\n".join(d.message for d in checked.diagnostics))
    return checked.program


def held_out(program: Program, directory: Path) -> torch.Tensor:
    """Blocks of the program's `unseen`, as tokens of the directory's parent: (N, CONTEXT), int64."""
    tokenizer = load_tokenizer(directory / "parent")
    return token_blocks(
        program.data["unseen"], directory, tokenizer, context=CONTEXT, tokens=HELD_OUT_TOKENS, seed=0
    )


def kl_between(parent: Path, child: Path, blocks: torch.Tensor) -> float:
    """KL(parent || child) of two checkpoints, a mean over blocks of tokens, in nats."""
    states, heads = zip(*(final_states_of(path, blocks) for path in (parent, child)), strict=True)
    figures = [
        compare_block(ids, p, heads[0], c, heads[1]) for ids, p, c in zip(blocks, *states, strict=True)
    ]
    return sum(figure.means["kl"] for figure in figures) / len(figures)


def final_states_of(directory: Path, blocks: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    model = load_checkpoint(directory)
    return final_states(model, blocks), model.get_output_embeddings().weight
