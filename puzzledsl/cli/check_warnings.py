"""Warnings that only `pzl check` gives: of texts that are missing or used twice, and of bounds that costs make vacuous.

Later stages read the files and costs that are looked at here; the checker reads neither.

Layers are chosen independently, so a child of extreme layers is extreme. An upper bound on metrics in absolute units that all
children meet is a guard, and so is a lower one on throughput. Only scenarios whose costs are known before measuring count: those
of a profile or a table, at batches that the program lists, or under traffic at the numbers of sequences that some child runs at.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from puzzledsl.base.diagnostics import Args, Diagnostic, DiagnosticError, Span
from puzzledsl.base.files import matching
from puzzledsl.base.frozen import record
from puzzledsl.base.phrases import listed
from puzzledsl.base.units import format_quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.errors import AlwaysHolds, NeverHolds
from puzzledsl.costs.metrics import (
    costs_of_layer,
    fits,
    linear_metrics,
    metrics_of,
    own_costs,
    room_of,
)
from puzzledsl.costs.traffic import with_loads
from puzzledsl.ir import nodes
from puzzledsl.ir.logic import compared
from puzzledsl.ir.metric_records import METRICS, PER_SECOND, place_of
from puzzledsl.ir.references import overlap, references, sources_of
from puzzledsl.ir.tables import Assignment, Cost, CostTable, EndsAssignment, LayerAssignment, ScenarioCosts

TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
"""Files and folders of a tokenizer that have a chat template."""


def check_warnings(ctx: Context, program: nodes.Program, told: Container[Span | None]) -> list[Diagnostic]:
    """Return every warning. Bounds at the places `told` have one already."""
    readers = _users(program)
    return [
        *_metric_warnings(ctx, program, told),
        *_missing_files(ctx, program, readers),
        *_without_template(ctx, program, readers),
        *_measured_on(ctx, program),
    ]


# ---------------------------------------------------------------- bounds on metrics


@record
class _MetricSum:
    """A weighted sum of one scenario's metrics: the left side of a bound."""

    scenario: str
    terms: tuple[tuple[Fraction, str], ...]
    constant: Fraction

    @classmethod
    def of(cls, left: nodes.Linear) -> _MetricSum | None:
        """Return the sum; None where there are other terms, a batch or several scenarios."""
        metrics = [
            w.term for w in left.terms if isinstance(w.term, nodes.MetricTerm) and w.term.metric != "batch"
        ]
        scenarios = {term.scenario for term in metrics}
        if len(metrics) != len(left.terms) or len(scenarios) != 1:
            return None
        terms = zip((w.coefficient for w in left.terms), (term.metric for term in metrics), strict=True)
        return cls(scenarios.pop(), tuple(terms), left.constant)

    def value(self, metrics: Mapping[str, Fraction]) -> Fraction:
        """Return the sum for a model with these metrics."""
        return self.constant + sum(coefficient * metrics[name] for coefficient, name in self.terms)

    def extremes(self, costs: ScenarioCosts, space: nodes.Space) -> list[Fraction]:
        """Return the least and the greatest sum; of an amount a second, those with the most and the least latency."""
        linear = linear_metrics(costs)
        parts = [(c, linear["latency" if name in PER_SECOND else name]) for c, name in self.terms]

        def use(cost: Cost) -> Fraction:
            return sum((c * m.unit * m.of(cost) for c, m in parts), Fraction(0))

        values = [self.value(metrics_of(costs, child)) for child in _extreme(costs, space, use)]
        return [min(values), max(values)]

    def listed(self, table: CostTable) -> Sequence[ScenarioCosts]:
        """Return the costs at each batch, or number of sequences; none of traffic whose order in these numbers is not known."""
        places = {place_of(self.scenario, metric) for _, metric in self.terms}
        found = table.scenarios.get(self.scenario, ())
        if not found or found[0].rate is None:
            return found
        is_rising = len(places) == 1 and all(coefficient > 0 for coefficient, _ in self.terms)
        return with_loads(table).scenarios[places.pop()] if is_rising else ()


def _extreme(
    costs: ScenarioCosts, space: nodes.Space, use: Callable[[Cost], int | Fraction]
) -> list[list[Assignment]]:
    """Return the children whose layers all use the least, and the most, of something, with each choice of the ends."""
    children: tuple[list[Assignment], list[Assignment]] = [], []
    for layer, own in enumerate(space.layers):
        pairs = [LayerAssignment(attention=a.name, ffn=f.name) for a in own.attention for f in own.ffn]
        uses = {pair: sum(use(cost) for cost in costs_of_layer(costs, layer, pair)) for pair in pairs}
        for child, extreme in zip(children, (min, max), strict=True):
            child.append(extreme(pairs, key=uses.__getitem__))
    ends: list[tuple[EndsAssignment, ...]] = [()]
    if space.ends is not None:
        ends = [(EndsAssignment.of(name),) for name in space.ends.offered]
    return [[*child, *both] for child in children for both in ends]


