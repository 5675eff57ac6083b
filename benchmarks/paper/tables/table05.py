"""Table 5: the searched child against smaller models that are as fast, healed and uptrained alike."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.paper.estimate import difference, exact, mean
from benchmarks.paper.judge import Judged
from benchmarks.paper.result import Cell, Claim, Result, Table
from benchmarks.paper.study import Study
from benchmarks.paper.tables.table01 import BEST, JUDGED_TOKENS, exam, healed, kl, kl_gain, trained

SEARCHED, RIVALS = "student", ("alike", "shallow")
NAMES = {SEARCHED: "searched", "alike": "uniform", "shallow": "depth-pruned"}
"""By the name of the search that makes the child."""


def taught(study: Study) -> dict[str, list[Judged]]:
    """The children after uptraining, of each seed. Seeds come first: a run makes all children of one seed."""
    rivals: dict[str, list[Judged]] = {name: [] for name in RIVALS}
    for seed in range(study.budget.rival_seeds):
        for name, children in rivals.items():
            children.append(healed(study, TABLE.program, f"{name}_taught", asked=True, seed=seed))
    return {SEARCHED: trained(study, BEST, study.budget.rival_seeds), **rivals}


def belief(children: Sequence[Judged]) -> list[list[float]]:
    """The probability of the right choice, in percent, of each item of all tasks."""
    return [
        [100 * each for task in sorted(child.belief) for each in child.belief[task]] for child in children
    ]


def excess(children: Sequence[Judged]) -> list[list[float]]:
    """Right answers above chance, in percentage points, item by item over all tasks."""
    return [[100 * each for each in child.excess()] for child in children]


def run(study: Study) -> Result:
    """KL to the parent and answers of the three children, each at the required throughput or above."""
    found, parent = taught(study), study.parent(*exam(study), tokens=JUDGED_TOKENS)
    rows = [_row(NAMES[name], _speed(study, name), children) for name, children in found.items()]
    rows.append(_row("parent", 1.0, [parent]))
    claims = [
        *(
            Claim(
                f"the searched child has less KL than the {NAMES[name]} one",
                kl_gain(found[SEARCHED], found[name]),
            )
            for name in RIVALS
        ),
        *(
            Claim(
                f"the searched child finds right answers likelier than the {NAMES[name]} one",
                difference(belief(found[SEARCHED]), belief(found[name])),
                "percentage points",
            )
            for name in RIVALS
        ),
    ]
    figures = {name: kl(children).value for name, children in found.items()}
    columns = (
        "child",
        "throughput",
        "M parameters",
        "KL to the parent",
        "accuracy above chance, %",
        "p(right), %",
    )
    return Result(columns, rows, claims, _reading(claims), figures)


def _speed(study: Study, name: str) -> float:
    """Throughput as a multiple of the parent's, as the search has it."""
    answer = study.solved("table01.pzl" if name == SEARCHED else TABLE.program, name)
    return float(answer.metrics["chat.throughput"] / answer.parent_metrics["chat.throughput"])


def _row(name: str, speed: float, children: list[Judged]) -> tuple[Cell, ...]:
    size, answered = exact(children[0].params / 1e6), mean(excess(children))
    return name, exact(speed), size, kl(children), answered, mean(belief(children))


def _reading(claims: list[Claim]) -> str:
    """A sentence on KL, and one on answers."""
    nearer, likelier = ([claim.gain.sign for claim in part] for part in (claims[:2], claims[2:]))
    if min(nearer) > 0:
        first = (
            "At the same requirement and after the same uptraining the searched child is the nearest to its parent, as in the "
            "paper: {student} nats, the uniform one {alike}, the depth-pruned one {shallow}."
        )
    else:
        words = {1: "more", 0: "not to be told from it", -1: "less"}
        alike, shallow = (words[sign] for sign in nearer)
        first = (
            f"The searched child ends {{student}} nats from its parent, the uniform one {{alike}} ({alike}), the depth-pruned "
            f"one {{shallow}} ({shallow})."
        )
    words = {1: "likelier than", 0: "as likely, as far as can be told, as", -1: "less likely than"}
    alike, shallow = (words[sign] for sign in likelier)
    return f"{first} It finds right answers {alike} the uniform one, and {shallow} the depth-pruned one."


TABLE = Table(
    "table05",
    "Table 5",
    "Is the searched child better than a smaller model that is as fast?",
    "tokens/s and accuracy: child of Llama-3.1-8B 5,856 and 73.98; Llama-3.2-3B 5,737 and 70.36; parent 3,385 and 76.40.",
    run,
)
