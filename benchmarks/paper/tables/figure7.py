"""Figure 7: scores that compare with the parent (KL) against scores of the text alone (LM loss), along a frontier of children.

Children of both scores are judged by both losses, so that neither is judged by its own measure alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.paper.estimate import Estimate, difference
from benchmarks.paper.result import Claim, Result, Table
from benchmarks.paper.speedups import EXACT, SPEEDUPS, Gains, children, judged_tokens, losses, predicted, told
from benchmarks.paper.study import Study
from puzzledsl.ir.tables import ScoreTable

LOSSES = {"kl": "KL", "lm": "LM loss"}


def run(study: Study) -> Result:
    """Both frontiers, in KL to the parent and in LM loss."""
    searches = {"KL scores": (EXACT, "exact"), "LM-loss scores": (TABLE.program, "by_text")}
    found = children(study, searches)
    promises = {
        score: [predicted(study, *search, speedup=each) for each in SPEEDUPS]
        for score, search in searches.items()
    }
    columns = ["throughput required"]
    cells: list[Sequence[str | Estimate]] = [SPEEDUPS]
    series: dict[str, list[tuple[float, Estimate]]] = {}
    for loss, title in LOSSES.items():
        for score in searches:
            lost = losses(found[score], loss)
            columns.append(f"{score}: {title}")
            cells.append(lost)
            speeds = [promise["speedup"] for promise in promises[score]]
            series[f"{score}: {title}"] = list(zip(speeds, lost, strict=True))
    kl, lm = (Gains.of(found["LM-loss scores"], found["KL scores"], loss) for loss in LOSSES)
    claims = kl.claims("children of KL scores lose less KL than those of LM-loss scores")
    claims.append(Claim("they lose less LM loss, too, over all speed-ups", lm.pooled))
    parent = study.parent(tokens=judged_tokens(study))
    last = SPEEDUPS[-1]
    single = replacement_losses(study)
    figures = {
        "kl": abs(kl.pooled.value),
        "lm": abs(lm.pooled.value),
        "promised_lm": promises["LM-loss scores"][-1]["lm"],
        "found_lm": difference([found["LM-loss scores"][last].lm], [parent.lm]).value,
        "promised_kl": promises["KL scores"][-1]["kl"],
        "found_kl": losses(found["KL scores"])[-1].value,
        "better": sum(loss < 0 for loss in single),
        "replacements": len(single),
    }
    return Result(columns, list(zip(*cells, strict=True)), claims, reading(kl, lm, last), figures, series)


def replacement_losses(study: Study) -> list[float]:
    """The LM-loss score of every replacement of every layer."""
    study.library()
    table = ScoreTable.from_json((study.build / "scores" / "lm.json").read_text(encoding="utf-8"))
    return [loss for layer in (*table.attention, *table.ffn) for loss in layer.values()]


def reading(kl: Gains, lm: Gains, last: str) -> str:
    """Who loses more in either loss, and how much of a loss the scores had promised."""
    by_kl = told(
        kl.pooled,
        "Children of LM-loss scores are {kl} nats further from the parent on average",
        "Children of LM-loss scores are {kl} nats nearer to the parent on average",
        "Children of either score are as far from the parent, as far as this text can tell",
    )
    by_lm = told(
        lm.pooled,
        "they lose {lm} nats more even in LM loss, which is what their own scores measure.",
        "they lose {lm} nats less in LM loss, which is what their own scores measure.",
        "their LM losses cannot be told apart.",
    )
    return (
        f"{by_kl}; {by_lm} At {last}, the LM-loss scores of their child add up to {{promised_lm}} nats, and its LM loss is "
        "{found_lm} above the parent's; the KL scores of the other add up to {promised_kl} nats, and its KL is {found_kl}. KL "
        "compares all tokens that could follow, LM loss the one that does: by it, {better} of {replacements} replacements seem "
        "better than the parent's own sub-block, and a search picks what chance flatters."
    )


TABLE = Table(
    "figure7",
    "Figure 7",
    "Are scores better measured against the parent or against the text?",
    "KL scores give the better children over the whole frontier of throughput, for Llama-3.1-8B.",
    run,
)
