"""The figures at the top of the page, and its summary in a few sentences.

The ending of a run: what a user must know before the figures, at the top of the report and at the end in the terminal.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from puzzledsl.base.phrases import listed
from puzzledsl.base.units import REQ_PER_S, format_quantity
from puzzledsl.costs.table import notes
from puzzledsl.ir import nodes
from puzzledsl.ir.measured_engines import LADDER
from puzzledsl.ir.nodes import MeasuredHardware, Scenario
from puzzledsl.ir.search_nodes import describe, written
from puzzledsl.ir.tables import Kept
from puzzledsl.report import numbers
from puzzledsl.report.numbers import Number
from puzzledsl.report.sections import measured
from puzzledsl.report.sections.requirements import requirement_lines
from puzzledsl.report.subject import PARENT, Subject

ACCURACY_KEPT = "of accuracy kept"


@dataclass(frozen=True)
class Headline:
    """One of the figures at the top of the page. `said`: the figure as a sentence's rest after "The child"; empty for none."""

    number: Number
    label: str
    detail: str
    said: str = ""


def headlines(subject: Subject) -> list[Headline]:
    """Return speed beside the parent, KL, accuracy kept and size, as far as they are known. A predicted one says so."""
    pooled = (measured.pooled(evaluation, final) for _, evaluation, final, _ in subject.finals)
    accuracy = next((_kept(kept) for kept in pooled if kept is not None), None)
    found = [_speed(subject), _divergence(subject), accuracy, _size(subject)]
    return [h for h in found if h is not None]


def _speed(subject: Subject) -> Headline | None:
    for scenario in dict.fromkeys(filter(None, [subject.scenario, *subject.program.scenarios])):
        for _, evaluation, _, figures in subject.finals:
            parent = subject.figures(evaluation, PARENT)
            is_timed = any(key.startswith(f"{scenario}.") for key in figures)
            child = figures if is_timed else subject.timing(evaluation, scenario)
            for key in measured.TIMED:
                full = f"{scenario}.{key}"
                if full in parent and full in child and parent[full].value > 0 and child[full].value > 0:
                    ratio = child[full].value / parent[full].value
                    ratio = 1 / ratio if key == "latency_s" else ratio
                    return _faster(ratio, scenario, "measured", _workload(subject, scenario))
    if subject.best and subject.scenario:
        before, after = subject.predicted(subject.scenario, PARENT), subject.predicted(subject.scenario)
        detail = "; ".join([_workload(subject, subject.scenario), *uncalibrated_notes(subject)])
        if before.get("throughput") and after.get("throughput"):
            ratio = after["throughput"] / before["throughput"]
            return _faster(ratio, subject.scenario, "predicted", detail)
        if before.get("max_rate") and after.get("max_rate"):
            sustained = numbers.times(after["max_rate"] / before["max_rate"])
            return Headline(sustained, "requests a second, predicted", detail)
    return None


def _faster(ratio: float, scenario: str, how: str, detail: str) -> Headline:
    number = numbers.times(ratio)
    said = f"is {number.text} as fast as its parent in {scenario} ({how})"
    return Headline(number, f"faster, {how}", detail, said)


def uncalibrated_notes(subject: Subject) -> list[str]:
    """Return a sentence for each scenario whose prediction rests on a profile without a calibration; none without a child."""
    return notes(subject.program, subject.search, subject.best) if subject.best else []


def _workload(subject: Subject, name: str) -> str:
    scenario: Scenario | None = subject.program.scenarios.get(name)
    if scenario is None:
        return name
    batch = subject.batch(name)
    many = f"batch {batch}, " if batch else ""
    if scenario.traffic is not None:
        many = f"{format_quantity(scenario.traffic.rate, REQ_PER_S)}, {batch} at once, "
    return f"{name}: {many}{scenario.prompt:,} → {scenario.output:,} tokens"


def _divergence(subject: Subject) -> Headline | None:
    for _, evaluation, final, figures in subject.finals:
        if figure := figures.get("kl"):
            before, after = subject.figures(evaluation, PARENT).get("perplexity"), figures.get("perplexity")
            detail = (
                f"perplexity {before.value:.4g} → {after.value:.4g}" if before and after else "held-out text"
            )
            texts = subject.texts(evaluation, final)
            others = (name for name in evaluation.texts[1:] if name in texts)
            detail += "".join(f"; KL {texts[name]['kl'].value:.3g} on {name}" for name in others)
            return Headline(numbers.plain(figure.value, 3), "KL to the parent", detail)
    return None


