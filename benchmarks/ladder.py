"""Children at several speeds beside the files of llama.cpp's own quantiser: `python -m benchmarks.ladder`.

One program has a search for each speed, from a tenth beyond its eight-bit parent to the fastest child there is; `pzl run`
measures, makes the pieces, builds the children, and times each in turn with the parent. The table shows what the costs predicted,
what was measured, and the KL divergence on held-out passages and on questions; the files of the ladder are measured once, beside
the last child. Beside each child stands its KL as a share of that of the best file that is as fast, or within three percent.
`--rules` are numbers of layers to drop from the all-`iq4_nl` child, those that change their input the least (Men et al. 2024,
block influence). `ladder.svg` in the folder is the picture. `--chats` are sequences at once. `make llama`, or
`PZL_LLAMA_LIBRARY`, chooses another build of llama.cpp. `--engine vllm` times children with other structure, in bfloat16. It has
no ladder, nor has `--no-ladder`. Needs what `examples/smollm2/prepare.py` makes. An interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cosine_similarity
from transformers import AutoModelForCausalLM, AutoTokenizer

from puzzledsl.report.numbers import environment
from puzzledsl.report.pictures.curves import curve_of

EXAMPLE = Path(__file__).parents[1] / "examples" / "smollm2"
SLOWEST = 1.1
FEW = "512"
HEAD = """\
use "std/parents.pzl" (smollm2_135m)
parent smollm = hf("{example}/parent", shape: smollm2_135m)
hardware laptop = measured(engine: {engine})
scenario chat on laptop = batch({chats}, 64 -> 128)
data corpus  = text("{example}/data/train.txt")
data varied  = text("{example}/data/varied.txt", part: 0%..97%)
data mixed   = mix(corpus: 1, varied: 1)
data heldout = text("{example}/data/heldout.txt")
data questions = text("{example}/data/choice.txt")
"""
SPACE = """\
space {name} of smollm {{
{body}
}}
bld {pieces} of {name} {{
  train = attention + ffn, tokens = 0, calibration = {fitting}, heal = 0
  context = 512, batch = 4, data = mixed, seed = {seed}
}}
"""
SPACES = {
    "llama_cpp": """\
  attention = parent(dtype: full | q4_0 | iq4_nl)
  ffn = parent(dtype: full | q4_0 | iq4_nl) | noop
  head = parent(dtype: full | q4_0 | iq4_nl)""",
    "vllm": """\
  attention = parent | gqa(kv_heads: 1) | noop
  ffn = parent | mlp(width: 75% | 50%) | noop""",
}
"""Engine -> what each layer may become. Which of the types is fast depends on the processor."""
ENGINES = {"llama_cpp": "llama_cpp, dtype: q8_0, threads: 1", "vllm": "vllm, dtype: bf16, threads: 1"}
SCORED = "score kl of pieces = replace_one(kl_divergence, samples: 512)\n"
CHILD = """\
search c{n} of small {{ {goal}, solver = cpsat(time: 20s) }}
eval e{n} of c{n} {{ data = heldout + questions, tokens = {read}, ladder = {last} }}
"""
RULE = """\
search r{n} of rule{n} {{ minimize params }}
eval e_r{n} of r{n} {{ data = heldout + questions, tokens = {read}, ladder = false }}
"""
ROUNDED = """\
  attention = parent(dtype: iq4_nl)
  ffn = parent(dtype: iq4_nl)
  head = parent(dtype: iq4_nl)
  layers[{layers}] = noop"""


def pzl(*words: str) -> str:
    """Run a command; return what it prints on stdout. A child that misses its speed is no reason to stop."""
    command = [str(Path(sys.executable).with_name("pzl")), *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.returncode)
    return done.stdout


def fastest(program: Path, build: Path) -> float:
    """Return the predicted speed-up of the fastest child with at most three dropped FFNs."""
    body = "search top of small { maximize chat.throughput, require count(l.ffn is noop for l in layers) <= 3 }\n"
    top = program.with_name("top.pzl")
    top.write_text(program.read_text("utf-8") + body, "utf-8")
    for stage in ("measure", "bld", "score", "solve"):
        pzl(stage, str(top), "-o", str(build))
    return speed_up(build / "solutions" / "top.json")


def speed_up(solution: Path) -> float:
    """Return the predicted speed-up of a search's child."""
    answer = json.loads(solution.read_text("utf-8"))
    own, parents = answer["solutions"][0]["metrics"], answer["parent_metrics"]
    return float(own["chat.throughput"] / parents["chat.throughput"])


