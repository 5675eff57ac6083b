"""Parent and child in third-party engines, and beside the files that an engine's own quantiser makes of the parent.

Traffic: latency against rate of parent, quantised files and child, simulated, with what was measured under real load beside it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from puzzledsl.costs.metrics import own_costs, whole_metrics
from puzzledsl.costs.simulation import simulated
from puzzledsl.ir.measured_engines import LADDER
from puzzledsl.ir.nodes import Hardware, MeasuredHardware, Scenario, Traffic
from puzzledsl.ir.runtimes import has_ladder, is_joined
from puzzledsl.ir.tables.answers import Assignment, EndsAssignment, LayerAssignment, LoadRun
from puzzledsl.ir.tables.evaluations import Figure, Kept, Ladder
from puzzledsl.ir.tables.summed import ScenarioCosts
from puzzledsl.report.pictures.curves import Curve, Losses, curve_of
from puzzledsl.report.sections.measured import POOLED
from puzzledsl.report.subject import PARENT, Subject


@dataclass(frozen=True)
class LadderTable:
    """All files of an evaluation, from slow to fast, with their `figures`, of which `key` is the speed, and the accuracy `kept`.

    `picture`: their speeds and divergences, with some names.
    """

    ladder: Ladder
    evaluation: str
    key: str
    figures: Mapping[str, Mapping[str, Figure]]
    kept: Mapping[str, Kept | None]
    picture: Curve


def ladders(subject: Subject) -> Iterator[LadderTable]:
    """Yield the ladder of each evaluation that measured one."""
    for declaration, evaluation in subject.evaluations:
        ladder = evaluation.ladder
        own = {} if ladder is None else subject.figures(evaluation, ladder.child)
        key = next((key for key in own if key.endswith(".throughput")), None)
        if ladder is None or key is None:
            continue
        own = own | {"checkpoint_bytes": Figure(value=ladder.child_bytes, unit="bytes")}
        figures = {ladder.child: own} | {model.model: model.figures for model in ladder.models}
        kept = {each.model: each.kept.get(POOLED) for each in (*evaluation.comparisons, *ladder.comparisons)}
        speeds = {name: own[key].value for name, own in figures.items() if key in own}
        timed = sorted(speeds, key=lambda name: speeds[name])
        places = {name: (speeds[name], figures[name]["kl"].value) for name in timed}
        files = {name: place for name, place in places.items() if name != ladder.child}
        named = {ladder.child}
        for name, (speed, loss) in files.items():  # those that no other is both faster and nearer than
            named |= set() if any(s > speed and other < loss for s, other in files.values()) else {name}
        shown = [(name if name in named else "", *places[name]) for name in timed]
        name, labels = f"ladder-{declaration.name}", (f"{key}, tok/s", "KL divergence to the parent")
        picture = curve_of(name, *labels, [], shown, main=ladder.child, unit="tok/s")
        yield LadderTable(ladder, declaration.name, key, {n: figures[n] for n in timed}, kept, picture)


SHARES = (0.05, 0.2, 0.4, 0.6, 0.75, 0.85, 0.92)  # Simulated rates, as shares of what a model sustains.
REQUESTS, WARM_UP = 600, 100


TrafficRow = tuple[str, str, float, dict[str, float]]
"""One model at one rate: the model, how (simulated or measured, and by which seed), the rate, and seconds by metric."""


@dataclass(frozen=True)
class TrafficTable:
    """One scenario: its picture, and each model at the rate that the program says, and each measured run with its simulation."""

    scenario: Scenario
    traffic: Traffic
    picture: Curve
    rows: tuple[TrafficRow, ...]


def traffic_tables(subject: Subject) -> list[TrafficTable]:
    """Return a table for each scenario under traffic whose costs are known."""
    found = []
    for name, scenario in subject.program.scenarios.items():
        listed = subject.costs.scenarios.get(name, ()) if subject.costs else ()
        if scenario.traffic and subject.best and listed and listed[0].rate is not None:
            found.append(_table(subject, scenario, scenario.traffic, listed, subject.best.layers))
    return found


def _table(
    subject: Subject,
    scenario: Scenario,
    traffic: Traffic,
    listed: Sequence[ScenarioCosts],
    child: Sequence[Assignment],
) -> TrafficTable:
    parent = [LayerAssignment(attention=PARENT, ffn=PARENT)] * subject.shape.layers
    check = subject.found.loads.get(subject.name)
    is_of_it = check is not None and (check.scenario, check.layers) == (scenario.name, tuple(child))
    runs = check.runs if check is not None and is_of_it else ()
    hardware = subject.program.hardware[scenario.hardware]
    served = partial(_served, traffic, listed, joined=is_joined(hardware))
    models: dict[str, Sequence[Assignment]] = {"parent": parent, **_files(hardware, listed, parent)}
    models["child"] = child
    at_rates = {name: _line(scenario, listed, served, layers) for name, layers in models.items()}
    others = {name: line for name, line in at_rates.items() if name != "child"}
    lines: list[Losses] = [(f"{name}, simulated", "rule", line) for name, line in others.items()]
    for model, kind in (("child", "best"), ("parent", "optimum")):
        own = [run.measured for run in runs if run.model == model]
        points = sorted((measured["rate"], _whole_s(scenario, measured)) for measured in own)
        lines += [(f"{model}, measured", kind, points)] if points else []  # type: ignore[list-item]
    named = {"child", "parent", max(others, key=lambda name: others[name][-1])}
    ends = [(name if name in named else "", *line[-1]) for name, line in at_rates.items()]
    unit, labels = "requests_per_s", ("requests a second", "seconds a request")
    picture = curve_of(scenario.name, *labels, at_rates["child"], ends, main="child", unit=unit, losses=lines)
    rate = float(traffic.rate)
    rows = ((model, "simulated", rate, served(layers, traffic.rate)) for model, layers in models.items())
    return TrafficTable(scenario, traffic, picture, (*rows, *_measured(runs)))


def _files(
    hardware: Hardware, listed: Sequence[ScenarioCosts], parent: Sequence[LayerAssignment]
) -> dict[str, list[Assignment]]:
    """Return the files of an engine's own quantiser, by name, whose number types have costs in every layer and the head."""
    if not has_ladder(hardware):
        return {}
    assert isinstance(hardware.spec, MeasuredHardware)
    found = dict[str, list[Assignment]]()
    for rung in LADDER:
        types = (rung.recipe.name, rung.head)
        layer, head = (PARENT if t in ("", hardware.spec.dtype) else f"{PARENT}@{t}" for t in types)
        child = [LayerAssignment(attention=layer, ffn=layer)] * len(parent)
        ends = [EndsAssignment(embedding=PARENT, head=head)] if listed[0].ends or head != PARENT else []
        try:
            own_costs(listed, [*child, *ends])
        except KeyError:
            continue
        if layer != PARENT or head != PARENT:
            name = f"{rung.recipe.name}, head {rung.head}" if rung.head else rung.recipe.name
            found[name] = [*child, *ends]
    return found


