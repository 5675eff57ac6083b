"""The cost of every alternative of every layer of a space, in every scenario that needs no measuring on this
machine."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from puzzledsl.cost.csv_table import read_measured
from puzzledsl.cost.errors import span_of
from puzzledsl.cost.flops import Workload
from puzzledsl.cost.imported import imported_costs
from puzzledsl.cost.profile import can_run, provenance_of
from puzzledsl.cost.roofline import fixed_cost, sub_block_cost
from puzzledsl.diagnostics import DiagnosticError, Sink
from puzzledsl.ir import facts
from puzzledsl.ir.alternatives import (
    AttentionAlternative,
    FfnAlternative,
    ParentAttention,
    ParentFfn,
    name_of,
)
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
from puzzledsl.ir.tables import Cost, CostTable, ScenarioCosts


def cost_table(program: Program, space: str, base: Path | None = None) -> CostTable:
    """Costs of a space in every scenario on a roofline or table hardware; `measured` hardware is left out.

    `base` is the directory that tables' paths start from (default: the `.pzl` file's). An `auto` batch gets
    the powers of two up to the profile's `max_batch` that some child fits at. Raises DiagnosticError for a
    profile or a table that does not do.
    """
    here, sink = program.spaces[space], Sink()
    shape = program.parents[here.parent].shape
    directory = Path(program.source).parent if base is None else base
    scenarios: dict[str, tuple[ScenarioCosts, ...]] = {}
    provenance: dict[str, str] = {}
    for name, scenario in program.scenarios.items():
        hardware = program.hardware[scenario.hardware]
        match hardware.spec:
            case RooflineHardware() as spec:
                provenance[name] = provenance_of(spec)
                if can_run(hardware, spec, sink):
                    scenarios[name] = roofline_costs(spec, shape, here, scenario)
            case TableHardware(path=path):
                provenance[name] = f"table {path}"
                span = span_of(hardware.where)
                if measured := read_measured(directory / path, path, span, len(here.layers), sink):
                    scenarios[name] = imported_costs(measured, scenario, here, shape, span, sink)
            case MeasuredHardware():
                pass
    if sink.has_errors:
        raise DiagnosticError(*sink.sorted())
    layers = [_layer_params(shape, choice) for choice in here.layers]
    return CostTable(
        space=space,
        provenance=provenance,
        scenarios=scenarios,
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
    for table in reversed(tables):
        scenarios |= table.scenarios
        provenance |= table.provenance
        inputs |= table.inputs
    return tables[0].model_copy(update={"scenarios": scenarios, "provenance": provenance, "inputs": inputs})


def roofline_costs(
    hardware: RooflineHardware, shape: Shape, space: Space, scenario: Scenario
) -> tuple[ScenarioCosts, ...]:
    """One scenario at each candidate batch, ascending."""
    if scenario.batches:
        return tuple(_at_batch(hardware, shape, space, scenario, b) for b in sorted(set(scenario.batches)))
    candidates = [1 << power for power in range(hardware.max_batch.bit_length())]
    tables: list[ScenarioCosts] = []
    for batch in candidates:
        table = _at_batch(hardware, shape, space, scenario, batch)
        if tables and not _something_fits(hardware, table):
            break  # a larger batch needs more
        tables.append(table.model_copy(update={"capacity_bytes": hardware.memory_bytes}))
    return tuple(tables)


def _at_batch(
    hardware: RooflineHardware, shape: Shape, space: Space, scenario: Scenario, batch: int
) -> ScenarioCosts:
    work = Workload(batch, scenario.prompt, scenario.output)
    known: dict[AttentionAlternative | FfnAlternative, Cost] = {}

    def cost(alternative: AttentionAlternative | FfnAlternative) -> Cost:
        if alternative not in known:
            known[alternative] = sub_block_cost(hardware, shape, alternative, work)
        return known[alternative]

    layers: dict[LayerChoice, tuple[dict[str, Cost], dict[str, Cost]]] = {}
    for choice in space.layers:
        if choice not in layers:
            attention, ffn = _with_parent(choice)
            layers[choice] = (
                {name: cost(a) for name, a in attention.items()},
                {name: cost(f) for name, f in ffn.items()},
            )
    return ScenarioCosts(
        scenario=scenario.name,
        batch=batch,
        prompt=scenario.prompt,
        output=scenario.output,
        fixed=fixed_cost(hardware, shape, work),
        reserve_bytes=hardware.reserve_bytes,
        attention=tuple(layers[choice][0] for choice in space.layers),
        ffn=tuple(layers[choice][1] for choice in space.layers),
    )


def _something_fits(hardware: RooflineHardware, costs: ScenarioCosts) -> bool:
    """Whether the smallest child fits: its cache in the profile's share of what reserve and weights leave."""
    weights, cache = costs.fixed.weights_bytes, 0
    for attention, ffn in zip(costs.attention, costs.ffn, strict=True):
        weights += min(c.weights_bytes for c in attention.values()) + min(
            c.weights_bytes for c in ffn.values()
        )
        cache += min(c.kv_cache_bytes for c in attention.values())
    free: int = hardware.memory_bytes - hardware.reserve_bytes - weights
    return cache <= free * Fraction(hardware.kv_fraction)


def _with_parent(choice: LayerChoice) -> tuple[dict[str, AttentionAlternative], dict[str, FfnAlternative]]:
    attention = {name_of(a): a for a in (*choice.attention, ParentAttention())}
    ffn = {name_of(f): f for f in (*choice.ffn, ParentFfn())}
    return attention, ffn


def _layer_params(shape: Shape, choice: LayerChoice) -> tuple[dict[str, int], dict[str, int]]:
    attention, ffn = _with_parent(choice)
    return (
        {name: facts.params(a, shape) for name, a in attention.items()},
        {name: facts.params(f, shape) for name, f in ffn.items()},
    )