def _ends(listed: Sequence[ScenarioCosts], space: nodes.Space) -> Sequence[ScenarioCosts]:
    """Return the costs to judge: all; under traffic, whose times and bytes grow with it, the least and most that children run at.

    That is the least number of sequences at which the fastest child sustains the rate, and at which the slowest one does, too.
    """
    if not listed or listed[0].rate is None:
        return listed

    def sustained(costs: ScenarioCosts) -> list[bool]:
        room = room_of(costs)
        assert room is not None
        return [fits(costs, child) for child in _extreme(costs, space, room.of)]

    first = bisect_left(listed, True, key=lambda costs: any(sustained(costs)))
    last = bisect_left(listed, True, key=lambda costs: all(sustained(costs)))
    return [listed[min(end, len(listed) - 1)] for end in (first, last)]


def _metric_warnings(
    ctx: Context, program: nodes.Program, told: Container[Span | None]
) -> Iterator[Diagnostic]:
    """Yield a warning for each bound on metrics that excludes no child of the space, or every child."""
    tables: dict[str, CostTable | None] = {}
    said: set[Span | None] = set()
    judged: set[tuple[nodes.Where, str]] = set()
    for search in program.searches.values():
        for requirement in search.requirements:
            left = (
                _MetricSum.of(requirement.left) if isinstance(requirement, nodes.LinearRequirement) else None
            )
            if left is None or not _is_known(program, program.scenarios[left.scenario]):
                continue
            assert isinstance(requirement, nodes.LinearRequirement)
            if (key := (requirement.bound_where, search.space)) in judged:  # a search of another has the same
                continue
            judged.add(key)
            if search.space not in tables:
                tables[search.space] = _costs(program, search.space, ctx.root.path.parent)
            table, span = tables[search.space], ctx.span_of(requirement.bound_where)
            found = None if table is None else _judged(program.spaces[search.space], table, requirement, left)
            if found is not None and span not in told and span not in said:
                said.add(span)
                yield found(span)


def _is_known(program: nodes.Program, scenario: nodes.Scenario) -> bool:
    """Return True for a scenario whose costs are known before measuring, at the batches that the program lists."""
    match program.hardware[scenario.hardware].spec:
        case nodes.RooflineHardware():
            return bool(scenario.batches) or scenario.traffic is not None
        case nodes.TableHardware():
            return True
        case nodes.MeasuredHardware():
            return False


def _costs(program: nodes.Program, space: str, base: Path) -> CostTable | None:
    """Return the costs of a space; None where a table is not there or wrong, which other commands report."""
    from puzzledsl.costs.table import cost_table  # which most programs do without

    try:
        return cost_table(program, space, base)
    except DiagnosticError:
        return None


def _judged(
    space: nodes.Space, table: CostTable, requirement: nodes.LinearRequirement, left: _MetricSum
) -> Callable[[Span], Diagnostic] | None:
    """Return the warning that a bound deserves at every batch of its scenario; None for a bound that some children meet."""
    ratio, found, ends = requirement.parent_ratio, set[bool | None](), list[Fraction]()
    parent = [LayerAssignment(attention="parent", ffn="parent")] * len(space.layers)
    listed = left.listed(table)
    for costs in _ends(listed, space):
        if {metric for _, metric in left.terms} & {*costs.unknown}:
            return None
        values = left.extremes(costs, space)
        own = costs if costs.rate is None else own_costs(listed, parent)
        one = 1 if ratio is None else left.value(metrics_of(own, parent))
        bound = requirement.bound if ratio is None else ratio * one
        assert bound is not None
        found.add(compared((values[0], values[1]), requirement.op, bound))
        ends += [value / one for value in values]
    metric = METRICS[left.terms[0][1]]
    # in absolute units on the worse side a bound is a guard: it costs nothing, and another space may need it
    is_guard = ratio is None and requirement.op.startswith(">" if metric.better == "more" else "<")
    if found != {False} and (found != {True} or is_guard):
        return None
    low, high = min(ends), max(ends)
    first, last = (
        format_quantity(end, metric.dimension) if ratio is None else f"{float(end):.4g}x"
        for end in (low, high)
    )
    limit = requirement.bound if ratio is None else ratio
    assert limit is not None
    reach = f"at most {last}" if limit >= high else f"at least {first}"
    said: Args = {
        "bound": f"`{requirement.where.text}` is {reach}",
        "help": f"it goes from {first} to {last}",
    }
    kind = AlwaysHolds if found == {True} else NeverHolds
    return lambda span: kind(span, space=space.name, **said)


# ---------------------------------------------------------------- text that is missing


