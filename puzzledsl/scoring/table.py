"""Build a score table from the metrics of single replacements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

from puzzledsl.ir.tables import LayerDefinition, PairwiseTerm, RunScore, ScoreTable
from puzzledsl.scoring.draw import Floats
from puzzledsl.scoring.figures_cache import Name
from puzzledsl.scoring.fit import Form
from puzzledsl.scoring.measures import Figures
from puzzledsl.scoring.replacements import PARENT, Replacement, Run

INCUMBENT: Name = (-1, "", "")
"""Cache name of the child (`around`) itself, without a replacement."""
PARENTS = {"attention": "parent", "ffn": "parent", "pairs": "parent/parent"}


def score_table(
    score: str,
    metric: str,
    unit: Literal["subblock", "block"],
    samples: int,
    layers: int,
    figures: Mapping[Name, Figures],
    around: Sequence[LayerDefinition] | None = None,
    runs: Sequence[Run] = (),
) -> ScoreTable:
    """Build the table of one metric from all cached metrics. The parent's own sub-blocks score 0 and are left out.

    Only the runs in `runs` are included. Around a child c with loss S(c), an entry is S(c with the alternative) - S(c with the
    parent's sub-block), and the offset is chosen so that the table's sum for c is S(c).
    """
    child = figures[INCUMBENT][metric] if around is not None else 0.0
    has = [_names(layer) for layer in around or [PARENT] * layers]
    tables: dict[str, list[dict[str, float]]] = {table: [{} for _ in range(layers)] for table in PARENTS}
    for (layer, table, name), figure in figures.items():
        if layer >= 0 and table in tables:
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
        runs=tuple(
            RunScore(
                first=run.layer, length=run.length, value=figures[run.layer, run.table, run.name][metric]
            )
            for run in runs
        ),
    )


def _names(layer: LayerDefinition) -> dict[str, str]:
    attention, ffn = layer.attention.name, layer.ffn.name
    return {"attention": attention, "ffn": ffn, "pairs": f"{attention}/{ffn}"}


def pairwise_terms(covariance_RR: Floats, todo: Sequence[Replacement]) -> tuple[PairwiseTerm, ...]:
    """Return one term, in nats, for each pair of replacements at different places."""
    values = covariance_RR.tolist()
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


def fitted_table(table: ScoreTable, form: Form, todo: Sequence[Replacement]) -> ScoreTable:
    """Return the table with its entries replaced by the form's single scores, if it is fitted, and with its pairwise terms.

    There are no pairwise terms if the form has none or the fit gives them no weight.
    """
    if form.fit is not None:
        entries = {"attention": table.attention, "ffn": table.ffn, "pairs": table.pairs}
        changed = {name: [dict(layer) for layer in layers] for name, layers in entries.items()}
        for replacement, value in zip(todo, form.singles_R.tolist(), strict=True):
            changed[replacement.table][replacement.layer][replacement.name] = value
        table = table.model_copy(update={name: tuple(layers) for name, layers in changed.items()})
    terms = pairwise_terms(form.pairs_RR, todo) if form.pairs_RR.any() else ()
    return table.model_copy(update={"pairwise": terms, "fit": form.fit})


def _sub_block(replacement: Replacement) -> Literal["attention", "ffn", "block"]:
    table = "block" if replacement.table == "pairs" else replacement.table
    return cast(Literal["attention", "ffn", "block"], table)
