"""Table 2: the accuracy that a child keeps of eight tasks, plain and beyond chance."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.paper.estimate import Estimate, exact, mean, ratio, verdict
from benchmarks.paper.judge import Judged
from benchmarks.paper.result import Cell, Claim, Result, Table
from benchmarks.paper.study import Study

HEALING, NEAR = "8Ki", "1.15x"
ITEMS, TOKENS = 200, 2048
"""Questions of each task and tokens of the held-out text at most: 200 questions of the eight take two minutes a model."""
TASKS = {
    "hellaswag": "HellaSwag",
    "arc_easy": "ARC-Easy",
    "arc_challenge": "ARC-Challenge",
    "piqa": "PIQA",
    "winogrande": "WinoGrande",
    "sciq": "SciQ",
    "mmlu": "MMLU",
    "boolq": "BoolQ",
}
PAPERS = 0.98
"""Share that the paper's child keeps of each multiple-choice task, rounded: the least is 97.9 %, of TruthfulQA."""
AT_CHANCE = "parent at chance"
Rows = list[list[float]]


def excess(model: Judged, task: str) -> list[float]:
    """Right answers above chance, item by item."""
    return [right - chance for right, chance in zip(model.answers[task], model.chances[task], strict=True)]


def above_chance(parent: Judged) -> list[str]:
    """The tasks in which the parent's interval excludes chance; none unless that of all these together does."""
    found = [task for task in TASKS if mean([excess(parent, task)]).low > 0]
    return found if found and mean(pooled([parent], found)[1]).low > 0 else []


def pooled(models: Sequence[Judged], tasks: Sequence[str]) -> tuple[Rows, Rows]:
    """Right answers, and those above chance, of all tasks together; each has as many items."""
    answers = [[right for task in tasks for right in model.answers[task]] for model in models]
    return answers, [[value for task in tasks for value in excess(model, task)] for model in models]


def run(study: Study) -> Result:
    """Answers of the parent and of a child of every seed to the same items."""
    healing = study.setting("healing", HEALING)
    items = min(study.budget.items, ITEMS)
    parent = study.parent([*TASKS], items, tokens=TOKENS)
    children = [
        study.child(TABLE.program, "schooled", [*TASKS], items, tokens=TOKENS, seed=seed, healing=healing)
        for seed in study.seeds
    ]
    near = study.child(TABLE.program, "quick", [*TASKS], items, tokens=TOKENS, speedup=NEAR, healing=healing)
    known = above_chance(parent)
    rows: list[Sequence[Cell]] = []
    for task, title in TASKS.items():
        chance = sum(parent.chances[task]) / len(parent.chances[task])
        rows.append((title, exact(chance), *_cells(parent, children, [task], known)))
    rows.append(("all eight", _chance(parent, [*TASKS]), *_cells(parent, children, [*TASKS], known)))
    if known:
        chance_known = _chance(parent, known)
        rows.append((f"the {len(known)} above chance", chance_known, *_cells(parent, children, known, known)))
        rows.append((f"these, child of {NEAR}", chance_known, *_cells(parent, [near], known, known)))
    claims, figures = _claims(parent, children, near, known)
    columns = ("task", "chance", "parent", "child", "kept", "kept beyond chance")
    return Result(columns, rows, claims, _reading(known, claims), figures)


def _chance(parent: Judged, tasks: Sequence[str]) -> Estimate:
    chances = [chance for task in tasks for chance in parent.chances[task]]
    return exact(sum(chances) / len(chances))


def _cells(
    parent: Judged, children: Sequence[Judged], tasks: Sequence[str], known: Sequence[str]
) -> tuple[Cell, ...]:
    """Both accuracies, and what is kept of them; beyond chance only where the parent is above it in every task."""
    (right, beyond), (of_parent, parents_beyond) = pooled(children, tasks), pooled([parent], tasks)
    plain: Cell = ratio(right, of_parent) if mean(of_parent).low > 0 else AT_CHANCE
    corrected: Cell = AT_CHANCE if len(tasks) == 1 else ""
    if set(tasks) <= set(known):
        corrected = ratio(beyond, parents_beyond)
    return mean(of_parent), mean(right), plain, corrected


def _claims(
    parent: Judged, children: Sequence[Judged], near: Judged, known: Sequence[str]
) -> tuple[list[Claim], dict[str, float]]:
    """The paper's claim, plain and beyond chance, and the figures of the reading."""
    answers, of_parent = pooled(children, [*TASKS])[0], pooled([parent], [*TASKS])[0]
    plain = ratio(answers, of_parent)
    claims = [Claim(f"the child keeps {PAPERS:.0%} of its parent's accuracy", _less(plain, PAPERS), "of it")]
    figures = {
        "plain": plain.value,
        "guessing": _chance(parent, [*TASKS]).value / mean(of_parent).value,
    }
    if known:
        parents_beyond = pooled([parent], known)[1]
        corrected = ratio(pooled(children, known)[1], parents_beyond)
        claims.append(Claim(f"and {PAPERS:.0%} of what exceeds chance", _less(corrected, PAPERS), "of it"))
        figures["corrected"] = corrected.value
        figures["near"] = ratio(pooled([near], known)[1], parents_beyond).value
        figures["children_kl"], figures["near_kl"] = (
            mean([c.kl for c in children]).value,
            mean([near.kl]).value,
        )
    return claims, figures


def _less(estimate: Estimate, by: float) -> Estimate:
    return Estimate(estimate.value - by, estimate.low - by, estimate.high - by)


def _reading(known: Sequence[str], claims: Sequence[Claim]) -> str:
    """Sentences that follow the verdicts."""
    at_chance = [title for task, title in TASKS.items() if task not in known]
    as_in_paper = {"agree": ", as in the paper", "disagree": ", less than in the paper", "cannot tell": ""}
    text = f"The child keeps {{plain}} of its parent's right answers{as_in_paper[verdict(claims[0].gain)]}; "
    text += "guessing alone would keep {guessing}."
    if known:
        text += f" Beyond chance it keeps {{corrected}}{as_in_paper[verdict(claims[1].gain)]}, "
        text += "in the tasks in which a parent of this size is above chance. "
        text += f"One of {NEAR}, only healed, keeps {{near}} (KL {{near_kl}}, not {{children_kl}})."
    if at_chance:
        words = " and ".join(filter(None, (", ".join(at_chance[:-1]), at_chance[-1])))
        text += f" In {words} the parent cannot be told from chance: nothing can be kept there."
    return text


TABLE = Table(
    "table02",
    "Table 2",
    "How much accuracy is kept, over many tasks?",
    "parent → child (% kept): HellaSwag 86.44 → 85.58 (99.01), ARC-Challenge 70.39 → 69.20 (98.30), "
    "WinoGrande 85.08 → 84.53 (99.35), MMLU 81.66 → 80.20 (98.21), TruthfulQA 59.86 → 58.63 (97.94), "
    "GSM8K 92.04 → 91.43 (99.34); after 45B tokens.",
    run,
)
