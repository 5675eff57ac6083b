"""Table 13: the children of Tables 1 and 5 before and after uptraining."""

from __future__ import annotations

from benchmarks.paper.estimate import Estimate, bootstrapped_ratio, difference
from benchmarks.paper.judge import Judged
from benchmarks.paper.result import Claim, Result, Table
from benchmarks.paper.study import Study
from benchmarks.paper.tables.table01 import NONE, healed, kl, kl_gain, trained
from benchmarks.paper.tables.table05 import NAMES, SEARCHED, belief, taught


def run(study: Study) -> Result:
    """KL and answers of each child before and after."""
    after = taught(study)
    rows, nearer, likelier, figures = [], [], [], {}
    for name, children in after.items():
        before = (
            trained(study, NONE) if name == SEARCHED else [healed(study, "table05.pzl", name, asked=True)]
        )
        share, gain = recovered(before, children), difference(belief(children), belief(before))
        rows.append((NAMES[name], kl(before), kl(children), share, gain))
        nearer.append(
            Claim(
                f"uptraining brings the {NAMES[name]} child nearer to its parent", kl_gain(children, before)
            )
        )
        likelier.append(
            Claim(
                f"uptraining makes right answers of the {NAMES[name]} child likelier",
                gain,
                "percentage points",
            )
        )
        figures[name] = share.value
    columns = ("child", "KL before", "KL after", "given back, %", "p(right), percentage points more")
    return Result(columns, rows, [*nearer, *likelier], _reading(nearer, likelier), figures)


def recovered(before: list[Judged], after: list[Judged]) -> Estimate:
    """Share of the KL that uptraining removes, in percent."""
    rows = [child.kl for child in after]
    removed = [100 * (kl - sum(row[i] for row in rows) / len(rows)) for i, kl in enumerate(before[0].kl)]
    return bootstrapped_ratio(removed, before[0].kl)


def _reading(nearer: list[Claim], likelier: list[Claim]) -> str:
    """A sentence on KL, and one on answers."""
    shares = "{student} % of the searched child's, {alike} % of the uniform one's and {shallow} % of the depth-pruned one's"
    agreed = ", as in the paper" if all(claim.gain.sign > 0 for claim in nearer) else ""
    first = f"Of the KL that is left after healing, uptraining gives back {shares}{agreed}."
    told = []
    for sign, words in (
        (1, "become likelier"),
        (0, "change by nothing that could be told from 0"),
        (-1, "become less likely"),
    ):
        names = [
            name for name, claim in zip(NAMES.values(), likelier, strict=True) if claim.gain.sign == sign
        ]
        if names:
            told.append(f"{words} in the {' and the '.join(names)} one")
    second = f"Right answers {'; they '.join(told)}."
    third = "The paper's billions of tokens give back 87 % and 67 % of the accuracy that its two children had lost."
    return f"{first} {second} {third}"


TABLE = Table(
    "table13",
    "Table 13",
    "What does uptraining give back?",
    "average of MMLU and MT-Bench: 51B child 82.55 before, 85.10 after (parent 85.48); child of Llama-3.1-8B "
    "69.06 before, 73.98 after (parent 76.40).",
    run,
)
