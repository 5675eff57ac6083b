"""Table 1: every combination of the three losses of uptraining, from the same child on the same tokens."""

from __future__ import annotations

from typing import Any

from benchmarks.paper.estimate import Estimate, difference, mean, verdict
from benchmarks.paper.judge import Judged
from benchmarks.paper.result import Claim, Result, Table
from benchmarks.paper.study import Study

HEALING, JUDGED_TOKENS = "8Ki", 4096
TASKS = ("arc_easy", "piqa", "sciq")
"""Tasks that the child answers before and after training with the best losses, for Tables 5 and 13."""
WEIGHTS = ("lm_weight", "cosine_weight", "kld_weight")
NONE, BEST = "none", "cosine + KL"
COMBINATIONS = {
    NONE: (0, 0, 0),
    "LM": (1, 0, 0),
    "LM + KL": (1, 0, 1),
    "KL": (0, 0, 1),
    "LM + cosine": (1, 1, 0),
    "cosine": (0, 1, 0),
    "LM + cosine + KL": (1, 1, 1),
    BEST: (0, 1, 1),
}


def exam(study: Study) -> tuple[tuple[str, ...], int]:
    """The tasks and how many questions of each: half of the budget's."""
    return TASKS, study.budget.items // 2


def healed(study: Study, file: str, name: str, *, asked: bool = False, **settings: Any) -> Judged:
    """A child that is healed, then perhaps uptrained. `asked`: it answers the tasks."""
    tasks, items = exam(study) if asked else ((), None)
    healing = study.setting("healing", HEALING)
    return study.child(file, name, tasks, items, tokens=JUDGED_TOKENS, healing=healing, **settings)


def trained(study: Study, losses: str, seeds: int | None = None, **settings: Any) -> list[Judged]:
    """The searched child after training with these losses, of each seed; of no losses the child before.

    `seeds`: how many; the budget's unless given.
    """
    asked = losses in (NONE, BEST) and not settings
    if losses == NONE:
        return [healed(study, TABLE.program, "student", asked=asked, **settings)]
    settings |= zip(WEIGHTS, COMBINATIONS[losses], strict=True)
    return [
        healed(study, TABLE.program, "taught", asked=asked, seed=seed, **settings)
        for seed in range(seeds or study.budget.seeds)
    ]


def kl_gain(first: list[Judged], second: list[Judged]) -> Estimate:
    """KL of the second beyond that of the first, paired by sample and by seed."""
    return difference([child.kl for child in second], [child.kl for child in first])


def kl(children: list[Judged]) -> Estimate:
    """KL to the parent, the mean over seeds."""
    return mean([child.kl for child in children])


def run(study: Study) -> Result:
    """KL and LM loss after training with each combination."""
    found = {losses: trained(study, losses) for losses in COMBINATIONS}
    rows = [_row(losses, children, found[NONE]) for losses, children in found.items()]
    best = [
        Claim(f"cosine + KL leaves less KL than {losses}", kl_gain(found[BEST], found[losses]))
        for losses in COMBINATIONS
        if losses != BEST
    ]
    lm = [
        Claim("LM alone leaves more KL than none", kl_gain(found[NONE], found["LM"])),
        Claim("LM + KL leaves more KL than KL", kl_gain(found["KL"], found["LM + KL"])),
    ]
    text = {losses: mean([child.lm for child in children]).value for losses, children in found.items()}
    even = [claim.gain for claim in best if claim.gain.sign == 0]
    figures = {
        "most": max((abs(end) for gain in even for end in (gain.low, gain.high)), default=0.0),
        "none": kl(found[NONE]).value,
        "best": kl(found[BEST]).value,
        "lm": kl(found["LM"]).value,
        "text_none": text[NONE],
        "text_lm": text["LM"],
        "text_best": text[BEST],
    }
    columns = ("losses", "KL to the parent", "less than with none", "LM loss")
    return Result(columns, rows, [*best, *lm], f"{_of_best(best)} {_of_lm(lm)}", figures)


def _row(losses: str, children: list[Judged], before: list[Judged]) -> tuple[str | Estimate, ...]:
    return losses, kl(children), kl_gain(children, before), mean([child.lm for child in children])


def _of_best(claims: list[Claim]) -> str:
    """A sentence on the combination that the paper found best."""
    others: dict[str, list[str]] = {"agree": [], "disagree": [], "cannot tell": []}
    for claim in claims:
        others[verdict(claim.gain)].append(claim.statement.split("less KL than ")[1])
    first = "Cosine + KL brings {none} nats to {best}"
    if better := others["disagree"]:
        return f"{first}; less KL is left by {_listed(better)} here."
    if even := others["cannot tell"]:
        return (
            f"{first}; no combination is better, but {_listed(even)} cannot be told from it: "
            "the difference is {most} nats at most."
        )
    return f"{first} and is better than every other combination, as in the paper."


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _of_lm(claims: list[Claim]) -> str:
    """Sentences on the LM loss alone and beside KL."""
    alone, beside = (claim.gain.sign for claim in claims)
    text = "LM loss of the text: {text_none} before, {text_lm} after; cosine + KL: {text_best}"
    first = {
        1: f"LM alone leads away from the parent ({{lm}}), as in the paper ({text}).",
        0: f"LM alone ({{lm}}) leads neither nearer nor away, as far as can be told ({text}).",
        -1: f"LM alone leads nearer, too ({{lm}}), unlike in the paper ({text}).",
    }[alone]
    second = {
        1: "Beside KL the LM loss does harm, as in the paper.",
        0: "Beside KL the LM loss changes nothing that could be told from 0.",
        -1: "Beside KL the LM loss helps, unlike in the paper.",
    }[beside]
    return f"{first} {second}"


TABLE = Table(
    "table01",
    "Table 1",
    "Which losses should uptraining minimise?",
    "average of MMLU and MT-Bench (validation KL): none 82.55 (.19), LM 77.83 (.31, rising), LM + KL 83.88 (.14), "
    "KL 83.07 (.10), LM + cosine 78.52 (.30, rising), cosine 83.40 (.16), all three 83.03 (.14), cosine + KL **84.16** (.11).",
    run,
    decimals=4,
)
