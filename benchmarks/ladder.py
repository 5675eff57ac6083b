"""Children at several speeds beside the files of llama.cpp's own quantiser: `python -m benchmarks.ladder`.

One program has a search for each speed, from a tenth beyond its eight-bit parent to the fastest child there is; `pzl run`
measures, makes the pieces, builds the children, and times each in turn with the parent. The table shows what the costs predicted,
what was measured, and the KL divergence on held-out text; the files of the ladder are measured once, beside the last child.
`--chats` are sequences at once. `make llama`, or `PZL_LLAMA_LIBRARY`, chooses another build of llama.cpp. Needs what
`examples/smollm2/prepare.py` makes. An interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parents[1] / "examples" / "smollm2"
SLOWEST = 1.1
HEAD = """\
use "std/parents.pzl" (smollm2_135m)
parent smollm = hf("{example}/parent", shape: smollm2_135m)
space small of smollm {{
  attention = parent(dtype: full | iq4_nl)
  ffn = parent(dtype: full | iq4_nl) | noop
  head = parent(dtype: full | iq4_nl)
}}
hardware laptop = measured(engine: llama_cpp, dtype: q8_0, threads: 1)
scenario chat on laptop = batch({chats}, 64 -> 128)
data corpus  = text("{example}/data/train.txt")
data varied  = text("{example}/data/varied.txt", part: 0%..97%)
data mixed   = mix(corpus: 1, varied: 1)
data heldout = text("{example}/data/heldout.txt")
bld pieces of small {{
  train = attention + ffn, tokens = 0, calibration = {fitting}, heal = 0
  context = 512, batch = 4, data = mixed, seed = {seed}
}}
score kl of pieces = replace_one(kl_divergence, samples: 512)
"""
CHILD = """\
search c{n} of small {{ {goal}, solver = cpsat(time: 20s) }}
eval e{n} of c{n} {{ data = heldout, tokens = {tokens}, ladder = {ladder} }}
"""


def pzl(*words: str) -> str:
    """Run a command; return what it prints on stdout."""
    command = [str(Path(sys.executable).with_name("pzl")), *words]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def fastest(program: Path, build: Path) -> float:
    """Return the predicted speed-up of the fastest child with at most three dropped FFNs."""
    body = "search top of small { maximize chat.throughput, require count(l.ffn is noop for l in layers) <= 3 }\n"
    top = program.with_name("top.pzl")
    top.write_text(program.read_text("utf-8") + body, "utf-8")
    pzl("measure", str(top), "-o", str(build))
    pzl("bld", str(top), "-o", str(build))
    pzl("score", str(top), "-o", str(build))
    found = json.loads(pzl("solve", str(top), "top", "-o", str(build), "--json"))
    (answer,) = found if isinstance(found, list) else [found]
    return speed_up(answer)


def speed_up(answer: dict[str, Any]) -> float:
    """The predicted speed-up of an answer's child."""
    found = answer["solutions"][0]["metrics"]["chat.throughput"] / answer["parent_metrics"]["chat.throughput"]
    return float(found)


def row(build: Path, number: int) -> dict[str, Any]:
    """A child's speed-up, predicted and measured, and its KL divergence."""
    answer = json.loads((build / "solutions" / f"c{number}.json").read_text("utf-8"))
    evaluation = json.loads((build / "evals" / f"e{number}.json").read_text("utf-8"))
    parent, child = (model["figures"] for model in evaluation["models"][:2])
    speed = child["chat.throughput"]["value"] / parent["chat.throughput"]["value"]
    return {
        "name": f"child {number}",
        "predicted": speed_up(answer),
        "measured": speed,
        "kl": child["kl"]["value"],
        "stderr": child["kl"]["stderr"],
        "parent": parent["chat.throughput"]["value"],
        "ladder": evaluation.get("ladder"),
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table, and the mean and the largest error of the predicted speed-ups."""
    print("file                          predicted  measured  error    KL")
    for each in rows:
        error = each["predicted"] / each["measured"] - 1
        speeds = f"{each['predicted']:8.3f}x {each['measured']:8.3f}x {error:+7.1%}"
        print(f"{each['name']:28}  {speeds}  {each['kl']:.4f} ± {each['stderr']:.4f}")
    for model in (rows[-1]["ladder"] or {"models": []})["models"]:
        figures = model["figures"]
        speed = figures["chat.throughput"]["value"] / rows[-1]["parent"]
        kl = figures["kl"]
        print(f"{model['model']:28}  {'':9} {speed:8.3f}x {'':7}  {kl['value']:.4f} ± {kl['stderr']:.4f}")
    errors = [abs(each["predicted"] / each["measured"] - 1) for each in rows]
    print(
        f"speed-ups predicted within {statistics.fmean(errors):.1%} (target: 3%), at most {max(errors):.1%} (6%)"
    )


def main() -> None:
    """Write the program, run it, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ladder", description=__doc__)
    option = parser.add_argument
    option("--example", type=Path, default=EXAMPLE, metavar="DIR", help="where parent/ and data/ are")
    option("--folder", type=Path, default=Path("build/ladder"), metavar="DIR", help="for program and build")
    option("--children", type=int, default=10, metavar="N")
    option("--chats", type=int, default=1, metavar="N")
    option("--seed", type=int, default=0, metavar="N", help="of the text that pieces are fitted to")
    option("--fitting", default="4Ki", metavar="TOKENS", help="that pieces are fitted to")
    option("--tokens", default="4Ki", metavar="TOKENS", help="of held-out text")
    options = parser.parse_args()
    settings = {
        name: getattr(options, name) for name in ("example", "chats", "seed", "fitting", "tokens")
    } | {"example": options.example.resolve()}
    options.folder.mkdir(parents=True, exist_ok=True)
    program, build = options.folder / "ladder.pzl", options.folder / "build"
    program.write_text(HEAD.format(**settings), "utf-8")
    top = fastest(program, build)
    steps = [SLOWEST + (top - SLOWEST) * n / (options.children - 1) for n in range(options.children)]
    goals = [f"minimize kl, require chat.throughput >= {step:.4f}x" for step in steps]
    lines = [
        CHILD.format(n=n, goal=goal, ladder=str(n == len(goals) - 1).lower(), **settings)
        for n, goal in enumerate(goals)
    ]
    program.write_text(HEAD.format(**settings) + "".join(lines), "utf-8")
    pzl("run", str(program), "-o", str(build))
    show([row(build, n) for n in range(options.children)])


if __name__ == "__main__":
    main()
