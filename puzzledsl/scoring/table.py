"""Figures of single replacements -> a score table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

from torch import Tensor

from puzzledsl.ir.alternatives import name_of
from puzzledsl.ir.tables import LayerDefinition, PairwiseTerm, ScoreTable
from puzzledsl.modeling.layerwise import LayerRunner
from puzzledsl.scoring.measures import Figures
from puzzledsl.scoring.pairwise import covariances
from puzzledsl.scoring.partial import Name
from puzzledsl.scoring.replacements import PARENT, Replacement

INCUMBENT: Name = (-1, "", "")
"""The child itself, without a replacement."""
PARENTS = {"attention": "parent", "ffn": "parent", "pairs": "parent/parent"}


def score_table(
    score: str,
    metric: str,
    unit: Literal["subblock", "block"],
    samples: int,
    layers: int,
    figures: Mapping[Name, Figures],
    around: Sequence[LayerDefinition] | None = None,
) -> ScoreTable:
    """The table of all figures of one metric. The parent's own is 0 everywhere, and left out.

    Around a child c, an entry is S(c with the choice) - S(c with the parent's), and the offset makes the sum S(c) for c.
    """
    child = figures[INCUMBENT][metric] if around is not None else 0.0
    has = [_names(layer) for layer in around or [PARENT] * layers]
    tables: dict[str, list[dict[str, float]]] = {table: [{} for _ in range(layers)] for table in PARENTS}
    for (layer, table, name), figure in figures.items():
        if layer >= 0:
            tables[table][layer][name] = figure[metric]
    offset = child
    for table in ("pairs",) if unit == "block" else ("attention", "ffn"):
        for layer, entries in enumerate(tables[table]):
            entries[has[layer][table]] = child
            parent = entries.pop(PARENTS[table])
            for name in entries:
                entries[name] -= parent
            offset -= child - parent
    return ScoreTable(
        score=score,
        metric=metric,
        samples=samples,
        unit=unit,
        attention=() if unit == "block" else tuple(tables["attention"]),
        ffn=() if unit == "block" else tuple(tables["ffn"]),
        pairs=tuple(tables["pairs"]) if unit == "block" else (),
        offset=offset,
    )


def _names(layer: LayerDefinition) -> dict[str, str]:
    attention, ffn = name_of(layer.attention), name_of(layer.ffn)
    return {"attention": attention, "ffn": ffn, "pairs": f"{attention}/{ffn}"}


def pairwise_terms(
    runner: LayerRunner, parent_PH: Tensor, children_RPH: Tensor, todo: Sequence[Replacement]
) -> tuple[PairwiseTerm, ...]:
    """One term for each two replacements that a child can make both of, nats."""
    values = covariances(runner.head, parent_PH, children_RPH).tolist()
    return tuple(
        PairwiseTerm(
            layer=one.layer,
            sub_block=_sub_block(one),
            name=one.name,
            other_layer=other.layer,
            other_sub_block=_sub_block(other),
            other_name=other.name,
            value=values[i][j],
        )
        for i, one in enumerate(todo)
        for j, other in enumerate(todo)
        if (one.layer, one.table) < (other.layer, other.table)
    )


def _sub_block(replacement: Replacement) -> Literal["attention", "ffn", "block"]:
    table = "block" if replacement.table == "pairs" else replacement.table
    return cast(Literal["attention", "ffn", "block"], table)
