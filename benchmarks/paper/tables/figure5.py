"""Figure 5: accuracy and KL against throughput, of searched children and of two rules given the same healing and uptraining."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.paper.estimate import Estimate, difference, mean, verdict
from benchmarks.paper.judge import Judged
from benchmarks.paper.result import Cell, Claim, Result, Table
from benchmarks.paper.speedups import over_all, predicted
from benchmarks.paper.study import Study

SPEEDUPS = ("1.1x", "1.39x", "1.9x", "1.6x")
"""As many of them as the budget has points: close below what `uniform_width` reaches, so that it does not overshoot."""
SEARCHES = {"searched": "searched", "uniform": "narrower", "layers dropped": "shorter"}
"""By a name for readers."""
OURS = "searched"
BASELINES = {"uniform": "uniform ones", "layers dropped": "those with layers dropped"}
ANSWERS = "right answers above chance"
SHOWN: dict[str, Callable[[Judged], Sequence[float]]] = {"KL": lambda child: child.kl, ANSWERS: Judged.excess}
TASKS = ("arc_easy", "hellaswag", "piqa", "sciq")
ITEMS = 40
"""Questions of each task."""


def run(study: Study) -> Result:
    """Children at each speed-up: the throughput they reach, their KL, and their right answers above chance."""
    healing = study.setting("healing", "4Ki")
    found: dict[str, list[Judged]] = {title: [] for title in SEARCHES}
    reached: dict[str, list[float]] = {title: [] for title in SEARCHES}
    rows: list[tuple[Cell | float, ...]] = []
    parent = study.parent(TASKS, ITEMS)
    rows.append(("the parent", 1.0, 0.0, mean([parent.excess()])))
    speedups = sorted(SPEEDUPS[: study.budget.points])
    for speedup in speedups:
        for title, search in SEARCHES.items():
            settings = {"speedup": speedup, "healing": healing}
            child = study.child(TABLE.program, f"{search}_taught", TASKS, ITEMS, **settings)
            times = predicted(study, TABLE.program, search, **settings)["speedup"]
            found[title].append(child)
            reached[title].append(times)
            rows.append((f"{title}, {speedup}", times, mean([child.kl]), mean([child.excess()])))
    claims, figures, sentences = [], {}, []
    for title, name in BASELINES.items():
        losses = [[child.kl for child in found[key]] for key in (title, OURS)]
        answers = [[child.excess() for child in found[key]] for key in (OURS, title)]
        lost, right = over_all(*losses), over_all(*answers)
        claims += [
            Claim(f"searched children lose less than {name}, over all speed-ups", lost),
            Claim(f"they answer more rightly than {name}, over all speed-ups", right, "of the questions"),
        ]
        claims += [
            Claim(f"the searched child loses less than {name} at {speedup}", difference([theirs], [ours]))
            for speedup, theirs, ours in zip(speedups, *losses, strict=True)
        ]
        key = SEARCHES[title]
        figures |= {f"{key}_kl": abs(lost.value), f"{key}_right": abs(right.value)}
        sentences.append(_reading(key, name, lost, right))
    series = {
        f"{title}: {name}": [
            (x, mean([getter(child)])) for x, child in zip(reached[title], children, strict=True)
        ]
        for title, children in found.items()
        for name, getter in SHOWN.items()
    }
    series[f"parent: {ANSWERS}"] = [(1.0, mean([parent.excess()]))]
    columns = ("child, required throughput", "throughput", "KL", ANSWERS)
    return Result(columns, rows, claims, " ".join(sentences), figures, series)


def _reading(key: str, name: str, lost: Estimate, right: Estimate) -> str:
    """A sentence about one baseline: KL first, then answers."""
    nats = f"{{{key}_kl}} nats"
    loses = {
        "agree": f"lose {nats} less than {name}",
        "disagree": f"lose {nats} more than {name}",
        "cannot tell": f"lose as much as {name} as far as these texts can tell",
    }
    share = f"{{{key}_right}} of the questions"
    answer = {
        "agree": f"answer {share} more rightly",
        "disagree": f"answer {share} fewer rightly",
        "cannot tell": "answer as many questions rightly as far as these can tell",
    }
    return f"Over all speed-ups, searched children {loses[verdict(lost)]}, and {answer[verdict(right)]}."


TABLE = Table(
    "figure5",
    "Figure 5",
    "Is a searched child on the frontier of accuracy and throughput?",
    "The child is above all public models of its throughput in accuracy, as a picture.",
    run,
)
