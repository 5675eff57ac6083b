"""The ending of a run: what a user must know before the figures, at the top of the report and at the end in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from puzzledsl.ir import nodes
from puzzledsl.ir.measured_engines import LADDER
from puzzledsl.ir.search_nodes import written
from puzzledsl.report.sections.measured import WIDE, pooled, too_wide
from puzzledsl.report.sections.requirements import requirement_lines
from puzzledsl.report.subject import Subject

Kind = Literal["missed", "ladder", "too_few", "no_gain", "given"]
AS_FAST = 0.97
"""Share of the child's speed from which on a file counts as fast as it: timings differ by that much from run to run."""


@dataclass(frozen=True)
class Ending:
    """One sentence, what to do about it, and the declaration or requirement that it is about.

    `missed`: the finished child misses a requirement by more than the measurement's error. `ladder`: a file that the engine's own
    quantiser makes of the parent is as fast and nearer to it. `too_few`: so few questions that the accuracy kept is not known.
    `no_gain`: uptraining did not bring the child nearer to the parent. `given`: values of `--set`.
    """

    kind: Kind
    text: str
    help: str = ""
    where: nodes.Where | None = None


def endings(subject: Subject) -> list[Ending]:
    """Return the endings of a search's child: what is missed first."""
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
    for declaration, evaluation in subject.evaluations:
        final = subject.final(declaration, evaluation)
        kept = pooled(evaluation, final) if final else None
        if kept is None or kept.low is None or kept.high is None or not too_wide(kept):
            continue
        items = math.ceil(kept.items * ((kept.high - kept.low) / WIDE) ** 2)
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
    program = subject.program
    if program.given:
        values = ", ".join(
            f"{name} = {program.params[name]}" for name in program.given if name in program.params
        )
        yield Ending("given", f"not as the file says: {values}, by `--set`")
