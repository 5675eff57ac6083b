"""Table 4: what a child keeps of long-context tasks, by length, up to the context that it was uptrained at."""

from __future__ import annotations

from benchmarks.paper.estimate import Estimate, apart, difference, mean, verdict
from benchmarks.paper.long_judge import CHANCE, Judge, answers_of, judge_of
from benchmarks.paper.long_tasks import TASKS
from benchmarks.paper.result import Claim, Result, Table
from benchmarks.paper.study import Study

TRAINED = 1024
"""Tokens of a sequence of uptraining."""
PAPER_KEEPS = 0.962
"""The least that the paper's child keeps, at its longest length."""
CHILDREN = {"searched": "kept", "uniform": "plain_kept"}
"""Uptrainings of the program by what their children are called."""


def run(study: Study) -> Result:
    """The answers of the parent, of the child, and of a uniform child of the same speed, at each length."""
    judge, healing = judge_of(study), study.setting("healing", "8Ki")
    found = {
        title: answers_of(study, judge, TABLE.program, name, context=TRAINED, healing=healing)
        for title, name in CHILDREN.items()
    }
    lengths = [length for length in judge.lengths if length <= TRAINED]
    short, long = lengths[0], lengths[-1]
    rows, claims, figures = [], [], {"paper": PAPER_KEEPS}
    for length in lengths:
        right = {title: judge.right(answers[length], length) for title, answers in found.items()}
        before = judge.right(judge.parent[length], length)
        kept = {title: judge.kept(answers[length], length) for title, answers in found.items()}
        cells = [mean([before]), *(mean([row]) for row in right.values()), *kept.values()]
        rows.append((f"{length:,}", ", ".join(judge.tasks(length)) or "none", *cells))
        gains = [
            own - CHANCE - PAPER_KEEPS * (parent - CHANCE)
            for own, parent in zip(right["searched"], before, strict=True)
        ]
        claims.append(
            Claim(f"the child keeps {PAPER_KEEPS:.1%} at {length:,} tokens", mean([gains]), "of all answers")
        )
        figures |= {f"{title}_{length}": estimate.value for title, estimate in kept.items()}
    falls = apart(judge.kept(found["searched"][short], short), judge.kept(found["searched"][long], long))
    claims.append(Claim(f"it keeps less at {long:,} tokens than at {short:,}", falls, "of the parent's"))
    pooled = difference(
        *(
            [[value for length in lengths for value in judge.right(found[title][length], length)]]
            for title in CHILDREN
        )
    )
    figures["gain"] = abs(pooled.value)
    layers = study.layers(TABLE.program, "keeper", context=TRAINED, healing=healing)
    attending = sum(layer.attention.startswith(("parent", "gqa")) for layer in layers)
    columns = ("tokens", "tasks", "parent", "child", "uniform child", "child keeps", "uniform child keeps")
    return Result(columns, rows, claims, _reading(judge, pooled, short, long, attending), figures)


def _reading(judge: Judge, gain: Estimate, short: int, long: int, attending: int) -> str:
    beside = {
        "agree": "answers {gain} more of all questions rightly than",
        "disagree": "answers {gain} fewer of all questions rightly than",
        "cannot tell": "answers as many questions rightly, as far as these can tell, as",
    }[verdict(gain)]
    text = (
        f"Of its parent's right answers above chance, the child keeps {{searched_{short}}} in documents of {short:,} tokens and "
        f"{{searched_{long}}} in those of {long:,}; the paper's keeps at least {{paper}}. It {beside} a uniform child of the "
        f"same speed, which keeps attention in every layer; it has attention in {attending}, by scores of short texts."
    )
    missing = [task for task in TASKS if task not in judge.tasks(long)]
    if missing:
        names = " and ".join(missing)
        text += f" At {long:,} tokens the parent is not shown to be above chance in {names}, which do not count there."
    return text


TABLE = Table(
    "table04",
    "Table 4",
    "Does a child keep what its parent can do in a long context?",
    "RULER, average of the parent → the child (% kept): 1K 99.81 → 99.78 (99.9), 2K 97.97 → 97.32 (99.3), "
    "4K 93.38 → 92.12 (98.7), 8K 92.68 → 90.63 (97.8), 16K 91.08 → 87.65 (96.2).",
    run,
    decimals=2,
)
