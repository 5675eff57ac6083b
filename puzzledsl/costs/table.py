"""Cost table of a space: every alternative of every layer, in every scenario that needs no measurement on this machine.

In a table that was measured elsewhere, costs that the space needs and that are missing are reported as diagnostics.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError, Mistake, Sink, Span
from puzzledsl.base.phrases import closest, layers_in_words
from puzzledsl.costs.csv_table import Measured, Row, TableCell, read_measured
from puzzledsl.costs.flops import Workload, fixed_flop, sub_block_flop
from puzzledsl.costs.memory import activation_dtype, head_dtype, peak_flop_per_s
from puzzledsl.costs.metrics import filled, running
from puzzledsl.costs.roofline import FREE, NS_PER_S, AnyBatch
from puzzledsl.ir import facts, nodes
from puzzledsl.ir.base import span_of
from puzzledsl.ir.hardware_nodes import running_costs
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.references import references
from puzzledsl.ir.tables import PARENT, Cost, CostTable, ScenarioCosts, Solution

TableMetrics = Mistake(
    "E1013",
    "`{path}` gives neither sizes nor times of scenario `{scenario}`",
    "add columns such as `{scenario}.memory[bytes]` and `{scenario}.latency[us]`",
)
TableMissing = Mistake(
    "E1015", "`{path}` has no cost of {what} for scenario `{scenario}` in {layers}", "{help}"
)
TableBatch = Mistake("E1016", "`{path}` has no rows for scenario `{scenario}` at batch {batch}", "{help}")


Key = tuple[str, str]  # names of attention and ffn; for a single sub-block, the other one is empty


@dataclass(slots=True)
class _Names:
    """The alternatives and pairs of one layer that need costs, and the layer's shape."""

    shape: nodes.Shape
    attention: Mapping[str, Alternative]
    ffn: Mapping[str, Alternative]
    pairs: set[Key]


def _asked(space: nodes.Space, shape: nodes.Shape) -> list[_Names]:
    """Return, for every layer, the space's alternatives and the parent's, and the pairs of a child or of the parent."""
    layers = []
    for own, choice in zip(shape.each, space.layers, strict=True):
        pairs = {(a.name, f.name) for a in choice.attention for f in choice.ffn} | {("parent", "parent")}
        layers.append(_Names(own, *choice.by_name(), pairs))
    return layers


def imported_costs(
    table: Measured, scenario: nodes.Scenario, space: nodes.Space, shape: nodes.Shape, span: Span, sink: Sink
) -> tuple[ScenarioCosts, ...]:
    """Return a scenario's costs at each batch, ascending; empty if `table` has no sizes or times of it. Mistakes go to `sink`."""
    if len(_unknown(table.metrics.get(scenario.name, frozenset()))) >= len(SIZES + TIMES):
        sink.add(TableMetrics(span, path=table.path, scenario=scenario.name))
        return ()
    rows = [row for row in table.rows if row.values.get(scenario.name)]
    measured = sorted({row.batch for row in rows if row.batch is not None})
    wanted = tuple(measured if scenario.traffic else sorted(set(scenario.batches)) or measured)
    found: list[ScenarioCosts] = []
    for batch in wanted:
        here = [row for row in rows if row.batch in (batch, None)]
        if measured and batch not in measured:
            help = "the table was measured at " + ", ".join(str(b) for b in measured)
            sink.add(TableBatch(span, path=table.path, scenario=scenario.name, batch=batch, help=help))
        else:
            found.append(_at_batch(table, scenario, batch, here, space, shape, span, sink))
    if not measured and len(wanted) != 1:
        what = " | ".join(str(b) for b in wanted) or "auto"
        help = "one batch a scenario, or a `batch` column with rows for each"
        sink.add(TableBatch(span, path=table.path, scenario=scenario.name, batch=f"`{what}`", help=help))
    return tuple(found)


SIZES = ("memory", "weights", "kv_cache")
TIMES = ("latency", "ttft", "tpot", "throughput")
_PARTS = {"weights_bytes": "weights", "kv_cache_bytes": "kv_cache", "prefill_ns": "ttft", "decode_ns": "tpot"}
"""Field of a cost -> the metric that consists of this field alone."""


