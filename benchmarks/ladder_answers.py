"""Questions to children and to the files that are as fast: `python -m benchmarks.ladder_answers --children 2,4,6`.

Comes after `python -m benchmarks.ladder`, on the same folder, whose speeds it takes. Each named child answers every question, as
do the two files next to it in speed, which answer a third of them in `pzl eval`. The table shows the accuracy beyond chance that
child and file keep of the parent's on these, and their difference with its paired 95 % interval (a bootstrap over questions, task
by task, as reports have it). `--tasks` are files of the example's `data/`. `answers.svg` in the folder is the picture. An
interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.ladder import ALIKE, EXAMPLE, picture, rows
from puzzledsl.cli.main import run
from puzzledsl.evaluate.compare import counted
from puzzledsl.evaluate.units import Found
from puzzledsl.serving import ladder as serving

RESAMPLES, SEED = 10_000, 0
Right = Mapping[str, Sequence[float]]
Point = tuple[str, float, float]


def answers(build: Path, model: str) -> dict[str, tuple[float, ...]]:
    """Return 1 or 0 by question of what counts in each task, of the most questions it was asked; `chance:TASK` beside it."""
    found: dict[str, tuple[float, ...]] = {}
    for path in (build / "evals").rglob(f"{model}-*.json"):
        unit = Found.of_sealed(path) or Found()
        for task, figure in counted(unit.right).items():
            if len(unit.right[figure]) >= len(found.get(task, ())):
                found[task], found[f"chance:{task}"] = unit.right[figure], unit.chances[figure]
    return found


def kept(
    tasks: Sequence[str], child: Right, file: Right, parent: Right
) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the questions that all have answered, what child and file keep, [2], and draws of both, [RESAMPLES, 2]."""
    dice = np.random.default_rng(SEED)
    count, means, draws = 0, np.zeros(3), np.zeros((RESAMPLES, 3))
    for task in tasks:
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
    option("--tasks", default="arc_easy,sciq", metavar="NAME,NAME", help="whose questions are asked")
    option("--questions", type=int, metavar="N", help="the most of a task; all unless given")
    options = parser.parse_args()
    program, build = options.folder / "answers.pzl", options.folder / "build"
    asked, tasks = [int(each) for each in options.children.split(",")], options.tasks.split(",")
    listed = ", ".join(f'"{(options.example / "data" / task).resolve()}.jsonl"' for task in tasks)
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
    points = dict.fromkeys(each for n in asked for each in show(build, n, tasks))
    (options.folder / "answers.svg").write_text(picture([*points], "accuracy kept beyond chance"), "utf-8")


def show(build: Path, number: int, tasks: Sequence[str]) -> Iterator[Point]:
    """Print a line for each file that was asked beside a child; yield points of the picture."""
    found = json.loads((build / "evals" / f"q{number}.json").read_text("utf-8"))
    children, files = rows(build, len([*(build / "evals").glob("e[0-9].json")]), ())
    speeds = {row.name: row.measured for row in (*children, *files)}
    own = f"c{number}"
    parent, child = (answers(build, name) for name in ("parent", own))
    for name in (each["model"] for each in found["ladder"]["comparisons"] if each["kept"]):
        other = answers(build, name)
        if all(task in other for task in tasks):
            count, (ours, theirs), draws = kept(tasks, child, other, parent)
            low, high = np.quantile(draws[:, 0] - draws[:, 1], (0.025, 0.975))
            mark = "" if speeds[name] >= (1 - ALIKE) * speeds[own] else "  (slower)"
            print(
                f"{own:<5} {speeds[own]:5.3f}x  {name:28} {speeds[name]:5.3f}x  {count:9,}  {ours:11.1%}"
                f"  {theirs:10.1%}  {ours - theirs:+.1%} ({low:+.1%} … {high:+.1%}){mark}"
            )
            yield from (("", speeds[own], ours), (name, speeds[name], theirs))


if __name__ == "__main__":
    main()
