"""Alternatives of a space, and their costs, as tables and data frames.

Rows to data frames, with whichever library is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError

if TYPE_CHECKING:
    from puzzledsl.ir.nodes import LayerChoice
    from puzzledsl.ir.tables import Cost, CostTable, ScenarioCosts
    from puzzledsl.plan.space_table import SpaceTable


Library = Literal["pandas", "polars"]
LIBRARIES: tuple[Library, ...] = ("pandas", "polars")


class FramesNeedALibrary(Diagnostic, code="E0671"):
    """A data frame without pandas or polars."""

    template = "a data frame needs {library}, which is not installed"


def frame(rows: Sequence[Mapping[str, object]], library: Library | None = None) -> Any:
    """A data frame with one row for each of `rows`, whose keys are the columns.

    Without `library`, one that is imported already comes first, then pandas, then polars. Raises DiagnosticError
    (E0671) where it is not installed.
    """
    if library is not None and library not in LIBRARIES:
        raise ValueError(f"library is 'pandas' or 'polars', not {library!r}")
    wanted = LIBRARIES if library is None else (library,)
    imported = [name for name in wanted if name in sys.modules]
    installed = imported or [name for name in wanted if importlib.util.find_spec(name) is not None]
    if not installed:
        words = " or ".join(wanted)
        help = " or ".join(f"`pip install {name}`" for name in wanted)
        raise DiagnosticError(FramesNeedALibrary(None, library=words, help=help))
    module = importlib.import_module(installed[0])
    if installed[0] == "polars":
        return module.DataFrame([dict(row) for row in rows], infer_schema_length=None)
    made = module.DataFrame.from_records([dict(row) for row in rows])
    return made.astype(dict.fromkeys(_whole_with_gaps(rows), "Int64"))


def _whole_with_gaps(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Columns of whole numbers and None, which pandas would read as floats."""
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    return [
        name
        for name, values in columns.items()
        if None in values and {type(value) for value in values} == {int, type(None)}
    ]


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
        return frame([*self._table.rows()], library)

    def __repr__(self) -> str:
        size = f"{len(self.layers)} layers, 10^{self.log10_children:.1f} children"
        return f"<Space {self.name} of {self.parent}: {size}>"


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


def _parts(costs: ScenarioCosts) -> Iterator[tuple[int | None, str, str, Cost]]:
    """Layer, sub-block, alternative and cost of everything that a scenario's costs list."""
    yield None, "fixed", "", costs.fixed
    for name, cost in costs.ends.items():
        yield None, "ends", name, cost
    for part, layers in (("attention", costs.attention), ("ffn", costs.ffn), ("block", costs.pairs)):
        for layer, table in enumerate(layers):
            for name, cost in table.items():
                yield layer, part, name, cost
