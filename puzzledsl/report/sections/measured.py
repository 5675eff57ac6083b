"""Measurements: parent against child, the accuracy that is kept, and predictions against measurements.

The accuracy that children keep beyond chance, task by task; and children that were measured around a search's optimum.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from puzzledsl.ir.nodes import Scenario
from puzzledsl.ir.tables import Evaluation, Figure, Kept, MeasuredChild, ModelComparison, Refinement
from puzzledsl.ir.tables.evaluations import MEASURES
from puzzledsl.report import numbers
from puzzledsl.report.numbers import Number
from puzzledsl.report.pictures.curves import how_measured
from puzzledsl.report.subject import PARENT, Subject

POOLED = "pooled"
AT_CHANCE = "at chance"
TOO_FEW = "not known"
WIDE = 1 / 3
"""Widest 95 % interval with which the accuracy kept is shown as a figure: from 24 questions it once came out at 106.7 %."""


def pooled(evaluation: Evaluation, model: str) -> Kept | None:
    """The accuracy that a model keeps over all tasks; None if no tasks were measured."""
    return next((c.kept.get(POOLED) for c in evaluation.comparisons if c.model == model), None)


def too_wide(kept: Kept) -> bool:
    """Return True if parent and child are above chance, but the interval of the accuracy kept is wider than WIDE."""
    if kept.verdict != "above_chance":
        return False
    return kept.low is not None and kept.high is not None and kept.high - kept.low > WIDE


def kept_tables(subject: Subject) -> list[tuple[ModelComparison, str]]:
    """The comparison of each shown child that answered questions, with the evaluation's name, in order of evaluations."""
    return [
        (comparison, declaration.name)
        for declaration, evaluation in subject.evaluations
        for comparison in evaluation.comparisons
        if comparison.model in subject.shown(declaration, evaluation) and comparison.kept
    ]


def pooled_last(kept: Mapping[str, Kept]) -> list[tuple[str, Kept]]:
    """The tasks by name, then all of them together."""
    return sorted(kept.items(), key=lambda item: (item[0] == POOLED, item[0]))


def interval_text(kept: Kept) -> str:
    """Format the interval of the accuracy kept: `74.1 … 90.6 %`; empty if there is none."""
    return "" if kept.low is None or kept.high is None else f"{kept.low * 100:.1f} … {kept.high * 100:.1f} %"


TIMED = ("throughput", "latency_s", "prefill_tokens_per_s", "decode_tokens_per_s")
SIZE = ("params", "checkpoint_bytes")
Figures = dict[str, Figure]

LABELS = {
    "params": "Parameters",
    "checkpoint_bytes": "Checkpoint",
    **{measure.name: measure.label for measure in MEASURES.values()},
    "prefill_tokens_per_s": "prefill, tok/s",
    "decode_tokens_per_s": "decode, tok/s",
    "latency_s": "latency",
    "throughput": "throughput, tok/s",
}


@dataclass(frozen=True)
class Row:
    """One figure of every model, and the last model relative to the parent."""

    label: str
    cells: tuple[Number | None, ...]
    change: Number | None
    good: bool | None  # whether the change is an improvement; None where that is no question


Comparison = tuple[str, tuple[str, ...], tuple[tuple[str, tuple[Row, ...]], ...]]
"""One evaluation: its name, the models, and groups of rows under a title (a scenario, or nothing)."""
Prediction = tuple[str, str, Number, Number, Number]
"""A figure in words, the model, what was predicted and measured, and predicted / measured - 1."""


def comparisons(subject: Subject) -> list[Comparison]:
    """Return one table per evaluation of this search."""
    tables = []
    for declaration, evaluation in subject.evaluations:
        models = (PARENT, *subject.shown(declaration, evaluation))
        figures = [subject.figures(evaluation, m) for m in models]
        texts = [subject.texts(evaluation, m) for m in models]
        listed = _groups(figures, texts, evaluation.texts, list(subject.program.scenarios))
        groups = tuple((title, rows) for title, rows in listed if rows)
        if groups and len(models) > 1:
            tables.append((declaration.name, models, groups))
    return tables