def _unknown(metrics: frozenset[str]) -> tuple[str, ...]:
    """Return the metrics that a scenario's columns do not determine, including the parts of a total that is given alone."""
    parts = {"weights", "kv_cache"}
    if parts <= metrics:
        sizes: tuple[str, ...] = ()
    elif "memory" in metrics:
        sizes = () if parts & metrics else ("weights", "kv_cache")  # the other part is the rest
    else:
        sizes = SIZES
    times: tuple[str, ...] = ()
    if not {"ttft", "tpot"} <= metrics:
        times = ("ttft", "tpot") if "latency" in metrics else TIMES
    unknown = sizes + times
    others = (m for m in METRICS.values() if m.name not in SIZES + TIMES)
    return unknown + tuple(m.name for m in others if any(_PARTS.get(part) in unknown for part in m.of_costs))


def _at_batch(
    table: Measured,
    scenario: nodes.Scenario,
    batch: int,
    rows: list[Row],
    space: nodes.Space,
    shape: nodes.Shape,
    span: Span,
    sink: Sink,
) -> ScenarioCosts:
    asked, fixed = _asked(space, shape), FREE
    layers: list[dict[Key, Cost]] = [{} for _ in asked]
    seen: dict[tuple[int | None, str, str], int] = {}
    # rows for every layer first: others overrule them
    for row in sorted(rows, key=lambda r: r.layer is not None):
        where = (row.layer, row.attention, row.ffn)
        cost = _cost(row, scenario, table, sink)
        if cost is None:
            continue
        if where in seen:
            again = f"this is line {seen[where]} again: the same layer, attention and ffn"
            sink.add(_cell(table, row, again))
        seen[where] = row.span.line
        work = Workload(batch, scenario.prompt, scenario.output)
        if not row.attention and not row.ffn:
            flop = dict.fromkeys(("prefill_flop", "decode_flop"), fixed_flop(shape, work))
            fixed = cost.model_copy(update=flop)
        else:
            known: dict[tuple[int, int], Cost] = {}  # by the FLOP
            for index in range(len(asked)) if row.layer is None else (row.layer,):
                prefill, decode = of_both = _flop(row, asked[index], work)
                if of_both not in known:
                    known[of_both] = cost.model_copy(update={"prefill_flop": prefill, "decode_flop": decode})
                layers[index][row.attention, row.ffn] = known[of_both]
    both = [*zip(layers, asked, strict=True)]
    for costs, names in both:
        removed = [(a.name, "") for a in names.attention.values() if a.removes]
        removed += [("", f.name) for f in names.ffn.values() if f.removes]
        for key in removed:
            costs.setdefault(key, FREE)
    _report_missing(both, table, scenario.name, span, sink)
    pairs = tuple(
        {f"{a}/{f}": cost for (a, f), cost in costs.items() if (a, f) in names.pairs} for costs, names in both
    )
    return ScenarioCosts(
        scenario=scenario.name,
        batch=batch,
        prompt=scenario.prompt,
        output=scenario.output,
        fixed=fixed,
        attention=tuple({a: c for (a, f), c in of.items() if a in n.attention and not f} for of, n in both),
        ffn=tuple({f: c for (a, f), c in of.items() if f in n.ffn and not a} for of, n in both),
        pairs=pairs if any(pairs) else (),
        unknown=_unknown(table.metrics[scenario.name]),
    )


