"""Cost table of a space: every alternative of every layer, in every scenario that needs no measurement on this machine."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from puzzledsl.base.diagnostics import DiagnosticError, Sink
from puzzledsl.costs.any_batch import AnyBatch
from puzzledsl.costs.csv_table import Measured, read_measured
from puzzledsl.costs.imported import imported_costs
from puzzledsl.costs.profile import can_run, provenance_of
from puzzledsl.costs.traffic import filled, running
from puzzledsl.ir import facts
from puzzledsl.ir.base import span_of
from puzzledsl.ir.hardware_nodes import running_costs
from puzzledsl.ir.nodes import (
    LayerChoice,
    MeasuredHardware,
    Program,
    RooflineHardware,
    Scenario,
    Shape,
    Space,
    TableHardware,
)
from puzzledsl.ir.tables import PARENT, CostTable, ScenarioCosts


def cost_table(program: Program, space: str, base: Path | None = None) -> CostTable:
    """Costs of a space in every scenario on a roofline or table hardware; `measured` hardware is left out.

    `base` is the directory that tables' paths start from (default: the `.pzl` file's). Raises DiagnosticError for a profile or
    a table that does not do.
    """
    here, sink = program.spaces[space], Sink()
    shape = program.parents[here.parent].shape
    directory = Path(program.source).parent if base is None else base
    scenarios: dict[str, tuple[ScenarioCosts, ...]] = {}
    provenance: dict[str, str] = {}
    auto: dict[str, int] = {}
    tables: dict[str, Measured | None] = {}
    for name, scenario in program.scenarios.items():
        hardware = program.hardware[scenario.hardware]
        match hardware.spec:
            case RooflineHardware() as spec:
                provenance[name] = provenance_of(spec)
                if can_run(hardware, spec, sink):
                    scenarios[name] = roofline_costs(spec, shape, here, scenario)
                    auto |= {} if scenario.batches else {name: spec.max_batch}
            case TableHardware(path=path):
                provenance[name] = f"table {path}"
                span = span_of(hardware.where)
                if scenario.hardware not in tables:
                    found = read_measured(directory / path, path, span, len(here.layers), sink)
                    tables[scenario.hardware] = found
                if measured := tables[scenario.hardware]:
                    listed = imported_costs(measured, scenario, here, shape, span, sink)
                    scenarios[name] = running(listed, scenario) if scenario.traffic and listed else listed
            case MeasuredHardware():
                pass
    if sink.has_errors:
        raise DiagnosticError(*sink.sorted())
    layers = [_layer_params(own, choice) for own, choice in zip(shape.each, here.layers, strict=True)]
    return CostTable(
        space=space,
        provenance=provenance,
        scenarios=scenarios,
        auto=auto,
        params_fixed=facts.fixed_params(shape),
        params_attention=tuple(attention for attention, _ in layers),
        params_ffn=tuple(ffn for _, ffn in layers),
    )


def merge(*tables: CostTable) -> CostTable:
    """One table of several of the same space. A scenario that is in more than one is taken from the first.

    Raises ValueError when they are of different spaces or there is none.
    """
    if len({table.space for table in tables}) != 1:
        raise ValueError(
            "tables of one space are merged, not of " + (", ".join(t.space for t in tables) or "none")
        )
    scenarios: dict[str, tuple[ScenarioCosts, ...]] = {}
    provenance: dict[str, str] = {}
    inputs: dict[str, str] = {}
    auto: dict[str, int] = {}
    for table in reversed(tables):
        auto = {name: most for name, most in auto.items() if name not in table.scenarios} | table.auto
        scenarios |= table.scenarios
        provenance |= table.provenance
        inputs |= table.inputs
    merged: dict[str, object] = {
        "scenarios": scenarios,
        "provenance": provenance,
        "inputs": inputs,
        "auto": auto,
    }
    merged["timings"] = tuple(timing for table in tables for timing in table.timings)
    return tables[0].model_copy(update=merged)


def with_running_costs(program: Program, table: CostTable) -> CostTable:
    """Return a measured table with the prices, powers and rates that the program states now."""
    table = filled(program, table)
    found = dict(table.scenarios)
    for name, costs in table.scenarios.items():
        scenario = program.scenarios.get(name)
        spec = None if scenario is None else program.hardware[scenario.hardware].spec
        if isinstance(spec, MeasuredHardware) and (spec.usd_per_s is not None or spec.watts is not None):
            found[name] = tuple(each.model_copy(update=running_costs(spec)) for each in costs)
    return table.model_copy(update={"scenarios": found})


def roofline_costs(
    hardware: RooflineHardware, shape: Shape, space: Space, scenario: Scenario
) -> tuple[ScenarioCosts, ...]:
    """One scenario at its batches, ascending.

    Of an `auto` batch: 1, the parent's and the largest that any child fits at; `any_batch` has the others.
    """
    costs = AnyBatch(hardware, shape, space.layers, scenario, space.ends)
    if scenario.traffic is not None:
        return running([costs.at(n + 1) for n in range(scenario.traffic.at_most)], scenario)
    if scenario.batches:
        given: dict[str, object] = {"capacity_bytes": None, "kv_fraction": Fraction(1)}
        return tuple(costs.at(b).model_copy(update=given) for b in sorted(set(scenario.batches)))
    shown = {1, costs.largest([PARENT] * shape.layers), costs.reach[1]} - {0}
    return tuple(map(costs.at, sorted(shown)))


def _layer_params(shape: Shape, choice: LayerChoice) -> tuple[dict[str, int], dict[str, int]]:
    attention, ffn = choice.by_name()
    return (
        {name: a.params(shape) for name, a in attention.items()},
        {name: f.params(shape) for name, f in ffn.items()},
    )
