"""What was measured: the headline, parent against child, and predictions against measurements."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from puzzledsl.ir.nodes import Scenario
from puzzledsl.ir.tables import Figure
from puzzledsl.report import numbers
from puzzledsl.report.numbers import Number
from puzzledsl.report.subject import PARENT, Subject

TIMED = ("throughput", "latency_s", "prefill_tokens_per_s", "decode_tokens_per_s")
QUALITY = ("kl", "perplexity", "top1_agreement", "top5_agreement", "top10_agreement")
SIZE = ("params", "checkpoint_bytes")
WIDEST_ERROR = 0.3
"""A bar of this error fills its half of the chart."""

LABELS = {
    "params": "Parameters",
    "checkpoint_bytes": "Checkpoint",
    "kl": "KL divergence to the parent",
    "perplexity": "Perplexity",
    "top1_agreement": "Top-1 agreement with the parent",
    "top5_agreement": "Parent's first choice among the 5 likeliest",
    "top10_agreement": "Parent's first choice among the 10 likeliest",
    "prefill_tokens_per_s": "prefill, tok/s",
    "decode_tokens_per_s": "decode, tok/s",
    "latency_s": "latency",
    "throughput": "throughput, tok/s",
}


@dataclass(frozen=True)
class Headline:
    """One of the figures at the top of the page."""

    number: Number
    label: str
    detail: str


@dataclass(frozen=True)
class Row:
    """A figure of each model, and how the last that has it compares with the parent."""

    label: str
    cells: tuple[Number | None, ...]
    change: Number | None
    good: bool | None  # whether the change is an improvement; None where that is no question


@dataclass(frozen=True)
class Comparison:
    """One evaluation: parent, child, and the child trained further where there is one."""

    name: str
    models: tuple[str, ...]
    groups: tuple[tuple[str, tuple[Row, ...]], ...]  # title (a scenario, or nothing) and rows


@dataclass(frozen=True)
class Prediction:
    """A predicted figure beside the measured one. `error` is predicted / measured - 1."""

    what: str
    model: str
    predicted: Number
    measured: Number
    error: Number

    @property
    def error_bar(self) -> float:
        """The error as a share of the widest that is drawn, -1 to 1."""
        return max(-1.0, min(1.0, self.error.value / WIDEST_ERROR))


# ---------------------------------------------------------------- parent against child


def comparisons(subject: Subject) -> list[Comparison]:
    """A table an evaluation of this search."""
    tables = []
    for declaration, evaluation in subject.evaluations:
        models = (PARENT, *subject.children(evaluation))
        figures = [subject.figures(evaluation, m) for m in models]
        groups = tuple(
            (title, rows)
            for title, keys in _groups(figures, list(subject.program.scenarios))
            if (rows := tuple(_row(key, figures) for key in keys))
        )
        if groups and len(models) > 1:
            tables.append(Comparison(declaration.name, models, groups))
    return tables


def _groups(figures: list[dict[str, Figure]], scenarios: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Keys that belong together, under a title: size, each scenario's times, quality, tasks."""
    keys = list(dict.fromkeys(key for model in figures for key in model))
    order = {metric: i for i, metric in enumerate(TIMED)}
    yield "", [k for k in SIZE if k in keys]
    timed = [k for k in keys if "." in k]
    for scenario in [
        *scenarios,
        *dict.fromkeys(k.split(".")[0] for k in timed if k.split(".")[0] not in scenarios),
    ]:
        mine = [k for k in timed if k.split(".")[0] == scenario]
        yield scenario, sorted(mine, key=lambda k: order.get(k.rpartition(".")[2], len(order)))
    yield "", [k for k in QUALITY if k in keys]
    yield "", [k for k in keys if k not in (*SIZE, *QUALITY, *timed)]


def label_of(key: str) -> str:
    """A figure's key in words, without its scenario."""
    metric = key.rpartition(".")[2]
    return LABELS.get(metric, metric.replace("_", " "))