_Served = Callable[[Sequence[Assignment], Fraction], dict[str, float]]
"""Function from a model's alternatives and a rate, in requests a second, to simulated seconds by metric."""


def _line(
    scenario: Scenario, listed: Sequence[ScenarioCosts], served: _Served, layers: Sequence[Assignment]
) -> list[tuple[float, float]]:
    """Return pairs of a rate, at SHARES of what the model sustains, and the simulated mean seconds of a whole request."""
    top = whole_metrics(listed, layers, own_costs(listed, layers))["max_rate"]
    rates = [top * Fraction(share) for share in SHARES]
    return [(float(r), _whole_s(scenario, served(layers, r))) for r in rates]


def _served(
    traffic: Traffic,
    listed: Sequence[ScenarioCosts],
    layers: Sequence[Assignment],
    rate: Fraction,
    *,
    joined: bool,
) -> dict[str, float]:
    at_rate = traffic.model_copy(update={"rate": rate})
    return simulated(listed, layers, at_rate, REQUESTS, WARM_UP, joined=joined)


def _whole_s(scenario: Scenario, served: dict[str, float]) -> float:
    return served["ttft"] + (scenario.output - 1) * served["tpot"]


def _measured(runs: Sequence[LoadRun]) -> Iterator[TrafficRow]:
    for run in runs:
        yield run.model, f"measured, seed {run.seed}", run.measured["rate"], run.measured
        yield run.model, "its arrivals, simulated", run.predicted["rate"], run.predicted