def _kept(kept: Kept) -> Headline:
    """Return the figure of the accuracy that is kept beyond chance over all tasks, with its interval."""
    means = f"{_tasks(kept.figures)}: {kept.parent:.1%} → {kept.child:.1%}, chance {kept.chance:.1%}"
    interval = measured.interval_text(kept)
    if measured.too_wide(kept):
        detail = f"95 % interval {interval} of {kept.items:,} questions; {means}"
        return Headline(Number(measured.TOO_FEW, kept.chance_corrected or 0.0), ACCURACY_KEPT, detail)
    match kept.verdict:
        case "above_chance":
            detail = f"95 % interval {interval}; {means}"
            share = numbers.share(kept.chance_corrected or 0.0)
            said = f"keeps {share.text} of its accuracy beyond chance"
            return Headline(share, "of accuracy kept, beyond chance", detail, said)
        case "child_at_chance":
            value = kept.chance_corrected or 0.0
            detail = f"{numbers.share(value).text} kept beyond chance, 95 % interval {interval}; {means}"
            number = Number(measured.AT_CHANCE, value)
            return Headline(number, "accuracy", detail, "answers no better than chance")
        case "parent_at_chance":
            number = Number(measured.AT_CHANCE, kept.parent)
            return Headline(number, "parent's accuracy", f"nothing to keep; {means}")
        case _:
            assert_never(kept.verdict)


def _tasks(names: Sequence[str]) -> str:
    return measured.label_of(names[0]) if len(names) == 1 else f"mean of {len(names)} tasks"


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
    if (file := _file(subject)) is not None:
        return file
    detail = f"{numbers.count(before).text} → {numbers.count(after).text}"
    number, word = numbers.change(after / before - 1), "fewer" if after < before else "more"
    said = f"has {numbers.share(abs(number.value)).text} {word} parameters"
    said = "has as many parameters" if number.text.startswith("±") else said
    return Headline(number, "parameters", detail, said)


def _file(subject: Subject) -> Headline | None:
    """Size of the child's file for an engine beside the parent's in the hardware's number type; None if either is unknown."""
    scenario = subject.program.scenarios.get(subject.scenario or "")
    spec = None if scenario is None else subject.program.hardware[scenario.hardware].spec
    for _, evaluation in subject.evaluations:
        ladder, dtype = evaluation.ladder, spec.dtype if isinstance(spec, MeasuredHardware) else ""
        for model in ladder.models if ladder is not None else ():
            if ladder is not None and model.model == dtype:
                before, after = model.figures["checkpoint_bytes"].value, ladder.child_bytes
                detail = f"{numbers.size(before).text} → {numbers.size(after).text}"
                number, word = numbers.change(after / before - 1), "smaller" if after < before else "larger"
                said = f"has a file that is {numbers.share(abs(number.value)).text} {word}"
                return Headline(number, "size of its file", detail, said)
    return None


PROOFS = {
    "optimal": "The search proves this of its objective only: no other child of its space that meets the requirements has "
    "a better {objective}. Quality is measured, not proven.",
    "feasible": "The search has no proof: a child that meets the requirements and has a better {objective} may exist. "
    "Quality is measured, not proven.",
    "infeasible": "No child meets every requirement; below is which of them conflict, and how far each could go.",
    "unknown": "The search found no child in the time it had, and excluded none.",
}

REFINED = (
    "It is the best of {count} children that were measured around the proven optimum, and nothing proves it. The search "
    "proves of its objective only that no other child of its space that meets the requirements has a better {objective} "
    "than that optimum. Quality is measured, not proven."
)
"""Verdict of a proven search whose child is not its optimum."""
REFINED_UNPROVEN = (
    "It is the best of {count} children that were measured around the solver's, and nothing proves it. The search has no "
    "proof: a child that meets the requirements and has a better {objective} may exist. Quality is measured, not proven."
)

JUDGED = (
    "{met} of the {count} children that were built and judged {meet} what the search requires of their quality; this is the "
    "one with the best {objective}. That it meets the requirements is measured; proven is only that no child with a smaller "
    "predicted loss has a better {objective}."
)
"""Verdict of a search that bounds what a judge measures."""
NONE_MEETS = (
    "None of {count} children that were built and judged meets what the search requires of their quality; this one "
    "comes nearest."
)


def verdict(subject: Subject) -> str:
    """Compare the child with its parent, and name the proof of the search. Empty before the search is solved."""
    if subject.result is None:
        return ""
    parts = [headline.said for headline in headlines(subject) if headline.said]
    first = f"The child {listed(parts)}. " if parts and subject.best else ""
    return first + _gap(subject) + _proof(subject, subject.result.status)


def _gap(subject: Subject) -> str:
    """KL and top-1 agreement in words. exp(-KL) is the geometric mean of the child's probabilities over the parent's."""
    for _, evaluation, _, figures in subject.finals:
        if "kl" not in figures or not math.isfinite(figures["kl"].value):
            continue
        lost = numbers.share(-math.expm1(-figures["kl"].value)).text
        where = f" of {evaluation.texts[0]}" if evaluation.texts else ""
        text = f"To whatever token its parent would say next, it gives a probability that is {lost} lower on average"
        if "top1_agreement" in figures:
            same = numbers.share(figures["top1_agreement"].value).text
            text += f", and at {same} of the positions{where} both find the same token likeliest"
        return text + ". "
    return ""


