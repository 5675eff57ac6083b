"""Children of searches for speed, on text and questions that no search saw: `python -m benchmarks.promises`.

Twelve searches with a requirement on quality: three parents (the example's, and two that are trained on the spot, in the shapes
of Qwen3 and of Qwen2), two requirements, two seeds of calibration. `pzl run` runs the program of a parent and a seed: costs in
llama.cpp, pieces, scores, children that the judge measures, an evaluation on other documents and questions than the judge's.
A pool of random and evolved children of each parent (benchmarks/promises_pool.py) then shows how fast a child can be that is as
good. Everything that is finished is kept: an interrupted run goes on. Needs what `examples/smollm2/prepare.py` makes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.ladder import EXAMPLE, pzl
from benchmarks.promises_pool import Pool

SEEDS = (0, 1)
WIDEST = {"kl": 0.2, "kept": 0.05}
"""Largest half-widths of the 95 % interval: a share of the KL, and points of accuracy kept."""
Z = 1.96
SLOWER = 0.03
"""Share by which a child may be slower than the fastest of the pool that is as good."""
ITEMS = 500
"""Questions of each task to judge by; the others of its file, at most twice as many, are reported on."""
MERGES = 4096
"""Merges of the small parents' tokenizer: the first of the example's."""


@dataclass(frozen=True)
class Subject:
    """A parent with two requirements. `model_type` names the Transformers configuration of one that is trained here."""

    name: str
    requirements: tuple[str, str]
    model_type: str = ""


SUBJECTS = (
    Subject("smollm", ("taste.kl <= 0.05", "quiz.kept >= 90%")),
    Subject("qwen3", ("taste.kl <= 0.02", "taste.kl <= 0.05"), "qwen3"),
    Subject("qwen2", ("taste.kl <= 0.02", "taste.kl <= 0.05"), "qwen2"),
)
PROGRAM = """\
parent subject = hf("{parent}")
space small of subject {{
  attention = parent(dtype: full | iq4_nl)
  ffn = parent(dtype: full | iq4_nl) | noop
  head = parent(dtype: full | iq4_nl)
}}
hardware laptop = measured(engine: llama_cpp, dtype: q8_0, threads: 1)
scenario chat on laptop = batch(1, 64 -> 128)
data corpus  = text("{data}/train.txt", part: 0%..90%)
data varied  = text("{data}/varied.txt", part: 0%..90%)
data mixed   = mix(corpus: 1, varied: 1)
data judging = mix(a: 1, b: 1)
data a       = text("{data}/train.txt", part: 90%..95%)
data b       = text("{data}/varied.txt", part: 90%..95%)
data other   = mix(c: 1, d: 1)
data c       = text("{data}/train.txt", part: 95%..100%)
data d       = text("{data}/varied.txt", part: 95%..100%)
bld pieces of small {{
  train = attention + ffn, tokens = 0, calibration = 4Ki, heal = 0
  context = 512, batch = 4, data = mixed, seed = {seed}
}}
score kl of pieces = replace_one(kl_divergence, samples: 512)
judge taste of subject {{ data = judging, tokens = 8Ki }}
"""
QUIZ = """\
judge quiz of subject = tasks("judge_arc.jsonl", "judge_sciq.jsonl") {{ data = judging, tokens = 1Ki, items = {items} }}
"""
SEARCH = "search s{n} of small {{ maximize chat.throughput, require {requirement}{refine} }}\n"
FEWER = ", refine = measured(6)"
"""Children that are measured of the example's parent; of the small ones as many as a search measures unless it says."""
EVAL = "eval e{n} of s{n}{tasks} {{ data = other, tokens = 16Ki, ladder = false{items} }}\n"


