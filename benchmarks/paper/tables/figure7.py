"""Figure 7: scores that compare with the parent (KL) against scores of the text alone (LM loss), along a frontier of children.

Children of both scores are judged by both losses, so that neither is judged by its own measure alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.paper.estimate import Estimate
from benchmarks.paper.result import Claim, Result, Table
from benchmarks.paper.speedups import EXACT, Gains, children, losses, reached
from benchmarks.paper.study import Study

SPEEDUPS = ("1.1x", "1.2x", "1.35x", "1.5x", "1.75x", "2x")


def run(study: Study) -> Result:
    """Both frontiers, in KL to the parent and in LM loss."""
    searches = {"KL scores": (EXACT, "exact"), "LM-loss scores": (TABLE.program, "by_text")}
    found = children(study, searches, SPEEDUPS)
    speeds = {
        score: [reached(study, *search, speedup=each) for each in SPEEDUPS]
        for score, search in searches.items()
    }
    columns = ["throughput required"]
    cells: list[Sequence[str | Estimate]] = [SPEEDUPS]
    series: dict[str, list[tuple[float, Estimate]]] = {}
    for loss, title in (("kl", "KL"), ("lm", "LM loss")):
        for score in searches:
            lost = losses(found[score], loss)
            columns.append(f"{score}: {title}")
            cells.append(lost)
            series[f"{score}: {title}"] = list(zip(speeds[score], lost, strict=True))
    kl, lm = (Gains.of(found["LM-loss scores"], found["KL scores"], loss) for loss in ("kl", "lm"))
    claims = kl.claims("children of KL scores lose less KL than those of LM-loss scores")
    claims.append(Claim("they lose less LM loss, too, over all speed-ups", lm.pooled))
    return Result(columns, list(zip(*cells, strict=True)), claims, "", {}, series)


TABLE = Table(
    "figure7",
    "Figure 7",
    "Are scores better measured against the parent or against the text?",
    "KL scores give the better children over the whole frontier of throughput, for Llama-3.1-8B.",
    run,
)
