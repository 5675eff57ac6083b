"""Alternatives of a space, and their costs, as tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from puzzledsl.api.frames import Library
    from puzzledsl.ir.nodes import LayerChoice
    from puzzledsl.ir.tables import Cost, CostTable, ScenarioCosts
    from puzzledsl.plan.space_table import SpaceTable


class Space:
    """A space after choices, rounding and overrides: the alternatives of every layer."""

    def __init__(self, table: SpaceTable) -> None:
        """Wrap a table. `Program.space` makes spaces."""
        self._table = table

    @property
    def name(self) -> str:
        """The name of the space."""
        return self._table.space.name

    @property
    def parent(self) -> str:
        """The name of the parent."""
        return self._table.space.parent

    @property
    def layers(self) -> tuple[LayerChoice, ...]:
        """The alternatives of each layer: `.attention` and `.ffn`."""
        return self._table.space.layers

    @property
    def log10_children(self) -> float:
        """The decimal logarithm of the number of children."""
        return self._table.log10_children

    def to_frame(self, library: Library | None = None) -> Any:
        """The space as a data frame with one row for each alternative of each sub-block of each layer.

        Columns: `layer`, `sub_block` (`attention` or `ffn`), `alternative`, and the alternative's numbers, of which
        `params` counts weights.
        `library`: "pandas" or "polars"; unless said the one that is imported, else one that is installed (E0671: none is).
        """
        from puzzledsl.api.frames import frame

        return frame([*self._table.rows()], library)

    def __repr__(self) -> str:
        size = f"{len(self.layers)} layers, 10^{self.log10_children:.1f} children"
        return f"<Space {self.name} of {self.parent}: {size}>"

    def _repr_html_(self) -> str:
        from puzzledsl.base.phrases import ranges
        from puzzledsl.plan.space_table import groups
        from puzzledsl.report.notebook import Table, fragment

        rows = [(ranges(layers), " | ".join(a), " | ".join(f)) for layers, a, f in groups(self._table.space)]
        table = Table.of(("layers", "attention", "FFN"), rows, words=3)
        return fragment(repr(self).strip("<>").replace("Space", "space"), (), [table])


class Costs:
    """The cost of every alternative of every layer of a space, in every scenario that has costs."""

    def __init__(self, table: CostTable) -> None:
        """Wrap a table. `Program.costs` makes costs."""
        self._table = table

    @property
    def table(self) -> CostTable:
        """The whole artefact."""
        return self._table

    @property
    def provenance(self) -> dict[str, str]:
        """The origin of each scenario's costs: a profile, a measurement, or a table."""
        return self._table.provenance

    def to_frame(self, library: Library | None = None) -> Any:
        """The costs as a data frame with one row for each alternative of each layer in each scenario at each batch.

        Columns: `scenario`, `batch`, `layer` (None of the embedding and the head), `sub_block` (`fixed`, `attention`,
        `ffn`, or `block` of a pair that was measured as one), `alternative`, `params`, `weights_bytes`,
        `kv_cache_bytes` (of the whole batch), `prefill_ns` (one forward over the prompts), `decode_ns` (one step of
        the whole batch), `prefill_flop`, `decode_flop`. Sizes and times are those of each GPU.
        `library`: "pandas" or "polars"; unless said the one that is imported, else one that is installed (E0671: none is).
        """
        from puzzledsl.api.frames import frame

        rows: list[dict[str, object]] = []
        for scenario, candidates in self._table.scenarios.items():
            for costs in candidates:
                for layer, part, name, cost in _parts(costs):
                    place = {"layer": layer, "sub_block": part, "alternative": name}
                    rows.append({"scenario": scenario, "batch": costs.batch, **place, **cost.model_dump()})
        return frame(rows, library)

    def __repr__(self) -> str:
        known = ", ".join(f"{name} ({source})" for name, source in self.provenance.items())
        return f"<Costs of {self._table.space}: {known or 'parameters only'}>"

    def _repr_html_(self) -> str:
        from puzzledsl.costs.metrics import metrics_of
        from puzzledsl.ir.tables import PARENT
        from puzzledsl.pipeline.text.card import metric_text
        from puzzledsl.report.notebook import Table, fragment

        shown = ("memory", "weights", "kv_cache", "ttft", "tpot", "latency", "throughput")
        rows = []
        for scenario, candidates in self._table.scenarios.items():
            for costs in candidates:
                found = metrics_of(costs, [PARENT] * len(costs.attention))
                known = found.keys() - set(costs.unknown)
                cells = [metric_text(m, float(found[m])) if m in known else "" for m in shown]
                rows.append((scenario, str(costs.batch), f"{costs.prompt} → {costs.output}", *cells))
        table = Table.of(("parent in scenario", "batch", "tokens", *shown), rows)
        return fragment(repr(self).strip("<>").replace("Costs", "costs"), (), [table])


def _parts(costs: ScenarioCosts) -> Iterator[tuple[int | None, str, str, Cost]]:
    """Layer, sub-block, alternative and cost of everything that a scenario's costs list."""
    yield None, "fixed", "", costs.fixed
    for name, cost in costs.ends.items():
        yield None, "ends", name, cost
    for part, layers in (("attention", costs.attention), ("ffn", costs.ffn), ("block", costs.pairs)):
        for layer, table in enumerate(layers):
            for name, cost in table.items():
                yield layer, part, name, cost