def write_questions(data: Path, folder: Path) -> None:
    """Write questions to judge by, and other ones to report on."""
    for task, name in (("arc_easy", "arc"), ("sciq", "sciq")):
        lines = (data / f"{task}.jsonl").read_text("utf-8").splitlines(keepends=True)
        for kind, part in (("judge", lines[:ITEMS]), ("other", lines[ITEMS:])):
            (folder / f"{kind}_{name}.jsonl").write_text("".join(part), "utf-8")


def program_of(subject: Subject, parent: Path, data: Path, seed: int) -> str:
    """Return the program of a parent and a seed."""
    asked = "quiz" in "".join(subject.requirements)
    parts = [PROGRAM.format(parent=parent, data=data, seed=seed), QUIZ.format(items=ITEMS) if asked else ""]
    for n, requirement in enumerate(subject.requirements):
        on_tasks = "quiz" in requirement
        parts.append(SEARCH.format(n=n, requirement=requirement, refine="" if subject.model_type else FEWER))
        tasks = ' = tasks("other_arc.jsonl", "other_sciq.jsonl")' if on_tasks else ""
        parts.append(EVAL.format(n=n, tasks=tasks, items=f", items = {2 * ITEMS}" if on_tasks else ""))
    return "".join(parts)


def write_tokenizer(source: Path, folder: Path) -> int:
    """Write the example's tokenizer with its first MERGES merges alone; return the size of its vocabulary."""
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(source / name, folder / name)
    read: dict[str, Any] = json.loads((source / "tokenizer.json").read_text("utf-8"))
    model = read["model"]
    made = model["merges"][MERGES:]
    words = {"".join(pair) if isinstance(pair, list) else pair.replace(" ", "") for pair in made}
    kept = [
        token for token, _ in sorted(model["vocab"].items(), key=lambda item: item[1]) if token not in words
    ]
    model["vocab"], model["merges"] = (
        {token: index for index, token in enumerate(kept)},
        model["merges"][:MERGES],
    )
    for token in read["added_tokens"]:
        token["id"] = model["vocab"][token["content"]]
    (folder / "tokenizer.json").write_text(json.dumps(read, ensure_ascii=False), "utf-8")
    return len(kept)


