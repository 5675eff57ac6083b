"""Read a Puzzletron run: the parent's shape, the alternatives of each layer, their scores and costs."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.importing.artefacts import Artefacts, read_artefacts
from puzzledsl.importing.imported import Imported, Pair
from puzzledsl.importing.measurements import measurement_of, stats_of_gathered
from puzzledsl.importing.naming import Naming
from puzzledsl.importing.reading import unreadable
from puzzledsl.importing.teacher import parent_directory, shape_of_config, shape_of_statistics

HIGHER_IS_BETTER = re.compile("accuracy|top_[0-9]|agreement")
NOT_ZERO_AT_THE_PARENT = re.compile(rf"lm_loss|perplexity|{HIGHER_IS_BETTER.pattern}")


def read_puzzletron(path: Path, parent: Path | None = None) -> Imported:
    """Read a run. `parent`: the directory of the parent's config.json if the run lacks it. Raises DiagnosticError."""
    found = read_artefacts(path)
    if not found.stats:
        found.stats = list(stats_of_gathered(found))
    where = parent_directory(found, parent)
    shape = shape_of_statistics(found) if where is None else shape_of_config(where / "config.json")
    naming = Naming(found.path, shape)
    imported = Imported(
        found.path, shape, where, [{} for _ in range(shape.layers)], solutions=found.solutions
    )
    _scores(found, naming, imported)
    names: set[str] = set()
    imported.measurements = [measurement_of(found.path, entry, naming, names) for entry in found.stats]
    if naming.sink.has_errors:
        raise DiagnosticError(*naming.sink.sorted())
    return imported


def _scores(found: Artefacts, naming: Naming, imported: Imported) -> None:
    """Collect the degradation by each replacement relative to the parent; for an accuracy, too, higher is worse."""
    own: Pair = (ParentAttention(), ParentFfn())
    base = dict(found.teacher_metrics)
    for replacement in found.replacements:
        if naming.pair(replacement.block, replacement.layer) == own:
            base.update(replacement.metrics)
            break
    for replacement in found.replacements:
        if replacement.layer >= naming.shape.layers:
            reason = f"layer {replacement.layer} is replaced; the parent has {naming.shape.layers} layers"
            raise unreadable(found.path, reason)
        pair = naming.pair(replacement.block, replacement.layer)
        if pair is None:
            continue
        open_ = [n for n in replacement.metrics if n not in base and NOT_ZERO_AT_THE_PARENT.search(n)]
        imported.unanchored |= dict.fromkeys(open_)
        values = {
            n: _worse(n, v, base.get(n, Decimal(0))) for n, v in replacement.metrics.items() if n not in open_
        }
        if not all(v.is_finite() for v in values.values()):
            imported.left_out += 1
            continue
        imported.layers[replacement.layer][pair] = None
        if pair != own:
            for name, value in values.items():
                imported.scores.setdefault(name, {})[replacement.layer, pair] = value
    for layer in imported.layers:
        layer[own] = None


def _worse(metric: str, value: Decimal, parent: Decimal) -> Decimal:
    """Return the metric's distance from the parent's, signed so that higher is worse."""
    if not value.is_finite() or not parent.is_finite():
        return Decimal("nan")
    return parent - value if HIGHER_IS_BETTER.search(metric) else value - parent
