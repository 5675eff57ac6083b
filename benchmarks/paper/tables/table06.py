"""Table 6: pieces trained in pairs, in the part of the space that pieces trained apart have found, against the latter alone."""

from __future__ import annotations

from benchmarks.paper.estimate import difference, mean, verdict
from benchmarks.paper.result import Claim, Result, Table
from benchmarks.paper.study import Study
from puzzledsl.plan.bld import bld_plan

CHILDREN = {"decoupled": "decoupled alone", "coupled": "decoupled, then coupled"}
BLDS = {"decoupled": "parts", "coupled": "pairs"}


def run(study: Study) -> Result:
    """The losses of both children, at the same throughput and after the same tokens a piece."""
    lost: dict[str, list[tuple[float, ...]]] = {name: [] for name in CHILDREN}
    for seed in study.seeds:
        for name in CHILDREN:  # both are made in one run
            lost[name].append(study.child(TABLE.program, name, seed=seed).kl)
    gain = difference(lost["decoupled"], lost["coupled"])
    jobs = {name: _pieces(study, bld) for name, bld in BLDS.items()}
    rows = [(label, str(jobs[name]), mean(lost[name])) for name, label in CHILDREN.items()]
    reading = {
        "agree": "The second stage pays: its children lose {less} nats less",
        "disagree": "The second stage does not pay: its children lose {more} nats more",
        "cannot tell": "The second stage changes nothing that shows: its children lose {less} nats less, within the error",
    }[verdict(gain)]
    reading += (
        ", {share} % of {alone}. Tokens a piece are the same, costs are not: {pairs} pairs of pieces are trained in the place of"
        " {parts} single ones, in the part of the space that the ten best children use."
    )
    alone = mean(lost["decoupled"]).value
    figures = {
        "less": gain.value,
        "more": -gain.value,
        "share": 100 * abs(gain.value) / alone,
        "alone": alone,
    }
    figures |= {BLDS[name]: count for name, count in jobs.items()}
    return Result(
        ("distillation", "pieces", "KL"),
        [*rows, ("difference", "", gain)],
        [Claim("two stages lose less than one with all the tokens", gain)],
        reading,
        figures,
    )


def _pieces(study: Study, bld: str) -> int:
    """Number of pieces that a distillation of the narrowed space makes."""
    key = study.written(TABLE.program).digest()
    return int(study.kept(("pieces", key, bld), lambda: len(bld_plan(study.program(TABLE.program).ir, bld))))


TABLE = Table(
    "table06",
    "Table 6",
    "Is a second stage worth it, in which pieces are trained in pairs?",
    "Children of Llama-3.1-8B, tokens/s and accuracy: decoupled, then coupled 5,856, 73.98; decoupled alone 5,834, 72.92.",
    run,
)