def _groups(
    figures: list[Figures], texts: list[dict[str, Figures]], names: Sequence[str], scenarios: list[str]
) -> Iterator[tuple[str, tuple[Row, ...]]]:
    """Rows that belong together, under a title: size, each scenario's times, quality on each text, tasks."""
    keys = list(dict.fromkeys(key for model in figures for key in model))
    order = {metric: i for i, metric in enumerate(TIMED)}
    yield "", _rows([k for k in SIZE if k in keys], figures)
    timed = [k for k in keys if "." in k]
    for scenario in dict.fromkeys([*scenarios, *(k.split(".")[0] for k in timed)]):
        mine = [k for k in timed if k.split(".")[0] == scenario]
        mine.sort(key=lambda k: order.get(k.rpartition(".")[2], len(order)))
        yield scenario, _rows(mine, figures)
    quality = [k for k in MEASURES if k in keys]
    for name in names if len(names) > 1 else ():
        yield f"on {name}", _rows(quality, [model.get(name, {}) for model in texts])
    if len(names) <= 1:
        yield "", _rows(quality, figures)
    yield "", _rows([k for k in keys if k not in (*SIZE, *MEASURES, *timed)], figures)


def _rows(keys: list[str], figures: list[Figures]) -> tuple[Row, ...]:
    return tuple(_row(key, figures) for key in keys)


def label_of(key: str) -> str:
    """A figure's key in words, without its scenario."""
    metric = key.rpartition(".")[2]
    return LABELS.get(metric, metric.replace("_", " "))


def number_of(key: str, figure: Figure) -> Number:
    """A measured figure as text. Tasks and agreement are shares; a standard error follows."""
    metric, value = key.rpartition(".")[2], figure.value
    if not math.isfinite(value):
        return Number("not finite", value)
    if is_task(key, figure) or (metric in MEASURES and MEASURES[metric].is_share):
        error = f"± {figure.stderr * 100:.1f}" if figure.stderr else ""
        return replace(numbers.share(value), note=error)
    if metric == "params":
        shown = numbers.count
    elif metric.endswith("_bytes") or figure.unit == "bytes":
        shown = numbers.size
    elif metric.endswith("per_s") or metric == "throughput":
        shown = numbers.rate
    elif metric.endswith("_s") or figure.unit in ("s", "seconds"):
        shown = numbers.seconds
    else:
        shown = numbers.plain
    deviation = float(f"{figure.stderr or 0:.2g}")
    return replace(shown(value), note=f"± {shown(deviation).text}" if deviation else "")


def is_task(key: str, figure: Figure) -> bool:
    """Return True for an accuracy: a figure from 0 to 1 that is none of the known kinds."""
    return "." not in key and key not in (*SIZE, *MEASURES) and 0 <= figure.value <= 1


def _row(key: str, figures: list[Figures]) -> Row:
    cells = tuple(number_of(key, f[key]) if key in f else None for f in figures)
    parent = figures[0].get(key)
    child = next((f[key] for f in reversed(figures[1:]) if key in f), None)
    change, good = None, None
    if parent and child and parent.value > 0 and math.isfinite(child.value):
        change, good = _change(key, parent, child.value)
    return Row(label_of(key), cells, change, good)


def _change(key: str, parent: Figure, child: float) -> tuple[Number | None, bool | None]:
    metric, ratio = key.rpartition(".")[2], child / parent.value
    if metric.endswith("per_s") or metric == "throughput":
        return numbers.times(ratio), ratio >= 1
    if metric.endswith("_s"):
        return (numbers.times(1 / ratio), ratio <= 1) if ratio else (None, None)
    if metric in (*SIZE, "perplexity") or metric.endswith("_bytes"):
        return numbers.change(ratio - 1), ratio <= 1
    if is_task(key, parent):
        kept = numbers.share(ratio)
        return Number(kept.text, kept.value, "of the parent's"), None
    return None, None


def predictions(subject: Subject) -> list[tuple[str, list[Prediction]]]:
    """By scenario: figures of parent and child that were both predicted and measured, and their ratio."""
    tables = []
    for name, scenario in subject.program.scenarios.items():
        for declaration, evaluation in subject.evaluations:
            timed = subject.timing(evaluation, name)
            both = {
                "parent": (_expected(subject, scenario, PARENT), subject.figures(evaluation, PARENT)),
                "child": (_expected(subject, scenario, ""), timed),
            }
            keys = [k for k in TIMED if k != "latency_s" or f"{name}.throughput" not in timed]
            rows = [row for key in keys for row in _predicted_rows(name, key, both)]
            if rows:
                many = len(subject.evaluations) > 1
                tables.append((f"{name} ({declaration.name})" if many else name, rows))
    return tables