TEXTS = ("heldout", "questions")
ALIKE = 0.03
"""Files within this share in speed count as one, for which the best KL stands."""


Speed = dict[str, float]


@dataclass(frozen=True)
class Row:
    """A model: its speed-up, as predicted and as measured (with its standard error), KL divergences on TEXTS with theirs."""

    name: str
    predicted: float | None
    measured: float
    noise: float
    kl: tuple[float, ...]
    errors: tuple[float, ...]

    @classmethod
    def of(cls, model: dict[str, Any], predicted: float | None, own: Speed, parents: Speed) -> Row:
        """From the figures of an evaluation."""
        measured = own["value"] / parents["value"]
        relative = math.hypot(*(speed["stderr"] / speed["value"] for speed in (own, parents)))
        found = [model["texts"][text]["kl"] for text in TEXTS]
        return cls(
            model["model"],
            predicted,
            measured,
            measured * relative,
            tuple(each["value"] for each in found),
            tuple(each["stderr"] or math.nan for each in found),
        )

    def shown(self, ladder: Sequence[Row]) -> str:
        """Return a line of the table."""
        predicted = "" if self.predicted is None else f"{self.predicted:.3f}x"
        error = "" if self.predicted is None else f"{self.predicted / self.measured - 1:+.1%}"
        kl = "  ".join(
            f"{value:.4f} ± {error:.4f}" for value, error in zip(self.kl, self.errors, strict=True)
        )
        shares = "  ".join(self.shares(ladder)) if self.predicted is not None else ""
        return f"{self.name:28} {predicted:>9} {self.measured:8.3f}x ± {self.noise:.3f} {error:>7}  {kl}  {shares}".rstrip()

    def shares(self, ladder: Sequence[Row]) -> list[str]:
        """Return its KL on each text as a share of the least of the files that are as fast; nothing where none is."""
        fast = [file for file in ladder if file.measured >= (1 - ALIKE) * self.measured]
        least = (min(file.kl[number] for file in fast) for number in range(len(TEXTS))) if fast else ()
        return [f"{own / other:.2f}" for own, other in zip(self.kl, least, strict=bool(fast))]


