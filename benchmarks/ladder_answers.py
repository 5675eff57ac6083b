"""Questions to children and to the files that are as fast: `python -m benchmarks.ladder_answers --children 2,4,6`.

Comes after `python -m benchmarks.ladder`, on the same folder. Each named child answers every question, as do the two files next
to it in speed, which answer a third of them in `pzl eval`. The table shows the accuracy beyond chance that child and file keep of
the parent's on these, and their difference with its paired 95 % interval (a bootstrap over questions, task by task, as reports
have it). `answers.svg` in the folder is the picture. An interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.ladder import ALIKE, EXAMPLE, picture
from puzzledsl.cli.main import run
from puzzledsl.evaluate.compare import counted
from puzzledsl.evaluate.units import Found
from puzzledsl.serving import ladder as serving

TASKS = ("arc_easy", "sciq_bare", "piqa")
RESAMPLES, SEED = 10_000, 0
Right = Mapping[str, Sequence[float]]


def answers(build: Path, model: str) -> dict[str, tuple[float, ...]]:
    """Return 1 or 0 by question of what counts in each task, of the most questions it was asked; `chance:TASK` beside it."""
    found: dict[str, tuple[float, ...]] = {}
    for path in (build / "evals").rglob(f"{model}-*.json"):
        unit = Found.of_sealed(path) or Found()
        for task, figure in counted(unit.right).items():
            if len(unit.right[figure]) >= len(found.get(task, ())):
                found[task], found[f"chance:{task}"] = unit.right[figure], unit.chances[figure]
    return found


def kept(child: Right, file: Right, parent: Right) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the questions that all have answered, what child and file keep, [2], and draws of both, [RESAMPLES, 2]."""
    dice = np.random.default_rng(SEED)
    count, means, draws = 0, np.zeros(3), np.zeros((RESAMPLES, 3))
    for task in TASKS:
        both = min(len(file[task]), len(child[task]))
        excess = np.array([each[task][:both] for each in (child, file, parent)]) - np.array(
            parent[f"chance:{task}"][:both]
        )
        drawn = dice.multinomial(both, np.full(both, 1 / both), RESAMPLES)
        count, means, draws = count + both, means + excess.mean(axis=1), draws + drawn @ excess.T / both
    return count, means[:2] / means[2], draws[:, :2] / draws[:, 2:]


def main() -> None:
    """Ask the questions, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ladder_answers", description=__doc__)
    option = parser.add_argument
    option("--example", type=Path, default=EXAMPLE, metavar="DIR", help="where parent/ and data/ are")
    option("--folder", type=Path, default=Path("build/ladder"), metavar="DIR", help="of benchmarks.ladder")
    option("--children", default="2,4,6", metavar="N,N", help="of its table")
    option("--questions", type=int, metavar="N", help="the most of a task; all unless given")
    options = parser.parse_args()
    program, build = options.folder / "answers.pzl", options.folder / "build"
    asked = [int(each) for each in options.children.split(",")]
    listed = ", ".join(f'"{(options.example / "data" / task).resolve()}.jsonl"' for task in TASKS)
    items = f", items = {options.questions}" if options.questions else ""
    settings = f"= tasks({listed}) {{ data = heldout, tokens = 512, dtype = bf16, ladder = true{items} }}"
    lines = [f"eval q{n} of c{n} {settings}\n" for n in asked]
    program.write_text((options.folder / "ladder.pzl").read_text("utf-8") + "".join(lines), "utf-8")
    serving.ASKED = 1
    for n in asked:
        run(["eval", str(program), f"q{n}", "-o", str(build)])
    print(
        "child  speed    file                          speed  questions  child keeps  file keeps  difference"
    )
    points = [each for n in asked for each in show(build, n)]
    (options.folder / "answers.svg").write_text(picture(points, "accuracy kept beyond chance"), "utf-8")


def show(build: Path, number: int) -> Iterator[tuple[str, float, float]]:
    """Print a line for each file that was asked beside a child; yield points of the picture."""
    found = json.loads((build / "evals" / f"q{number}.json").read_text("utf-8"))
    speeds = {each["model"]: each["figures"].get("chat.throughput") for each in found["models"]}
    own, parents = speeds[f"c{number}"]["value"], speeds["parent"]["value"]
    parent, child = (answers(build, name) for name in ("parent", f"c{number}"))
    for comparison in found["ladder"]["comparisons"]:
        name = comparison["model"]
        (file,) = (each for each in found["ladder"]["models"] if each["model"] == name)
        other = answers(build, name)
        if comparison["kept"] and all(task in other for task in TASKS):
            speed = file["figures"]["chat.throughput"]["value"]
            count, (own_kept, files), draws = kept(child, other, parent)
            low, high = np.quantile(draws[:, 0] - draws[:, 1], (0.025, 0.975))
            mark = "" if speed >= (1 - ALIKE) * own else "  (slower)"
            print(
                f"c{number:<4} {own / parents:5.3f}x  {name:28} {speed / parents:5.3f}x  {count:9,}  {own_kept:11.1%}"
                f"  {files:10.1%}  {own_kept - files:+.1%} ({low:+.1%} … {high:+.1%}){mark}"
            )
            yield from (("", own / parents, own_kept), (name, speed / parents, files))


if __name__ == "__main__":
    main()
