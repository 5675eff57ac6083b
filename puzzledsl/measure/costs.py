"""The cost table of a space on this machine: every distinct alternative is timed once, not once a layer.

Guaranteed before: the program is checked, `parent_dir` holds the weights of the space's parent. Method: whole models
whose layers hold random mixtures of the alternatives are run beside the parent, with the time of every sub-block noted
(`laps`, `rounds`); one time an alternative is estimated from all of them, scaled to the parent (`estimate`); random
whole children show the error of a sum of such times.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from puzzledsl.base.progress import Progress
from puzzledsl.cluster.tasks import Executor, LocalExecutor, Task, TeamSpec
from puzzledsl.costs.parameters import fixed_size
from puzzledsl.ir.nodes import Program, Scenario
from puzzledsl.ir.tables import CostTable, ScenarioCosts
from puzzledsl.measure.cells import measure_cell
from puzzledsl.measure.device import measured_scenarios
from puzzledsl.measure.place import ClockMaker, Place


def measure_costs(
    program: Program,
    space: str,
    parent_dir: Path,
    work: Path,
    progress: Progress,
    executor: Executor | None = None,
) -> CostTable:
    """Costs of a space in every scenario on a `measured(...)` hardware; other scenarios are left out.

    `executor` provides the workers that measure, each with a processor of the same kind for itself; default: this process. An
    interrupted run resumes from the files in `work`, which is removed at the end. Raises DiagnosticError: an unknown device or
    dtype, a parent that cannot be loaded, an alternative that cannot be built.
    """
    here = program.spaces[space]
    shape = program.parents[here.parent].shape
    tables: dict[str, tuple[ScenarioCosts, ...]] = {}
    provenance: dict[str, str] = {}
    by_hardware: dict[str, list[Scenario]] = {}
    for name, hardware in measured_scenarios(program).items():
        by_hardware.setdefault(hardware.name, []).append(program.scenarios[name])
    for hardware_name, scenarios in by_hardware.items():
        maker = ClockMaker(program, space, parent_dir.resolve(), hardware_name)
        with (executor or LocalExecutor()).open(TeamSpec(maker, alone=True), progress) as teams:
            ((_, place),) = teams.run([Task.call("place", "place")])
            for scenario in scenarios:
                cells = [
                    measure_cell(teams, place, here, scenario, batch, work, progress)
                    for batch in place.batches[scenario.name]
                ]
                capacity = None if scenario.batches else place.memory_bytes
                tables[scenario.name] = tuple(
                    c.model_copy(update={"capacity_bytes": capacity}) for c, _ in cells
                )
                checks = "; ".join(note for _, note in cells)
                provenance[scenario.name] = (
                    f"measured on {place.machine}, {_dtype_name(place.dtype)}{_shared(place)}; {checks}"
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
    )


def _shared(place: Place) -> str:
    """Say which share of the parent's weights was in memory; empty if all were."""
    own, depth = place.layers_with_weights, place.shape.layers
    return "" if own == depth else f", with the weights of {own} of {depth} layers"


def _dtype_name(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
