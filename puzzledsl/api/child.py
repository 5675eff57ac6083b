"""Any child of a search, with exact figures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

    from puzzledsl.ir.tables import Assignment, EndsAssignment, LayerAssignment
    from puzzledsl.search.answer import ChildFigures, RequirementFigures


class Child:
    """Exact metrics and requirements of a child, from the tables that the solver reads: for searches of your own."""

    def __init__(self, figures: ChildFigures, search: str) -> None:
        """Wrap figures. `Program.metrics` makes children."""
        self._figures, self._search = figures, search

    @property
    def layers(self) -> tuple[LayerAssignment, ...]:
        """The choice of each layer."""
        from puzzledsl.ir.tables import layers_of_child

        return layers_of_child(self._figures.layers)

    @property
    def ends(self) -> EndsAssignment:
        """The choice of embedding and head."""
        from puzzledsl.ir.tables import ends_of_child

        return ends_of_child(self._figures.layers)

    @property
    def objective(self) -> Fraction:
        """The search's objective, exact."""
        return self._figures.objective

    @property
    def metrics(self) -> dict[str, Fraction]:
        """Every metric, exact, in base units: `chat.memory` in bytes, `chat.latency` in seconds, `params`, scores."""
        return self._figures.metrics

    @property
    def batches(self) -> dict[str, int]:
        """The batch of each scenario."""
        return self._figures.batches

    @property
    def requirements(self) -> tuple[RequirementFigures, ...]:
        """Each requirement: its `line` and `text`, whether it `holds`, and the exact `value` and `bound` it compares.

        `value` and `bound` are in base units; None of a statement about layers.
        """
        return self._figures.requirements

    @property
    def feasible(self) -> bool:
        """True where the child meets every requirement, and fits the memory where a batch is `auto`."""
        return self._figures.feasible

    def __repr__(self) -> str:
        broken = [r.text for r in self.requirements if not r.holds]
        state = "feasible" if self.feasible else f"breaks {', '.join(broken) or 'the memory'}"
        return f"<Child of {self._search}: objective {float(self.objective):.6g}, {state}>"

    def _repr_html_(self) -> str:
        from puzzledsl.pipeline.text.card import metric_text
        from puzzledsl.report.environment import Table, fragment

        metrics = [(name, metric_text(name, float(value))) for name, value in sorted(self.metrics.items())]
        held = [
            (r.text, "holds" if r.holds else "does not hold", _text(r.value), _text(r.bound))
            for r in self.requirements
        ]
        tables = [
            Table.of(("requirement", "", "value", "bound"), held, words=2),
            Table.of(("metric", ""), metrics),
        ]
        return fragment(repr(self).strip("<>"), (), tables)


def assignments(layers: Iterable[Assignment | tuple[str, str]]) -> tuple[Assignment, ...]:
    """Layers as the tables name them; (attention, FFN) pairs of names do, too. The ends may follow."""
    from puzzledsl.ir.tables import LayerAssignment

    return tuple(
        LayerAssignment(attention=each[0], ffn=each[1]) if isinstance(each, tuple) else each
        for each in layers
    )


def _text(value: Fraction | None) -> str:
    return "" if value is None else f"{float(value):.6g}"