def _cost(row: Row, scenario: nodes.Scenario, table: Measured, sink: Sink) -> Cost | None:
    """Return the costs of a row; None, reported, for an empty cell. `memory` alone is weights, `latency` alone prefill."""
    values = row.values[scenario.name]
    missing = table.metrics[scenario.name] - set(values)
    if missing:
        problem = f"`{scenario.name}.{min(missing)}` is empty while others of the scenario are not"
        sink.add(_cell(table, row, problem))
        return None
    ttft, tpot = values.get("ttft"), values.get("tpot")
    if tpot is None or ttft is None:
        ttft, tpot = values.get("latency", Fraction(0)), Fraction(0)
    cache = values.get("kv_cache", Fraction(0))
    weights = values.get("weights")
    if weights is None:
        weights = max(values.get("memory", Fraction(0)) - cache, Fraction(0))
    elif "kv_cache" not in values:
        cache = max(values.get("memory", Fraction(0)) - weights, Fraction(0))
    return Cost(
        params=row.params or 0,
        weights_bytes=ceil(weights),
        kv_cache_bytes=ceil(cache),
        prefill_ns=ceil(ttft * NS_PER_S),
        decode_ns=ceil(tpot * NS_PER_S),
    )


def _flop(row: Row, names: _Names, work: Workload) -> tuple[int, int]:
    """Return the FLOP (prefill, decode step) of a row in one layer, counted from its shape: tables have no FLOP."""
    found = (names.attention.get(row.attention), names.ffn.get(row.ffn))
    flop = [sub_block_flop(names.shape, a, work) for a in found if a]
    return sum(prefill for prefill, _ in flop), sum(decode for _, decode in flop)


def _cell(table: Measured, row: Row, problem: str) -> Diagnostic:
    return TableCell(row.span, path=table.path, line=f"line {row.span.line}", problem=problem, help="")


def _report_missing(
    layers: list[tuple[dict[Key, Cost], _Names]], table: Measured, scenario: str, span: Span, sink: Sink
) -> None:
    """Report each alternative or pair that has neither a row of its own nor rows of its two sub-blocks."""
    absent: dict[str, list[int]] = {}
    for index, (costs, names) in enumerate(layers):
        for a, f in sorted(names.pairs):
            if (a, f) in costs:
                continue
            lacking = [k for k in ((a, ""), ("", f)) if k not in costs]
            only_pairs = any(x and y for x, y in costs)
            if only_pairs and len(lacking) == 2:
                absent.setdefault(f"attention `{a}` with ffn `{f}`", []).append(index)
            else:
                for x, y in lacking:
                    where = absent.setdefault(f"attention `{x}`" if x else f"ffn `{y}`", [])
                    if index not in where:
                        where.append(index)
    present = {name for row in table.rows for name in (row.attention, row.ffn) if name}
    for what, indices in absent.items():
        near = closest(what.split("`")[1], sorted(present))
        known = "names are those of the space: " + ", ".join(sorted(present)[:12])
        said: dict[str, Any] = {
            "what": what,
            "layers": layers_in_words(indices),
            "help": f"the table has `{near}`" if near else known,
        }
        sink.add(TableMissing(span, path=table.path, scenario=scenario, **said))


NoPeakForDtype = Mistake(
    "E1001", "hardware `{name}` has no FLOP/s for {dtype}, which its {role} use", "it has {known}"
)


def provenance_of(profile: nodes.RooflineHardware) -> str:
    """Return a profile's provenance for the cost table: `roofline h100_sxm (TensorRT-LLM; mean error 3.8% held out)`."""
    error = profile.calibration_error
    known = "not calibrated" if error is None else f"mean error {float(error):.1%} held out"
    return f"roofline {profile.profile} ({'; '.join(filter(None, (profile.engine, known)))})"


def can_run(hardware: nodes.Hardware, profile: nodes.RooflineHardware, sink: Sink) -> bool:
    """Report figures that the roofline needs and the profile lacks; return True if there are none."""
    span, name, before = span_of(hardware.where), hardware.name, len(sink.items)
    for dtype, role in ((activation_dtype(profile), "activations"), (head_dtype(profile), "head")):
        try:
            peak_flop_per_s(profile, dtype)
        except KeyError:
            known = ", ".join(profile.flop_per_s) or "none"
            sink.add(NoPeakForDtype(span, name=name, dtype=dtype, role=role, known=known))
    return len(sink.items) == before