def rows(build: Path, children: int, rules: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """Return the children; the files of the ladder and the children of rules."""
    last = json.loads((build / "evals" / f"e{children - 1}.json").read_text("utf-8"))
    quality = {model["model"]: model for model in last["models"]}
    found = []
    for number in range(children):
        evaluation = json.loads((build / "evals" / f"e{number}.json").read_text("utf-8"))
        figures = {model["model"]: model["figures"] for model in evaluation["models"]}
        name = f"c{number}"
        parent, child = (figures[model]["chat.throughput"] for model in ("parent", name))
        predicted = speed_up(build / "solutions" / f"{name}.json")
        found.append(Row.of(quality[name], predicted, child, parent))
    parent = quality["parent"]["figures"]["chat.throughput"]
    ladder = [
        Row.of(file, None, file["figures"]["chat.throughput"], parent)
        for file in (last.get("ladder") or {"models": []})["models"]
    ]
    for rule in rules:
        ruled = json.loads((build / "evals" / f"e_{rule}.json").read_text("utf-8"))["models"]
        parent, own = (model["figures"]["chat.throughput"] for model in ruled)
        row = Row.of(ruled[1], None, own, parent)
        ladder.append(replace(row, name=f"{rule[1:]} layers dropped, iq4_nl"))
    return found, ladder


def show(build: Path, children: int, rules: Sequence[str]) -> None:
    """Print the table, and the mean and the largest error of the predicted speed-ups."""
    found, ladder = rows(build, children, rules)
    print(
        f"file                         predicted  measured             error  KL of {' and of '.join(TEXTS)}, shares"
    )
    for each in (*found, *ladder):
        print(each.shown(ladder))
    errors = [abs(each.predicted / each.measured - 1) for each in found if each.predicted is not None]
    mean, most = statistics.fmean(errors), max(errors)
    print(f"speed-ups predicted within {mean:.1%} (target: 3%), at most {most:.1%} (6%)")
    pairs = [
        (slower, faster)
        for slower, faster in permutations(found, 2)
        if faster.measured - (1 + ALIKE) * slower.measured > 2 * math.hypot(faster.noise, slower.noise)
    ]
    right = sum((slower.predicted or 0) < (faster.predicted or 0) for slower, faster in pairs)
    print(
        f"{right} of {len(pairs)} pairs of children are ranked rightly that differ by more than {ALIKE:.0%} beyond their errors"
    )


def influences(parent: Path, text: str) -> list[float]:
    """Return how much each layer changes its input: 1 - the mean cosine of input and output (Men et al. 2024)."""
    tokens = AutoTokenizer.from_pretrained(parent)(text, return_tensors="pt").input_ids[:, :2048]
    with torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(parent, dtype=torch.float32)
        states = model.model(tokens, output_hidden_states=True).hidden_states
    return [1 - float(cosine_similarity(*pair, dim=-1).mean()) for pair in pairwise(states)]


def picture(points: Sequence[tuple[str, float, float]], what: str) -> str:
    """Return models as SVG, by speed-up and by `what`; those of the search have no name, a star is an importance matrix."""
    short = [(name.replace(", weighed", "*"), x, y) for name, x, y in points]
    curve = curve_of("ladder", "speed, beside the eight-bit parent", what, [], short, main="", unit="")
    return environment().get_template("points.svg.j2").render(c=curve)


def dropped(options: argparse.Namespace, settings: dict[str, Any]) -> list[str]:
    """Make and measure the children of rules; return their names."""
    parent, data = options.example / "parent", options.example / "data"
    changed = influences(parent, (data / "train.txt").read_text("utf-8")[:20_000])
    order = sorted(range(1, len(changed) - 1), key=changed.__getitem__)
    text, names = HEAD.format(**settings), []
    for n in map(int, filter(None, options.rules.split(","))):
        body = ROUNDED.format(layers=", ".join(map(str, sorted(order[:n]))))
        text += SPACE.format(name=f"rule{n}", pieces=f"pieces{n}", body=body, **settings)
        text += RULE.format(n=n, read=options.tokens)
        names.append(f"r{n}")
    program = options.folder / "rules.pzl"
    program.write_text(text, "utf-8")
    for name in names:
        for stage in ("bld", "solve", "realise", "eval"):
            about = {"bld": name.replace("r", "pieces"), "eval": f"e_{name}"}.get(stage, name)
            pzl(stage, str(program), about, "-o", str(options.folder / "build"))
    return names


def main() -> None:
    """Write the program, run it, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ladder", description=__doc__)
    option = parser.add_argument
    option("--example", type=Path, default=EXAMPLE, metavar="DIR", help="where parent/ and data/ are")
    option("--folder", type=Path, default=Path("build/ladder"), metavar="DIR", help="for program and build")
    option("--engine", choices=ENGINES, default="llama_cpp")
    option("--children", type=int, default=10, metavar="N")
    option("--chats", type=int, default=1, metavar="N")
    option("--seed", type=int, default=0, metavar="N", help="of the text that pieces are fitted to")
    option("--fitting", default="4Ki", metavar="TOKENS", help="that pieces are fitted to")
    option("--tokens", default="4Ki", metavar="TOKENS", help="of held-out text")
    option("--rules", default="", metavar="N,N", help="layers that rules drop")
    option("--ladder", action=argparse.BooleanOptionalAction, default=True, help="measure files, too")
    options = parser.parse_args()
    settings = {name: getattr(options, name) for name in ("chats", "seed", "fitting")} | {
        "example": options.example.resolve(),
        "engine": ENGINES[options.engine],
    }
    options.folder.mkdir(parents=True, exist_ok=True)
    program, build = options.folder / "ladder.pzl", options.folder / "build"
    head = HEAD.format(**settings) + SPACE.format(
        name="small", pieces="pieces", body=SPACES[options.engine], **settings
    )
    program.write_text(head + SCORED, "utf-8")
    top = fastest(program, build)
    slowest = min(SLOWEST, 1 + (top - 1) / 3)
    steps = [slowest + (top - slowest) * n / (options.children - 1) for n in range(options.children)]
    text = head + SCORED
    for n, step in enumerate(
        steps
    ):  # an evaluation reads the text with all children: the last is for quality
        last = n == options.children - 1
        beside = str(last and options.ladder and options.engine == "llama_cpp").lower()
        goal = f"minimize kl, require chat.throughput >= {step:.4f}x"
        text += CHILD.format(n=n, goal=goal, read=options.tokens if last else FEW, last=beside)
    program.write_text(text, "utf-8")
    pzl("run", str(program), "-o", str(build))
    names = dropped(options, settings)
    show(build, options.children, names)
    found, ladder = rows(build, options.children, names)
    points = [("" if row in found else row.name, row.measured, row.kl[0]) for row in (*found, *ladder)]
    (options.folder / "ladder.svg").write_text(picture(points, "KL divergence from the parent"), "utf-8")


if __name__ == "__main__":
    main()
