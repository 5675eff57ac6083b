"""A four-bit child that is distilled beside one that is only rounded, by CPU time: `python -m benchmarks.distilled`.

Every matrix and the head of the example's parent is stored in `iq4_nl`. One child is rounded on few tokens and then uptrained,
which trains the scales of its matrices and all that has no type; others are rounded on more tokens, and healed. The table shows
the CPU seconds of each, and the KL divergence on held-out text. An interrupted run goes on. Needs what
`examples/smollm2/prepare.py` makes.
"""

from __future__ import annotations

import argparse
import json
import resource
from pathlib import Path

from benchmarks.ladder import EXAMPLE, pzl

PROGRAM = """\
use "std/parents.pzl" (smollm2_135m)
parent smollm = hf("{example}/parent", shape: smollm2_135m)
space small of smollm {{
  attention = parent(dtype: iq4_nl)
  ffn = parent(dtype: iq4_nl)
  head = parent(dtype: iq4_nl)
}}
data corpus  = text("{example}/data/train.txt")
data varied  = text("{example}/data/varied.txt", part: 0%..97%)
data mixed   = mix(corpus: 1, varied: 1)
data heldout = text("{example}/data/heldout.txt")
bld pieces of small {{
  train = attention + ffn, tokens = 0, calibration = {fitting}, heal = {healing}
  context = 512, batch = 4, data = mixed
}}
search only of small {{ minimize params }}
"""
UPTRAIN = """\
uptrain more of only {{ tokens = {tokens}, context = 512, batch = 4, data = mixed, loss = 1 * kld{rate} }}
"""
EVAL = "eval quality of {of} {{ data = heldout, tokens = {read} }}\n"


def seconds() -> float:
    """Return the CPU seconds of the commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def made(folder: Path, text: str, stages: list[str], of: str, read: str) -> tuple[float, str]:
    """Run the stages and an evaluation in a folder; return the CPU seconds of the stages, and the KL with its error."""
    folder.mkdir(parents=True, exist_ok=True)
    program, build, spent = folder / "rounded.pzl", folder / "build", folder / "seconds.json"
    program.write_text(text + EVAL.format(of=of, read=read), "utf-8")
    took: dict[str, float] = json.loads(spent.read_text("utf-8")) if spent.is_file() else {}
    for stage in [*stages, "eval"]:
        if stage not in took:
            begun = seconds()
            pzl(stage, str(program), "-o", str(build))
            took[stage] = seconds() - begun
            spent.write_text(json.dumps(took), "utf-8")
    found = json.loads((build / "evals" / "quality.json").read_text("utf-8"))["models"][-1]["figures"]["kl"]
    return sum(took[stage] for stage in stages), f"{found['value']:.4f} ± {found['stderr']:.4f}"


def main() -> None:
    """Make every child that is missing, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distilled", description=__doc__)
    option = parser.add_argument
    option("--example", type=Path, default=EXAMPLE, metavar="DIR", help="where parent/ and data/ are")
    option(
        "--folder", type=Path, default=Path("build/distilled"), metavar="DIR", help="for programs and builds"
    )
    option("--rounded", default="4Ki:0,16Ki:0,16Ki:16Ki,64Ki:0", help="tokens of rounding : of healing, each")
    option("--distilled", default="16Ki,64Ki", help="tokens of uptraining, each")
    option(
        "--rates", default="", metavar="LIST", help="peaks of the rate; as the program has it unless given"
    )
    option("--tokens", default="16Ki", metavar="TOKENS", help="of held-out text")
    options = parser.parse_args()
    example, folder = options.example.resolve(), options.folder
    print("child                                     CPU s     KL", flush=True)
    for each in options.rounded.split(","):
        fitting, healing = each.split(":")
        text = PROGRAM.format(example=example, fitting=fitting, healing=healing)
        name = f"rounded-{fitting}-{healing}"
        used, kl = made(folder / name, text, ["bld", "compile", "solve", "realise"], "only", options.tokens)
        print(f"{name:40} {used:6.0f}  {kl}", flush=True)
    fitting, healing = options.rounded.split(",")[0].split(":")
    for tokens in filter(None, options.distilled.split(",")):
        for rate in options.rates.split(","):
            peak = f", lr = cosine({rate}, warmup: 5%)" if rate else ""
            text = PROGRAM.format(example=example, fitting=fitting, healing=healing)
            text += UPTRAIN.format(tokens=tokens, rate=peak)
            name = f"distilled-{tokens}{'-' if rate else ''}{rate}"
            stages = ["bld", "compile", "solve", "realise", "uptrain"]
            used, kl = made(folder / name, text, stages, "more", options.tokens)
            print(f"{name:40} {used:6.0f}  {kl}", flush=True)


if __name__ == "__main__":
    main()
