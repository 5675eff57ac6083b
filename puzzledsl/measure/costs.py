"""The cost table of a space on this machine: every distinct alternative is timed once, not once a layer.

Guaranteed before: the program is checked, `parent_dir` holds the weights of the space's parent. Method: whole models
whose layers hold random mixtures of the alternatives are run beside the parent, with the time of every sub-block noted
(`laps`, `rounds`); one time an alternative is estimated from all of them, scaled to the parent (`estimate`); random
whole children show the error of a sum of such times. In an engine that serves exported models, only whole models can be timed:
the times of the alternatives are fitted to them (`whole_fit`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from puzzledsl.base.progress import Progress
from puzzledsl.cluster.tasks import Executor, LocalExecutor, Task, TeamSpec
from puzzledsl.costs.flops import fixed_size
from puzzledsl.ir.nodes import Program, Scenario
from puzzledsl.ir.runtimes import engine_of, measured_in
from puzzledsl.ir.tables import CellTiming, CostTable, ScenarioCosts
from puzzledsl.measure.cells import measure_cell
from puzzledsl.measure.place import ClockMaker, Place


class MakeClocks(Protocol):
    """Maker of a hardware's `ClockMaker`, or of what times models in an engine."""

    def __call__(
        self, program: Program, space: str, parent_dir: Path, hardware: str
    ) -> Callable[[int], object]:
        """Return the maker of a worker's clock."""


def measure_costs(
    program: Program,
    space: str,
    parent_dir: Path,
    work: Path,
    progress: Progress,
    executor: Executor | None = None,
    engines: MakeClocks | None = None,
) -> CostTable:
    """Costs of a space in every scenario on a `measured(...)` hardware; other scenarios are left out.

    `executor` provides the workers that measure, each with a processor of the same kind for itself; default: this process.
    `engines` makes the clocks of hardware with an engine. An interrupted run resumes from the files in `work`, which is removed
    at the end. Raises DiagnosticError: an unknown device or dtype, a parent that cannot be loaded, an alternative that cannot be
    built, and those of an engine.
    """
    here = program.spaces[space]
    shape = program.parents[here.parent].shape
    tables: dict[str, tuple[ScenarioCosts, ...]] = {}
    provenance: dict[str, str] = {}
    timings: list[CellTiming] = []
    by_hardware: dict[str, list[Scenario]] = {}
    for scenario, hardware in measured_in(program, space):
        by_hardware.setdefault(hardware.name, []).append(scenario)
    for hardware_name, scenarios in by_hardware.items():
        make: MakeClocks = ClockMaker
        if engine_of(program.hardware[hardware_name]) is not None:
            assert engines is not None, "the pipeline gives it"
            make = engines
        maker = make(program, space, parent_dir.resolve(), hardware_name)
        with (executor or LocalExecutor()).open(TeamSpec(maker, alone=True), progress) as teams:
            ((_, place),) = teams.run([Task.call("place", "place")])
            for scenario in scenarios:
                cells = [
                    measure_cell(teams, place, here, scenario, batch, work, progress)
                    for batch in place.batches[scenario.name]
                ]
                capacity = None if scenario.batches else place.memory_bytes
                tables[scenario.name] = tuple(
                    cell.costs.model_copy(update={"capacity_bytes": capacity}) for cell in cells
                )
                timings += [cell.timing for cell in cells]
                checks = "; ".join(cell.note for cell in cells)
                provenance[scenario.name] = (
                    f"measured on {place.machine}, {place.dtype}{_shared(place)}; {checks}"
                )
    shutil.rmtree(work, ignore_errors=True)
    layers = [*zip(shape.each, here.layers, strict=True)]
    return CostTable(
        space=space,
        provenance=provenance,
        scenarios=tables,
        params_fixed=fixed_size(shape).params,
        params_attention=tuple(
            {a.name: a.params(own) for a in layer.with_parent().attention} for own, layer in layers
        ),
        params_ffn=tuple({f.name: f.params(own) for f in layer.with_parent().ffn} for own, layer in layers),
        timings=tuple(timings),
    )


def _shared(place: Place) -> str:
    """Say which share of the parent's weights was in memory; empty if all were."""
    own, depth = place.layers_with_weights, place.shape.layers
    return "" if own == depth else f", with the weights of {own} of {depth} layers"
