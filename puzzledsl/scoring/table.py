"""Build a score table from the metrics of single replacements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from puzzledsl.ir.tables import LayerDefinition, RunScore, ScoreTable
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


def fitted_table(table: ScoreTable, form: Form, todo: Sequence[Replacement]) -> ScoreTable:
    """Return the table with its entries replaced by the form's single scores, if it is fitted."""
    if form.fit is None:
        return table
    entries = {"attention": table.attention, "ffn": table.ffn, "pairs": table.pairs}
    changed = {name: [dict(layer) for layer in layers] for name, layers in entries.items()}
    for replacement, value in zip(todo, form.singles_R.tolist(), strict=True):
        changed[replacement.table][replacement.layer][replacement.name] = value
    fitted = {name: tuple(layers) for name, layers in changed.items()}
    return table.model_copy(update={**fitted, "fit": form.fit})
