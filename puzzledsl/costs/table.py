"""Cost table of a space: every alternative of every layer, in every scenario that needs no measurement on this machine."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError, Sink
from puzzledsl.costs.csv_table import Measured, read_measured
from puzzledsl.costs.imported import imported_costs
from puzzledsl.costs.memory import activation_dtype, head_dtype, peak_flop_per_s
from puzzledsl.costs.metrics import filled, running
from puzzledsl.costs.roofline import AnyBatch
from puzzledsl.ir import facts
from puzzledsl.ir.base import span_of
from puzzledsl.ir.hardware_nodes import running_costs
from puzzledsl.ir.nodes import (
    Hardware,
    MeasuredHardware,
    Program,
    RooflineHardware,
    Scenario,
    Search,
    Shape,
    Space,
    TableHardware,
)
from puzzledsl.ir.references import references
from puzzledsl.ir.tables import PARENT, CostTable, ScenarioCosts, Solution


class NoPeakForDtype(Diagnostic, code="E1001"):
    """A profile without a FLOP rate for a dtype that it computes in."""

    template = "hardware `{name}` has no FLOP/s for {dtype}, which its {role} use"
    help_template = "it has {known}"


def provenance_of(profile: RooflineHardware) -> str:
    """Return a profile's provenance for the cost table: `roofline h100_sxm (TensorRT-LLM; mean error 3.8% held out)`."""
    said = [profile.engine] if profile.engine else []
    if profile.calibration_error is not None:
        said.append(f"mean error {float(profile.calibration_error):.1%} held out")
    else:
        said.append("not calibrated")
    return f"roofline {profile.profile}" + (f" ({'; '.join(said)})" if said else "")


def can_run(hardware: Hardware, profile: RooflineHardware, sink: Sink) -> bool:
    """Report figures that the roofline needs and the profile lacks; return True if there are none."""
    span, name, before = span_of(hardware.where), hardware.name, len(sink.items)
    for dtype, role in ((activation_dtype(profile), "activations"), (head_dtype(profile), "head")):
        try:
            peak_flop_per_s(profile, dtype)
        except KeyError:
            known = ", ".join(profile.flop_per_s) or "none"
            sink.add(NoPeakForDtype(span, name=name, dtype=dtype, role=role, known=known))
    return len(sink.items) == before


def notes(program: Program, search: Search, best: Solution) -> list[str]:
    """Return the profiles without a calibration by which a search predicts, in words."""
    named, found = set(references(search)), list[str]()
    for name in (name for name in best.batches if name in named):
        scenario = program.scenarios[name]
        spec = program.hardware[scenario.hardware].spec
        if isinstance(spec, RooflineHardware) and spec.calibration_error is None and not scenario.traffic:
            found.append(f"{name}: profile {spec.profile} is not calibrated")
    return found


def cost_table(program: Program, space: str, base: Path | None = None) -> CostTable:
    """Costs of a space in every scenario that is not `measured`; tables' paths start from `base`. Raises DiagnosticError."""
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
    layers = [(own, *choice.by_name()) for own, choice in zip(shape.each, here.layers, strict=True)]
    return CostTable(
        space=space,
        provenance=provenance,
        scenarios=scenarios,
        auto=auto,
        params_fixed=facts.fixed_params(shape),
        params_attention=tuple(
            {n: a.params(own) for n, a in attention.items()} for own, attention, _ in layers
        ),
        params_ffn=tuple({n: f.params(own) for n, f in ffn.items()} for own, _, ffn in layers),
    )


def merge(*tables: CostTable) -> CostTable:
    """One table of several of the same space; of a scenario in several, the first counts. Raises ValueError otherwise."""
    if len({table.space for table in tables}) != 1:
        raise ValueError(
            "tables of one space are merged, not of " + (", ".join(t.space for t in tables) or "none")
        )
    auto: dict[str, int] = {}
    merged: dict[str, dict[str, object]] = {"scenarios": {}, "provenance": {}, "inputs": {}}
    for table in reversed(tables):
        auto = {name: most for name, most in auto.items() if name not in table.scenarios} | table.auto
        for name, known in merged.items():
            known |= getattr(table, name)
    timings = tuple(timing for table in tables for timing in table.timings)
    return tables[0].model_copy(update={**merged, "auto": auto, "timings": timings})


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
    """One scenario at its batches, ascending; of an `auto` batch 1, the parent's and the largest of any child."""
    costs = AnyBatch(hardware, shape, space.layers, scenario, space.ends)
    if scenario.traffic is not None:
        return running([costs.at(n + 1) for n in range(scenario.traffic.at_most)], scenario)
    if scenario.batches:
        given: dict[str, object] = {"capacity_bytes": None, "kv_fraction": Fraction(1)}
        return tuple(costs.at(b).model_copy(update=given) for b in sorted(set(scenario.batches)))
    shown = {1, costs.largest([PARENT] * shape.layers), costs.reach[1]} - {0}
    return tuple(map(costs.at, sorted(shown)))
