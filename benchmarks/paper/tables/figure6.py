"""Figure 6: the share of the parent's run time that is left in each layer's attention and FFN, by the search's own costs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from scipy.stats import spearmanr  # type: ignore[import-untyped]

from benchmarks.paper.estimate import exact
from benchmarks.paper.result import Claim, Result, Table
from benchmarks.paper.study import Study
from puzzledsl.alternatives.alternative import SUB_BLOCKS
from puzzledsl.costs.breakdown import PARENT, LayerCost, breakdown
from puzzledsl.ir.tables import LayerAssignment

SEARCH, SCENARIO = "drawn", "chat"
NAMES = {"attention": "attention", "ffn": "FFN"}


def left(study: Study, program: Any, layers: Sequence[LayerAssignment]) -> dict[str, list[float]]:
    """For attention and FFN, each layer's time in a child as a share of the parent's in the same sub-block."""
    space = program.ir.spaces[program.ir.searches[SEARCH].space]
    table = program.costs(space.name).table
    child, parent = (
        breakdown(program.ir, space, table, SCENARIO, chosen, "")
        for chosen in (layers, [PARENT] * len(layers))
    )

    def share(own: LayerCost, whole: LayerCost, sub_block: str) -> float:
        return child.latency_ns(getattr(own, sub_block)) / parent.latency_ns(getattr(whole, sub_block))

    return {
        sub_block: [share(*pair, sub_block) for pair in zip(child.layers, parent.layers, strict=True)]
        for sub_block in SUB_BLOCKS
    }


def run(study: Study) -> Result:
    """The time that is left, and how it goes with the loss of leaving a sub-block out."""
    answer, program = study.solved(TABLE.program, SEARCH), study.program(TABLE.program)
    found = left(study, program, answer.layers)
    scores = answer.subject.found.scores["kl"]
    rows = [
        (str(index), choice.attention, found["attention"][index], choice.ffn, found["ffn"][index])
        for index, choice in enumerate(answer.layers)
    ]
    means = {sub_block: statistics.fmean(values) for sub_block, values in found.items()}
    rows.append(("all", "", means["attention"], "", means["ffn"]))
    claims, figures = [], {}
    for sub_block, values in found.items():
        spread = statistics.pstdev(values)
        statement = f"what is left of {NAMES[sub_block]} differs from layer to layer (standard deviation)"
        claims.append(Claim(statement, exact(spread), "of the parent's time"))
        losses = [layer["noop"] for layer in getattr(scores, sub_block)]
        figures[f"{sub_block}_left"] = means[sub_block]
        figures[f"{sub_block}_rank"] = _rank_correlation(values, losses)
    more, less = sorted(SUB_BLOCKS, key=lambda sub_block: means[sub_block])
    even = study.solved(TABLE.program, "evenly")
    gain = even.metrics["kl"] - answer.metrics["kl"]
    claims.append(
        Claim("the child's score is better than that of the best child of equal layers", exact(gain))
    )
    figures["speedup"] = answer.metrics["chat.throughput"] / answer.parent_metrics["chat.throughput"]
    figures |= {"score": answer.metrics["kl"], "even": even.metrics["kl"]}
    whole, gone = ({key: _count(values, share) for key, values in found.items()} for share in (1, 0))
    reading = (
        f"At {{speedup}} times the parent's throughput, {NAMES[more]} gives up more of its time than {NAMES[less]}: "
        f"{{{more}_left}} and {{{less}_left}} of it are left. Attention is whole in {whole['attention']} and gone in "
        f"{gone['attention']} of {len(answer.layers)} layers, the FFN whole in {whole['ffn']} and gone in {gone['ffn']}. Time is "
        "left where leaving a sub-block out costs most, as far as the rank correlation of time left and of the no-op's score "
        "goes: {attention_rank} for attention, {ffn_rank} for the FFN. The child's score is {score} nats, and {even} that of "
        "the best child whose layers are all alike."
    )
    series = {NAMES[sub_block]: list(enumerate(values)) for sub_block, values in found.items()}
    return Result(
        ("layer", "attention", "time left", "FFN", "time left"), rows, claims, reading, figures, series
    )


def _count(values: Sequence[float], share: int) -> int:
    return sum(value == share for value in values)


def _rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's; 0 where one of both is the same everywhere."""
    if len(set(first)) == 1 or len(set(second)) == 1:
        return 0.0
    return float(spearmanr(first, second).statistic)


TABLE = Table(
    "figure6",
    "Figure 6",
    "Where does the time go, layer by layer?",
    "Of Nemotron-51B's run time little is left of attention and FFN in some layers and all in others, as a picture.",
    run,
    decimals=2,
)
