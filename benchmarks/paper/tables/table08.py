"""Table 8: the loss of a child by how long its pieces were trained, from fitted weights and from the paper's own start."""

from __future__ import annotations

from collections import defaultdict

from benchmarks.paper.estimate import Estimate, difference, mean, verdict
from benchmarks.paper.judge import Judged
from benchmarks.paper.result import Claim, Result, Table
from benchmarks.paper.study import Study

STARTS = {"copied": "the paper's start", "fitted": "least squares"}
SHARES = {"0%": "untrained", "25%": "1/4", "50%": "1/2", "100%": "all"}
COMPARED = (("0%", "100%"), ("25%", "50%"), ("50%", "100%"))
TOKENS = 2048
"""Tokens that children are judged on: differences of their pieces show on few."""


def run(study: Study) -> Result:
    """The loss by start and share of the tokens; the same child each time."""
    made: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    for seed in range(study.budget.piece_seeds):
        for share in SHARES:
            for start in STARTS:  # both are made in one run
                made[start, share].append(
                    study.child(TABLE.program, start, tokens=TOKENS, seed=seed, share=share)
                )

    def gain(worse: tuple[str, str], better: tuple[str, str]) -> Estimate:
        return difference(*([child.kl for child in made[key]] for key in (worse, better)))

    rows: list[tuple[str | Estimate, ...]] = []
    claims = []
    for share, label in SHARES.items():
        losses = [mean([child.kl for child in made[start, share]]) for start in STARTS]
        rows.append((label, *losses, gain(("copied", share), ("fitted", share))))
    for start, words in STARTS.items():
        for less, more in COMPARED:
            statement = (
                f"from {words}, pieces trained {_amount(more)} of the tokens lose less than {_amount(less)}"
            )
            claims.append(Claim(statement, gain((start, less), (start, more))))
    none, all_tokens = "0%", "100%"
    trained = {start: gain((start, none), (start, all_tokens)) for start in STARTS}
    figures = {f"{start}_gain": estimate.value for start, estimate in trained.items()}
    for start in STARTS:
        figures[f"{start}_none"] = mean([child.kl for child in made[start, none]]).value
        figures[f"{start}_all"] = mean([child.kl for child in made[start, all_tokens]]).value
    sentences = [_said(start, trained[start]) for start in STARTS]
    reading = " ".join([*sentences, _compared(gain(("copied", all_tokens), ("fitted", none)))])
    columns = ("tokens", *(f"{words}: KL" for words in STARTS.values()), "difference")
    return Result(columns, rows, claims, reading, figures)


def _amount(share: str) -> str:
    return {"0%": "untrained ones", "25%": "on a quarter", "50%": "on half", "100%": "on all"}[share]


def _said(start: str, gain: Estimate) -> str:
    moved = {
        "agree": "training helps",
        "disagree": "training harms",
        "cannot tell": "training changes nothing that shows",
    }[verdict(gain)]
    return f"From {STARTS[start]} {moved}: KL {{{start}_none}} without, {{{start}_all}} with all tokens."


def _compared(gain: Estimate) -> str:
    return {
        "agree": "Fitted pieces that nobody trained are better than the paper's after all the training: a least-squares fit to"
        " as many tokens is worth more than so few steps.",
        "disagree": "The paper's pieces after all the training are better than fitted ones that nobody trained.",
        "cannot tell": "Fitted pieces that nobody trained and the paper's after all the training are as good, within the error.",
    }[verdict(gain)]


TABLE = Table(
    "table08",
    "Table 8",
    "Do pieces that are trained longer make a better child?",
    "MT-Bench, MMLU by tokens of distillation: 1B 8.98, 78.54; 0.5B 8.86, 78.44; 0.25B 8.51, 78.27.",
    run,
)