def train(subject: Subject, source: Path, data: Path, folder: Path, minutes: float) -> None:
    """Train a small parent for so many minutes of processor time, and save it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    vocabulary = write_tokenizer(source, partial)
    tokenizer: Any = AutoTokenizer.from_pretrained(partial)
    sizes = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 8, "num_attention_heads": 4}
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = AutoConfig.for_model(
        subject.model_type, vocab_size=vocabulary, num_key_value_heads=2, head_dim=64, tie_word_embeddings=True,
        max_position_embeddings=2048, **sizes, **special,
    )  # fmt: skip
    torch.manual_seed(0)
    make: Any = AutoModelForCausalLM.from_config
    model = make(config, dtype=torch.float32)
    text = "\n\n".join((data / name).read_text("utf-8")[:2_500_000] for name in ("train.txt", "varied.txt"))
    ids = torch.tensor(tokenizer(text).input_ids)
    context, batch = 128, 8
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1, betas=(0.9, 0.95))
    begun, loss = time.process_time(), torch.tensor(0.0)
    while (spent := (time.process_time() - begun) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, 20 * spent + 0.01) * (1 - 0.95 * spent)
        starts = torch.randint(0, len(ids) - context, (batch,)).tolist()
        ids_BS = torch.stack([ids[start : start + context] for start in starts])
        loss = model(input_ids=ids_BS, labels=ids_BS).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(partial)
    partial.replace(folder)
    print(f"{subject.name}: trained to a loss of {loss.item():.2f}")


def rows(subject: Subject, build: Path, seed: int) -> list[dict[str, Any]]:
    """Return what the children of a program were required, and what they do on other text and questions."""
    found = []
    for n, requirement in enumerate(subject.requirements):
        evaluation = json.loads((build / "evals" / f"e{n}.json").read_text("utf-8"))
        (child,) = (model for model in evaluation["models"] if model["model"] == f"s{n}")
        bound = float(requirement.split()[-1].removesuffix("%"))
        if "kept" in requirement:
            (compared,) = (each for each in evaluation["comparisons"] if each["model"] == f"s{n}")
            kept = compared["kept"]["pooled"]
            value, half, bound = kept["chance_corrected"], (kept["high"] - kept["low"]) / 2, bound / 100
            met, narrow = value >= bound, half <= WIDEST["kept"]
        else:
            figure = child["figures"]["kl"]
            value, half = figure["value"], Z * figure["stderr"]
            met, narrow = value <= bound, half <= WIDEST["kl"] * value
        found.append(
            {"subject": subject.name, "seed": seed, "requirement": requirement, "value": value, "half": half,
             "met": met, "narrow": narrow}
        )  # fmt: skip
    return found


def main() -> None:
    """Make the parents, run the programs and the pools, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.promises", description=__doc__)
    option = parser.add_argument
    option("--example", type=Path, default=EXAMPLE, metavar="DIR", help="where parent/ and data/ are")
    option("--folder", type=Path, default=Path("build/promises"), metavar="DIR")
    option("--minutes", type=float, default=15, metavar="N", help="of processor time to train a small parent")
    option("--children", type=int, default=200, metavar="N", help="of a pool")
    option("--only", default="", metavar="NAME", help="one parent")
    options = parser.parse_args()
    example, folder = options.example.resolve(), options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    write_questions(example / "data", folder)
    table, pools = list[dict[str, Any]](), list[dict[str, Any]]()
    for subject in SUBJECTS:
        if options.only not in ("", subject.name):
            continue
        parent = folder / f"{subject.name}-parent" if subject.model_type else example / "parent"
        if not parent.exists():
            train(subject, example / "parent", example / "data", parent, options.minutes)
        for seed in SEEDS:
            program, build = folder / f"{subject.name}{seed}.pzl", folder / f"{subject.name}{seed}"
            program.write_text(program_of(subject, parent, example / "data", seed), "utf-8")
            if seed and not build.exists():  # costs do not depend on it
                shutil.copytree(
                    folder / f"{subject.name}{SEEDS[0]}", build, ignore=shutil.ignore_patterns("models")
                )
            pzl("run", str(program), "-o", str(build))
            table += rows(subject, build, seed)
        if options.children:
            program, build = folder / f"{subject.name}{SEEDS[0]}.pzl", folder / f"{subject.name}{SEEDS[0]}"
            for n, requirement in enumerate(subject.requirements):
                found = Pool(program, build, f"s{n}", folder / f"{subject.name}-pool.json").compared(
                    options.children
                )
                pools.append({"subject": subject.name, "requirement": requirement, **found})
    show(table, pools)
    (folder / "promises.json").write_text(
        json.dumps({"children": table, "pools": pools}, indent=1) + "\n", "utf-8"
    )


def show(table: list[dict[str, Any]], pools: list[dict[str, Any]]) -> None:
    """Print what was required and found, and the pools."""
    for row in table:
        verdict = ("met" if row["met"] else "MISSED") + ("" if row["narrow"] else ", interval too wide")
        name = f"{row['subject']} {row['seed']}"
        print(f"{name:12} {row['requirement']:20} {row['value']:.4f} ± {row['half']:.4f}  {verdict}")
    print(f"{sum(row['met'] for row in table)} of {len(table)} met (target: all but one)")
    for pool in pools:
        verdict = "within" if pool["slower"] <= SLOWER else "BEYOND"
        speeds = f"ours {pool['ours']:.2f} tok/s, the fastest of the others {pool['fastest']:.2f}"
        many = f"{pool['qualified']} of the {pool['measured']} fastest of {pool['children']} qualify"
        name = f"{pool['subject']:12} {pool['requirement']:20} {many}"
        print(f"{name}; {speeds}: ours is {pool['slower']:+.1%} slower, {verdict} {SLOWER:.0%}")


if __name__ == "__main__":
    main()