def number_of(key: str, figure: Figure) -> Number:
    """A measured figure as text. Tasks and agreement are shares; a standard error follows."""
    metric, value = key.rpartition(".")[2], figure.value
    if not math.isfinite(value):
        return Number("not finite", value)
    if metric == "params":
        number = numbers.count(value)
    elif metric.endswith("_bytes") or figure.unit == "bytes":
        number = numbers.size(value)
    elif metric.endswith("per_s") or metric == "throughput":
        number = numbers.rate(value)
    elif metric.endswith("_s") or figure.unit in ("s", "seconds"):
        number = numbers.seconds(value)
    elif metric.endswith("_agreement") or is_task(key, figure):
        number = numbers.share(value)
        error = f"± {figure.stderr * 100:.1f}" if figure.stderr else ""
        return Number(number.text, number.value, error)
    else:
        number = numbers.plain(value)
    return Number(number.text, number.value, f"± {figure.stderr:.2g}" if figure.stderr else "")


def is_task(key: str, figure: Figure) -> bool:
    """Whether a figure is an accuracy: any that is not one of the known kinds and lies in 0 to 1."""
    return "." not in key and key not in (*SIZE, *QUALITY) and 0 <= figure.value <= 1


def _row(key: str, figures: list[dict[str, Figure]]) -> Row:
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
    if metric in SIZE or metric.endswith("_bytes"):
        return numbers.change(ratio - 1), ratio <= 1
    if metric == "perplexity":
        return numbers.change(ratio - 1), ratio <= 1
    if is_task(key, parent):
        kept = numbers.share(ratio)
        return Number(kept.text, kept.value, "kept"), None
    return None, None


# ---------------------------------------------------------------- headline


def headlines(subject: Subject) -> list[Headline]:
    """Times faster, KL, accuracy kept and size; whichever are known. A predicted one says so."""
    found = [_speed(subject), _divergence(subject), _accuracy(subject), _size(subject)]
    return [h for h in found if h is not None]


def _speed(subject: Subject) -> Headline | None:
    for scenario in dict.fromkeys([subject.scenario, *subject.program.scenarios]):
        if scenario is None:
            continue
        for declaration, evaluation in subject.evaluations:
            parent, final = subject.figures(evaluation, PARENT), subject.final(declaration, evaluation)
            child = subject.figures(evaluation, final) if final else {}
            if not any(key.startswith(f"{scenario}.") for key in child):
                child = subject.timing(evaluation, scenario)
            for key in TIMED:
                full = f"{scenario}.{key}"
                if full in parent and full in child and parent[full].value > 0 and child[full].value > 0:
                    ratio = child[full].value / parent[full].value
                    ratio = 1 / ratio if key == "latency_s" else ratio
                    return Headline(numbers.times(ratio), "faster, measured", _workload(subject, scenario))
    if subject.best and subject.scenario:
        before = subject.predicted(subject.scenario, PARENT).get("throughput")
        after = subject.predicted(subject.scenario).get("throughput")
        if before and after:
            number = numbers.times(after / before)
            return Headline(number, "faster, predicted", _workload(subject, subject.scenario))
    return None


def _workload(subject: Subject, name: str) -> str:
    scenario: Scenario | None = subject.program.scenarios.get(name)
    if scenario is None:
        return name
    batch = subject.best.batches.get(name) if subject.best else None
    batch = batch or (scenario.batches[0] if len(scenario.batches) == 1 else None)
    many = f"batch {batch}, " if batch else ""
    return f"{name}: {many}{scenario.prompt:,} → {scenario.output:,} tokens"


def _divergence(subject: Subject) -> Headline | None:
    for declaration, evaluation in subject.evaluations:
        final = subject.final(declaration, evaluation)
        figure = subject.figures(evaluation, final).get("kl") if final else None
        if figure:
            perplexity = [subject.figures(evaluation, m or "").get("perplexity") for m in (PARENT, final)]
            before, after = perplexity
            detail = (
                f"perplexity {before.value:.4g} → {after.value:.4g}" if before and after else "held-out text"
            )
            return Headline(numbers.plain(figure.value, 3), "KL to the parent", detail)
    return None


