"""Children of two searches at several required speed-ups, judged on the same samples: a finding does not rest on one child."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.paper.estimate import Estimate, difference, mean
from benchmarks.paper.judge import Judged
from benchmarks.paper.result import Claim, Result
from benchmarks.paper.study import Study, recipe

SPEEDUPS = ("1.1x", "1.2x", "1.35x", "1.5x")
METRIC = "chat.throughput"
EXACT = "table11.pzl"
"""The program with the search `exact`, which several tables compare with."""

Children = Mapping[str, Judged]
"""By the speed-up that they were searched for."""
Searches = Mapping[str, tuple[str, str]]
"""By a name for readers: the program and the search in it."""


def judged_tokens(study: Study) -> int:
    """Tokens of text that each child is judged on: half of the budget's, since there are many children."""
    return study.budget.heldout // 2


def children(
    study: Study, searches: Searches, speedups: Sequence[str] = SPEEDUPS, **options: Any
) -> dict[str, Children]:
    """The children of each search, judged on half of the budget's tokens; `options` as `Study.child` takes them.

    A program's searches are realised together, so that each speed-up is finished before the next.
    """
    options = {"tokens": judged_tokens(study), **options}
    found: dict[str, dict[str, Judged]] = {name: {} for name in searches}
    for speedup in speedups:
        for name, search in searches.items():
            found[name][speedup] = study.child(*search, speedup=speedup, **options)
    return dict(found)


def predicted(study: Study, file: str, name: str, **settings: object) -> dict[str, float]:
    """The figures of a search's child before it is made: sums of its scores, metrics, and `speedup` over the parent."""

    def found() -> dict[str, float]:
        answer = study.solved(file, name, **settings)
        figures = {key: float(value) for key, value in answer.metrics.items()}
        return {**figures, "speedup": figures[METRIC] / float(answer.parent_metrics[METRIC])}

    key = recipe(study.program(file, **settings).ir, name)
    return dict(study.kept(("predicted", key), found))


@dataclass(frozen=True)
class Gains:
    """Losses of one search's children beyond those of another's, nats: at each speed-up, and over all.

    `pooled` is the mean over these speed-ups, sample by sample.
    """

    each: Mapping[str, Estimate]
    pooled: Estimate

    @classmethod
    def of(cls, worse: Children, better: Children, loss: str = "kl") -> Gains:
        """`loss`: the attribute of the judgements, "kl" or "lm"."""
        above, below = ({s: getattr(child, loss) for s, child in side.items()} for side in (worse, better))
        each = {s: difference([above[s]], [below[s]]) for s in above}
        return cls(each, over_all(list(above.values()), list(below.values())))

    def claims(self, statement: str) -> list[Claim]:
        """The finding over all speed-ups, then at each."""
        found = [Claim(f"{statement}, over all speed-ups", self.pooled)]
        return found + [Claim(f"{statement} at {speedup}", gain) for speedup, gain in self.each.items()]

    def counted(self) -> tuple[int, int]:
        """At how many speed-ups the first loses more, and at how many less, each with 95 % confidence."""
        signs = [gain.sign for gain in self.each.values()]
        return signs.count(1), signs.count(-1)


def over_all(above_KN: Sequence[Sequence[float]], below_KN: Sequence[Sequence[float]]) -> Estimate:
    """The mean over K speed-ups of `above - below`. They were chosen, not drawn: only the N samples are due to chance."""
    return mean((np.asarray(above_KN) - np.asarray(below_KN)).mean(0, keepdims=True).tolist())


def losses(found: Children, loss: str = "kl") -> list[Estimate]:
    """The mean loss at each speed-up."""
    return [mean([getattr(child, loss)]) for child in found.values()]


def told(gain: Estimate, if_more: str, if_less: str, if_neither: str) -> str:
    """The sentence that fits an interval: above 0, below 0, or around it."""
    return if_more if gain.sign > 0 else if_less if gain.sign < 0 else if_neither


def against_exact(study: Study, file: str, rival: str, statement: str, title: str) -> Result:
    """A table of the exact search's children beside a rival's: what both reach and lose, and who loses more.

    `statement`: the paper's finding, without the speed-up. `title`: the rival's in the columns and the reading.
    """
    other, exact = children(study, {rival: (file, rival), "exact": (EXACT, "exact")}).values()
    gains = Gains.of(other, exact)
    lost = losses(other), losses(exact)
    speeds = [
        [predicted(study, program, name, speedup=each)["speedup"] for each in SPEEDUPS]
        for program, name in ((file, rival), (EXACT, "exact"))
    ]
    columns = (
        "throughput required",
        f"{title}: throughput",
        "KL",
        "exact: throughput",
        "KL",
        f"{title} - exact",
    )
    rows = [
        (each, speeds[0][i], lost[0][i], speeds[1][i], lost[1][i], gains.each[each])
        for i, each in enumerate(SPEEDUPS)
    ]
    more, less = gains.counted()
    figures = {
        "gain": abs(gains.pooled.value),
        "ratio": sum(loss.value for loss in lost[0]) / sum(loss.value for loss in lost[1]),
        "more": more,
        "less": less,
        "all": len(SPEEDUPS),
    }
    reading = told(
        gains.pooled,
        f"Children of the rule `{title}` lose {{gain}} nats more on average, {{ratio}} times as much as the exact search's",
        f"Children of the rule `{title}` lose {{gain}} nats less on average, {{ratio}} times as much as the exact search's",
        f"Over all speed-ups, children of the rule `{title}` and the exact search's lose the same as far as these texts can tell",
    )
    reading += "; with 95 % confidence, they lose more at {more} of {all} speed-ups and less at {less}."
    return Result(columns, rows, gains.claims(statement), reading, figures)
