"""Table 14: long-context tasks beyond the context of training, of children that may take windows in place of attention."""

from __future__ import annotations

from benchmarks.paper.estimate import Estimate, apart, difference, mean, verdict
from benchmarks.paper.long_judge import answers_of, judge_of
from benchmarks.paper.result import Claim, Result, Table
from benchmarks.paper.study import Study

SHORT, LONG = 256, 1024
"""Tokens of the sequences that the two children's pieces are made, scored, healed and uptrained on."""
SEARCH, WINDOWS = "sighted", (64, 256)


def run(study: Study) -> Result:
    """The answers of the parent and of both children at each length."""
    judge, healing = judge_of(study), study.setting("healing", "4Ki")
    found, layers = {}, {}
    for context in (SHORT, LONG):
        settings = {"context": context, "healing": healing}
        found[context] = answers_of(study, judge, TABLE.program, "sighted_taught", **settings)
        layers[context] = study.layers(TABLE.program, SEARCH, **settings)
    rows = []
    for length in judge.lengths:
        shown = [judge.parent[length], *(answers[length] for answers in found.values())]
        kept = [judge.kept(answers[length], length) for answers in found.values()]
        cells = [mean([judge.right(answers, length)]) for answers in shown]
        rows.append((f"{length:,}", ", ".join(judge.tasks(length)) or "none", *cells, *kept))
    first, last = judge.lengths[0], judge.lengths[-1]
    claims, figures = [], {}
    for context, answers in found.items():
        falls = apart(judge.kept(answers[first], first), judge.kept(answers[last], last))
        claims.append(
            Claim(
                f"the child made at {context:,} tokens keeps less at {last:,} than at {first:,}",
                falls,
                "of the parent's",
            )
        )
        for window in WINDOWS:
            figures[f"layers_{context}_{window}"] = sum(
                f"w{window}" in layer.attention for layer in layers[context]
            )
        figures |= {
            f"kept_{context}_{length}": judge.kept(answers[length], length).value for length in (first, last)
        }
    for length in judge.lengths[1:]:
        ours, theirs = (judge.right(found[context][length], length) for context in (LONG, SHORT))
        statement = f"at {length:,} tokens the child made at {LONG:,} answers more rightly than the one made at {SHORT:,}"
        claims.append(Claim(statement, difference([ours], [theirs]), "of the questions"))
    columns = (
        "tokens",
        "tasks",
        "parent",
        *(f"made at {context:,}" for context in found),
        *(f"made at {context:,} keeps" for context in found),
    )
    return Result(columns, rows, claims, _reading(claims[0].gain, claims[-1].gain, first, last), figures)


def _reading(falls: Estimate, gain: Estimate, first: int, last: int) -> str:
    said = {
        "agree": "falls off as the paper's does",
        "disagree": "keeps more of long ones than of short ones",
        "cannot tell": "is not shown to fall off",
    }[verdict(falls)]
    better = {
        "agree": "and answers more rightly there",
        "disagree": "and answers fewer rightly there all the same",
        "cannot tell": "and nobody can tell which of the two answers more rightly there",
    }[verdict(gain)]
    few, many = (
        f"{{layers_{context}_64}} layers with windows of 64 tokens and {{layers_{context}_256}} with windows of 256"
        for context in (SHORT, LONG)
    )
    return (
        f"The child made on sequences of {SHORT:,} tokens {said}: it keeps {{kept_{SHORT}_{first}}} of what its parent has "
        f"above chance in documents of {first:,} tokens, and {{kept_{SHORT}_{last}}} in those of {last:,}. It has {few}, since a "
        f"window costs nothing in texts that are no longer; `pzl check` warns of such a score (W0305). Made on {LONG:,} tokens, "
        f"the child of the same speed has {many}, {better}."
    )


TABLE = Table(
    "table14",
    "Table 14",
    "What is left beyond the context of training?",
    "RULER beyond the 8K tokens of training, average of the parent → the child (% kept): 16K 91.08 → 87.65 (96.2), "
    "32K 89.39 → 78.54 (87.9), 64K 78.06 → 11.6 (14.9), 128K 48.94 → 1.31 (2.7).",
    run,
    decimals=2,
)