def _accuracy(subject: Subject) -> Headline | None:
    """As `accuracy_preserved` counts it: each task once, without its length-normalised twin."""
    for declaration, evaluation in subject.evaluations:
        final = subject.final(declaration, evaluation)
        if final is None:
            continue
        parent, child = subject.figures(evaluation, PARENT), subject.figures(evaluation, final)
        tasks = [k for k, f in parent.items() if is_task(k, f) and k in child and not k.endswith("_norm")]
        before = sum(parent[k].value for k in tasks)
        if before > 0:
            kept = sum(child[k].value for k in tasks) / before
            what = label_of(tasks[0]) if len(tasks) == 1 else f"mean of {len(tasks)} tasks"
            detail = f"{what}: {before / len(tasks):.1%} → {before * kept / len(tasks):.1%}"
            return Headline(numbers.share(kept), "of accuracy kept", detail)
    return None


def _size(subject: Subject) -> Headline | None:
    result, best = subject.result, subject.best
    if result is None or best is None:
        return None
    before, after = result.parent_metrics.get("params"), best.metrics.get("params")
    for _, evaluation in subject.evaluations:
        children = subject.children(evaluation)
        measured = [subject.figures(evaluation, m).get("params") for m in (PARENT, *children[:1])]
        if len(measured) == 2 and measured[0] and measured[1]:
            before, after = measured[0].value, measured[1].value
    if not before or not after:
        return None
    detail = f"{numbers.count(before).text} → {numbers.count(after).text}"
    return Headline(numbers.change(after / before - 1), "parameters", detail)


# ---------------------------------------------------------------- predicted against measured


def predictions(subject: Subject) -> list[tuple[str, list[Prediction]]]:
    """By scenario: figures of parent and child that were both predicted and measured, and their ratio."""
    tables = []
    for name, scenario in subject.program.scenarios.items():
        for declaration, evaluation in subject.evaluations:
            measured = {
                "parent": subject.figures(evaluation, PARENT),
                "child": subject.timing(evaluation, name),
            }
            expected = {
                "parent": _expected(subject, scenario, PARENT),
                "child": _expected(subject, scenario, ""),
            }
            keys = [k for k in TIMED if k != "latency_s" or f"{name}.throughput" not in measured["child"]]
            rows = [row for key in keys for row in _predicted_rows(name, key, expected, measured)]
            if rows:
                many = len(subject.evaluations) > 1
                tables.append((f"{name} ({declaration.name})" if many else name, rows))
    return tables


def _expected(subject: Subject, scenario: Scenario, model: str) -> dict[str, float]:
    """Predictions under the keys of measured figures."""
    metrics = subject.predicted(scenario.name, model)
    batch = subject.best.batches.get(scenario.name) if subject.best else None
    batch = batch or (scenario.batches[0] if len(scenario.batches) == 1 else None)
    found: dict[str, float] = {}
    if "latency" in metrics:
        found["latency_s"] = metrics["latency"]
    if "throughput" in metrics:
        found["throughput"] = metrics["throughput"]
    if batch and metrics.get("ttft"):
        found["prefill_tokens_per_s"] = batch * scenario.prompt / metrics["ttft"]
    if batch and metrics.get("tpot"):
        found["decode_tokens_per_s"] = batch / metrics["tpot"]
    return found


def _predicted_rows(
    scenario: str, key: str, expected: dict[str, dict[str, float]], measured: dict[str, dict[str, Figure]]
) -> Iterator[Prediction]:
    full, pairs = f"{scenario}.{key}", {}
    for model in ("parent", "child"):
        figure, guess = measured[model].get(full), expected[model].get(key)
        if figure and guess and figure.value > 0:
            pairs[model] = (guess, figure.value)
            shown = number_of(full, Figure(value=guess)), number_of(full, Figure(value=figure.value))
            yield Prediction(LABELS[key], model, *shown, numbers.change(guess / figure.value - 1))
    if len(pairs) == 2:
        guess, real = (pairs["child"][i] / pairs["parent"][i] for i in (0, 1))
        if key == "latency_s":
            guess, real = 1 / guess, 1 / real
        yield Prediction(
            LABELS[key],
            "speed-up",
            numbers.times(guess),
            numbers.times(real),
            numbers.change(guess / real - 1),
        )