def _users(program: nodes.Program) -> dict[str, list[str]]:
    """Return for each data set the declarations of stages that read it, directly or as a part of another."""
    stages: dict[str, Mapping[str, object]] = {
        "bld": program.blds,
        "score": program.scores,
        "judge": program.judges,
        "search": program.searches,
        "uptrain": program.uptrains,
        "eval": program.evals,
    }
    found: dict[str, list[str]] = {}
    parts = {name: set(references(data)) & program.data.keys() for name, data in program.data.items()}
    for kind, declared in stages.items():
        for name, node in declared.items():
            for data in _with_parts(parts, set(references(node)) & program.data.keys()):
                found.setdefault(data, []).append(f"{kind} `{name}`")
    return found


def _with_parts(parts: Mapping[str, set[str]], names: set[str]) -> set[str]:
    """Return data sets and the parts of those that are mixtures. `parts`: those of each data set."""
    inner = set().union(*(parts[name] for name in names))
    return names | _with_parts(parts, inner) if inner - names else names | inner


def _missing_files(
    ctx: Context, program: nodes.Program, readers: Mapping[str, list[str]]
) -> Iterator[Diagnostic]:
    """Yield a warning for each path or glob of a text, or of a task's items, that matches no file."""
    from puzzledsl.data.errors import FileMissing

    for pattern, where, who in (*_texts(program, readers), *_items(program)):
        if not matching(ctx.root.path.parent, pattern):
            yield FileMissing(ctx.span_of(where), pattern=pattern, readers=who)


def _texts(
    program: nodes.Program, readers: Mapping[str, list[str]]
) -> Iterator[tuple[str, nodes.Where, str]]:
    for name, data in program.data.items():
        if name in readers:
            who = listed(readers[name], "and")
            yield from ((path, data.where, who) for path in dict.fromkeys(_own_paths(data)))


def _own_paths(data: nodes.Data) -> Iterator[str]:
    """Yield the paths of a text and of those parts of a mix that have no declaration of their own."""
    parts = data.source.parts if isinstance(data.source, nodes.MixData) else ()
    for source in (data.source, *(part.source for part in parts if part.inline)):
        if isinstance(source, nodes.TextData | nodes.JsonlData | nodes.ParquetData | nodes.TaskData):
            yield from source.paths


def _items(program: nodes.Program) -> Iterator[tuple[str, nodes.Where, str]]:
    for name, evaluation in program.evals.items():
        given = evaluation.prompts.path if evaluation.prompts is not None else None
        paths = (*evaluation.tasks, *([given] if given else ()))
        yield from ((path, evaluation.where, f"eval `{name}`") for path in paths)
    for name, judge in program.judges.items():
        yield from ((path, judge.where, f"judge `{name}`") for path in judge.tasks)
    for name, score in program.scores.items():
        if isinstance(score.method, nodes.ReplaceOne) and score.method.tasks:
            yield score.method.tasks, score.where, f"score `{name}`"


# ---------------------------------------------------------------- text that a stage cannot use, or uses twice


def _without_template(
    ctx: Context, program: nodes.Program, readers: Mapping[str, list[str]]
) -> Iterator[Diagnostic]:
    """Yield a warning for each text whose conversations a parent has no chat template for."""
    from puzzledsl.data.errors import TemplateNotThere

    parents = [p.source.id for p in program.parents.values() if isinstance(p.source, nodes.HfSource)]
    lacking = [path for path in parents if _lacks_template(ctx.root.path.parent / path)]
    for name, data in program.data.items():
        chats = (isinstance(s, nodes.Rows) and s.messages is not None for s in sources_of(data))
        for path in lacking if name in readers and any(chats) else ():
            yield TemplateNotThere(
                ctx.span_of(data.where), name=name, path=path, readers=listed(readers[name])
            )


def _lacks_template(folder: Path) -> bool:
    """Return True for a checkpoint's directory whose tokenizer has no chat template."""
    if not any(folder.glob("tokenizer*")) or any((folder / name).exists() for name in TEMPLATES):
        return False
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and not config.get("chat_template")


def _measured_on(ctx: Context, program: nodes.Program) -> Iterator[Diagnostic]:
    """Yield a warning for each text of an evaluation that something is trained on."""
    from puzzledsl.data.errors import EvaluatedOnTrainingText

    only = next(iter(program.data)) if len(program.data) == 1 else None
    learners: dict[str, list[str]] = {}
    for bld in program.blds.values():
        for name in dict.fromkeys((bld.data, bld.heal_data if bld.heal_tokens else None)):
            if name is not None:
                learners.setdefault(name, []).append(f"bld `{bld.name}`")
    for uptrain in program.uptrains.values():
        if (name := uptrain.data or only) is not None:
            learners.setdefault(name, []).append(f"uptrain `{uptrain.name}`")
    for evaluation in program.evals.values():
        span = ctx.span_of(evaluation.where)
        for text in filter(None, (evaluation.data or only, *evaluation.more_data)):
            met = [name for name in learners if overlap(program.data[name], program.data[text])]
            if found := dict.fromkeys(reader for name in met for reader in learners[name]):
                yield EvaluatedOnTrainingText(span, name=evaluation.name, text=text, readers=listed(found))