def notes(program: nodes.Program, search: nodes.Search, best: Solution) -> list[str]:
    """Return a sentence for each scenario that a search reads whose profile is not calibrated; none for traffic."""
    named, found = set(references(search)), list[str]()
    for name in (name for name in best.batches if name in named):
        scenario = program.scenarios[name]
        spec = program.hardware[scenario.hardware].spec
        if (
            isinstance(spec, nodes.RooflineHardware)
            and spec.calibration_error is None
            and not scenario.traffic
        ):
            found.append(f"{name}: profile {spec.profile} is not calibrated")
    return found


def cost_table(program: nodes.Program, space: str, base: Path | None = None) -> CostTable:
    """Return a space's costs in all but measured scenarios; tables lie in `base`, else by the program. Raises DiagnosticError."""
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
            case nodes.RooflineHardware() as spec:
                provenance[name] = provenance_of(spec)
                if can_run(hardware, spec, sink):
                    scenarios[name] = roofline_costs(spec, shape, here, scenario)
                    auto |= {} if scenario.batches else {name: spec.max_batch}
            case nodes.TableHardware(path=path):
                provenance[name] = f"table {path}"
                span = span_of(hardware.where)
                if scenario.hardware not in tables:
                    found = read_measured(directory / path, path, span, len(here.layers), sink)
                    tables[scenario.hardware] = found
                if measured := tables[scenario.hardware]:
                    listed = imported_costs(measured, scenario, here, shape, span, sink)
                    scenarios[name] = running(listed, scenario) if scenario.traffic and listed else listed
            case nodes.MeasuredHardware():
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
        params_attention=tuple({n: a.params(own) for n, a in of.items()} for own, of, _ in layers),
        params_ffn=tuple({n: f.params(own) for n, f in ffn.items()} for own, _, ffn in layers),
    )


def merge(*tables: CostTable) -> CostTable:
    """Return the union of tables of one space; the first with a scenario counts. Raises ValueError for several spaces or none."""
    if len({table.space for table in tables}) != 1:
        named = ", ".join(table.space for table in tables) or "none"
        raise ValueError(f"tables of one space are merged, not of {named}")
    auto: dict[str, int] = {}
    merged: dict[str, dict[str, object]] = {"scenarios": {}, "provenance": {}, "inputs": {}}
    for table in reversed(tables):
        auto = {name: most for name, most in auto.items() if name not in table.scenarios} | table.auto
        for name, known in merged.items():
            known |= getattr(table, name)
    timings = tuple(timing for table in tables for timing in table.timings)
    return tables[0].model_copy(update={**merged, "auto": auto, "timings": timings})


def with_running_costs(program: nodes.Program, table: CostTable) -> CostTable:
    """Return a measured table with the prices, powers and rates that the program states now."""
    table = filled(program, table)
    found = dict(table.scenarios)
    for name, costs in table.scenarios.items():
        scenario = program.scenarios.get(name)
        spec = None if scenario is None else program.hardware[scenario.hardware].spec
        if isinstance(spec, nodes.MeasuredHardware) and (spec.usd_per_s, spec.watts) != (None, None):
            found[name] = tuple(each.model_copy(update=running_costs(spec)) for each in costs)
    return table.model_copy(update={"scenarios": found})


def roofline_costs(
    hardware: nodes.RooflineHardware, shape: nodes.Shape, space: nodes.Space, scenario: nodes.Scenario
) -> tuple[ScenarioCosts, ...]:
    """Return a scenario's costs at its batches, ascending; if `auto`, at 1 and at the largest of the parent and of any child."""
    costs = AnyBatch(hardware, shape, space.layers, scenario, space.ends)
    if scenario.traffic is not None:
        return running([costs.at(n + 1) for n in range(scenario.traffic.at_most)], scenario)
    if scenario.batches:
        given: dict[str, object] = {"capacity_bytes": None, "kv_fraction": Fraction(1)}
        return tuple(costs.at(b).model_copy(update=given) for b in sorted(set(scenario.batches)))
    shown = {1, costs.largest([PARENT] * shape.layers), costs.reach[1]} - {0}
    return tuple(map(costs.at, sorted(shown)))
