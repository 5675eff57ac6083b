"""Table 8: the loss of a child by how long its pieces were trained, from fitted weights and from the paper's own start."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from benchmarks.paper.estimate import Estimate, difference, mean, verdict
from benchmarks.paper.judge import Judged
from benchmarks.paper.result import Claim, Result, Table
from benchmarks.paper.study import Study

STARTS = {"copied": "the paper's start", "fitted": "least squares"}
SHARES = {"0%": "untrained", "25%": "1/4", "50%": "1/2", "100%": "all"}
TOKENS = 2048
"""Tokens that the 24 children are judged on: differences of pieces show on few."""


def run(study: Study) -> Result:
    """The loss by start and share of the tokens; the same child each time."""
    made: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    for seed in study.seeds:
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
    order = list(SHARES)
    for start, words in STARTS.items():
        for less, more in pairwise(order):
            claims.append(
                Claim(
                    f"from {words}, pieces trained on {_amount(more)} lose less than on {_amount(less)}",
                    gain((start, less), (start, more)),
                )
            )
    first, last = order[0], order[-1]
    trained = {start: gain((start, first), (start, last)) for start in STARTS}
    beside = gain(("copied", last), ("fitted", first))
    figures = {f"{start}_gain": estimate.value for start, estimate in trained.items()}
    figures |= {
        f"{start}_{when}": mean([c.kl for c in made[start, share]]).value
        for start in STARTS
        for when, share in (("none", first), ("all", last))
    }
    return Result(
        ("tokens", *(f"{words}: KL" for words in STARTS.values()), "difference"),
        rows,
        claims,
        " ".join((_said("copied", trained["copied"]), _said("fitted", trained["fitted"]), _compared(beside))),
        figures,
    )


def _amount(share: str) -> str:
    return {"0%": "none", "100%": "all tokens"}.get(share, f"{SHARES[share]} of them")


def _said(start: str, gain: Estimate) -> str:
    moved = {
        "agree": "training helps",
        "disagree": "training harms",
        "cannot tell": "training changes nothing that shows",
    }[verdict(gain)]
    return f"From {STARTS[start]} {moved}: KL {{{start}_none}} without, {{{start}_all}} with all tokens."


def _compared(gain: Estimate) -> str:
    how = {
        "agree": "Untrained, fitted pieces are better than the paper's trained on all tokens",
        "disagree": "The paper's, trained on all tokens, are better than fitted ones untrained",
        "cannot tell": "Fitted pieces untrained and the paper's trained on all tokens are as good, as far as we can tell",
    }[verdict(gain)]
    return how + ": a least-squares fit to a few thousand tokens does what training would have to do."


TABLE = Table(
    "table08",
    "Table 8",
    "Do pieces that are trained longer make a better child?",
    "MT-Bench, MMLU by tokens of distillation: 1B 8.98, 78.54; 0.5B 8.86, 78.44; 0.25B 8.51, 78.27.",
    run,
)