def _proof(subject: Subject, status: str) -> str:
    objective, found = describe(subject.search.objective), subject.refinement
    if found is not None and found.best.judged:
        met = sum(not child.missed for child in found.children)
        text, meet = JUDGED if met else NONE_MEETS, "meets" if met == 1 else "meet"
        return text.format(count=len(found.children), met=met, meet=meet, objective=objective)
    if found is None or subject.optimum is None or found.solution.layers == subject.optimum.layers:
        return PROOFS[status].format(objective=objective)
    count = len(found.children)
    text = REFINED if status == "optimal" else REFINED_UNPROVEN
    return text.format(objective=objective, count=count)


Kind = Literal["missed", "ladder", "too_few", "no_gain", "given"]
AS_FAST = 0.97
"""A file with at least this share of the child's speed counts as equally fast: timings differ by that much from run to run."""


@dataclass(frozen=True)
class Ending:
    """One sentence, what to do about it, and the declaration or requirement that it is about.

    `missed`: the finished child misses a requirement by more than the measurement's error. `ladder`: a file that the engine's own
    quantiser makes of the parent is as fast and nearer to it. `too_few`: so few questions that the accuracy kept is not known.
    `no_gain`: uptraining did not bring the child nearer to the parent. `given`: `--set` replaced values of the program.
    """

    kind: Kind
    text: str
    help: str = ""
    where: nodes.Where | None = None


def endings(subject: Subject) -> list[Ending]:
    """Return the endings of a search's child; missed requirements come first."""
    return [*_missed(subject), *_beaten(subject), *_too_few(subject), *_no_gain(subject), *_given(subject)]


def _missed(subject: Subject) -> Iterator[Ending]:
    places = {(r.where.line, written(r)): r.where for r in subject.search.requirements}
    for line in requirement_lines(subject):
        if line.mark != "missed" or line.measured is None or line.required is None:
            continue
        predicted = "" if line.predicted is None else f", {line.predicted.text} was predicted"
        text = f"the finished child misses `{line.text}`: {line.measured.text} was measured{predicted}"
        help = "ask for more than is needed, to leave room for the error of predictions; or run again while nothing else runs"
        yield Ending("missed", text, help, places.get((line.line, line.text)))


def _beaten(subject: Subject) -> Iterator[Ending]:
    for declaration, evaluation in subject.evaluations:
        ladder = evaluation.ladder
        own = {} if ladder is None else subject.figures(evaluation, ladder.child)
        speed = next((key for key in own if key.endswith(".throughput")), "")
        better = [
            model
            for model in (() if ladder is None else ladder.models)
            if speed in model.figures
            and model.figures[speed].value >= AS_FAST * own[speed].value
            and model.figures["kl"].value < own["kl"].value
        ]
        if ladder is None or not better:
            continue
        best = min(better, key=lambda model: model.figures["kl"].value)
        command = next((rung.command for rung in LADDER if rung.name == best.model), "")
        text = f"`{best.model}`, which {ladder.engine} itself makes of the parent, is as fast as `{ladder.child}` and nearer to "
        text += f"the parent: {best.figures[speed].value:.4g} tok/s and a KL divergence of {best.figures['kl'].value:.4g}, "
        text += f"`{ladder.child}` {own[speed].value:.4g} tok/s and {own['kl'].value:.4g}"
        help = f"take that file: `{command}`; or give the space more bits, the head's among them"
        yield Ending("ladder", text, help, declaration.where)


def _too_few(subject: Subject) -> Iterator[Ending]:
    for declaration, evaluation, final, _ in subject.finals:
        kept = measured.pooled(evaluation, final)
        if kept is None or kept.low is None or kept.high is None or not measured.too_wide(kept):
            continue
        items = math.ceil(kept.items * ((kept.high - kept.low) / measured.WIDE) ** 2)
        text = f"{kept.items:,} questions are too few to say what `{final}` keeps of the accuracy: "
        text += f"{kept.low:.0%} to {kept.high:.0%}, with 95 % confidence"
        yield Ending("too_few", text, f"ask about {items:,} questions or more in all", declaration.where)


def _no_gain(subject: Subject) -> Iterator[Ending]:
    for declaration, evaluation in subject.evaluations:
        trained, before = declaration.of, subject.name
        if trained not in subject.program.uptrains:
            continue
        after_kl, before_kl = (subject.figures(evaluation, name).get("kl") for name in (trained, before))
        if after_kl is None or before_kl is None or after_kl.value < before_kl.value:
            continue
        text = f"uptraining brought nothing: the KL divergence of `{trained}` is {after_kl.value:.4g}, that of the "
        text += f"untrained `{before}` {before_kl.value:.4g}"
        help = f"export `{before}`, or train with more `tokens` or a lower `lr`"
        yield Ending("no_gain", text, help, subject.program.uptrains[trained].where)


def _given(subject: Subject) -> Iterator[Ending]:
    if given := subject.program.given:
        params = subject.program.params
        values = ", ".join(f"{name} = {params[name]}" for name in given if name in params)
        yield Ending("given", f"not as the file says: {values}, by `--set`")