def _expected(subject: Subject, scenario: Scenario, model: str) -> dict[str, float]:
    """Predictions by the keys of measured figures; empty for a scenario with traffic."""
    if scenario.traffic is not None:
        return {}  # its steps are of other numbers of sequences than what is timed
    metrics, batch = subject.predicted(scenario.name, model), subject.batch(scenario.name) or 0
    found = {"latency_s": metrics.get("latency", 0.0), "throughput": metrics.get("throughput", 0.0)}
    prompts = batch * scenario.prompt
    rates = {"prefill_tokens_per_s": ("ttft", prompts), "decode_tokens_per_s": ("tpot", batch)}
    return found | {key: tokens / metrics[time] for key, (time, tokens) in rates.items() if metrics.get(time)}


def _predicted_rows(
    scenario: str, key: str, both: Mapping[str, tuple[dict[str, float], Figures]]
) -> Iterator[Prediction]:
    full, pairs = f"{scenario}.{key}", {}
    for model, (expected, measured) in both.items():
        figure, guess = measured.get(full), expected.get(key)
        if figure and guess and figure.value > 0:
            pairs[model] = (guess, figure.value)
            shown = number_of(full, Figure(value=guess)), number_of(full, Figure(value=figure.value))
            yield LABELS[key], model, *shown, numbers.change(guess / figure.value - 1)
    if len(pairs) == 2:
        guess, real = (pairs["child"][i] / pairs["parent"][i] for i in (0, 1))
        if key == "latency_s":
            guess, real = 1 / guess, 1 / real
        what = LABELS[key].split(",")[0]
        yield what, "speed-up", numbers.times(guess), numbers.times(real), numbers.change(guess / real - 1)


ORIGINS: dict[str, str] = {
    "optimum": "the optimum of the scores",
    "model": "an optimum of refitted scores",
    "drawn": "an optimum of scores drawn around them",
}
"""Origins of measured children, in words."""
BUILT, REFITTED = "best measured", "optimum of the refitted scores"
OPTIMUM: dict[bool, str] = {True: "proven optimum of the scores", False: "solver's child, not proven"}

RefinedRow = tuple[str, str, Number, Number | None]
"""A child as (label, origin, predicted loss, measured loss or None). The origin is empty for all but the child that is built; the
prediction is that of the refitted scores before the child was measured."""


@dataclass(frozen=True)
class Refined:
    """Section of a refined search. `how`: the healing and the text of its measurements, in words."""

    found: Refinement
    how: str
    rows: tuple[RefinedRow, ...]


def refined(subject: Subject) -> Refined | None:
    """The main search's measured children; None where it was not refined."""
    found = subject.refinement
    if found is None:
        return None
    optimum = OPTIMUM[subject.result is not None and subject.result.status == "optimal"]
    return Refined(found, how_measured(found), tuple(_refined_rows(found, optimum)))


def _refined_rows(found: Refinement, name: str) -> Iterator[RefinedRow]:
    """Yield the child that is built, the solver's (labelled `name`) and the refitted scores' optimum, if they are others."""
    yield _refined_row(BUILT, found.best, ORIGINS[found.best.origin])
    if (optimum := found.optimum) is not None and optimum.layers != found.best.layers:
        yield _refined_row(name, optimum)
    if found.model_optimum != found.best.layers:
        known = next((c for c in found.children if c.layers == found.model_optimum), None)
        measured = None if known is None else numbers.plain(known.measured)
        predicted = numbers.plain(found.model_prediction)
        yield REFITTED, "", predicted, measured


def _refined_row(label: str, child: MeasuredChild, origin: str = "") -> RefinedRow:
    predicted = numbers.plain(child.predicted)
    if child.predicted_stderr > 0:
        predicted = Number(predicted.text, predicted.value, f"± {child.predicted_stderr:.2g}")
    return label, origin, predicted, numbers.plain(child.measured)
