"""Quality section of a model card: an evaluation's figures of a child beside its parent's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from puzzledsl.base.files import write_text
from puzzledsl.ir.references import evaluations_of
from puzzledsl.ir.tables import AnsweredPrompt, Evaluation, Kept, ModelComparison, ModelFigures
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.inputs import evaluation_of
from puzzledsl.pipeline.text.evaluation_text import interval_text, kept_text
from puzzledsl.report.sections.kept import pooled_last

CARD = "README.md"
MEANING = (
    "Kept beyond chance is (child - chance) / (parent - chance), with a 95% interval from a paired bootstrap over items. "
    "Pooled: the sum of the child's excesses over chance divided by the sum of the parent's; tasks weigh alike, and tasks "
    "on which the parent is at chance are left out."
)


def quality_of(ctx: Context, model: str) -> str:
    """Return the section from every finished evaluation of `model`; empty without one."""
    lines: list[str] = []
    for name in evaluations_of(ctx.program, model):
        if (evaluation := evaluation_of(ctx, name)) is not None:
            lines += _section(ctx, evaluation, model)
    return "\n".join(["## Quality", *lines, ""]) if lines else ""


def add_quality(directory: Path, section: str) -> None:
    """Append the section to a directory's model card, if it has one."""
    card = directory / CARD
    if section and card.is_file():
        write_text(card, f"{card.read_text(encoding='utf-8').rstrip()}\n\n{section}")


def _section(ctx: Context, evaluation: Evaluation, model: str) -> Iterator[str]:
    figures = {found.model: found for found in evaluation.models}
    if model not in figures:
        return
    yield f"Measured beside the parent by `{evaluation.eval}` of `{ctx.file.name}`."
    yield ""
    yield from _texts(evaluation.texts, figures["parent"], figures[model])
    for comparison in evaluation.comparisons:
        if comparison.model == model and comparison.kept:
            yield from _tasks(comparison)
    yield from _answers(evaluation.answers, model)


def _texts(names: Sequence[str], parent: ModelFigures, child: ModelFigures) -> Iterator[str]:
    if not names:
        return
    yield "| held-out text | KL to the parent, nats a token | perplexity | parent's perplexity |"
    yield "|---|---|---|---|"
    for text in names:
        figures = child.texts[text]
        before = parent.texts[text]["perplexity"].value
        yield f"| {text} | {figures['kl'].value:.4g} | {figures['perplexity'].value:.4g} | {before:.4g} |"
    yield ""


def _tasks(comparison: ModelComparison) -> Iterator[str]:
    yield "| task | items | chance | parent | child | kept beyond chance | 95% interval | plain |"
    yield "|---|---|---|---|---|---|---|---|"
    yield from (_row(task, kept) for task, kept in pooled_last(comparison.kept))
    yield ""
    yield MEANING


def _answers(prompts: Sequence[AnsweredPrompt], model: str) -> Iterator[str]:
    """Yield each prompt with the answers of parent and child, as indented text."""
    asked = [prompt for prompt in prompts if model in prompt.answers]
    if asked:
        yield ""
        yield "### Answers"
        yield "The likeliest token each time, at most 64."
    for prompt in asked:
        said = {"Prompt": prompt.prompt, "Parent": prompt.answers["parent"].text}
        for who, text in (*said.items(), (f"`{model}`", prompt.answers[model].text)):
            yield ""
            yield f"{who}:"
            yield ""
            yield from ("    " + line for line in text.strip().splitlines())
    if asked:
        yield ""


def _row(task: str, kept: Kept) -> str:
    plain = "" if kept.plain is None else f"{kept.plain:.1%}"
    shares = " | ".join(f"{value:.1%}" for value in (kept.chance, kept.parent, kept.child))
    return f"| {task} | {kept.items} | {shares} | {kept_text(kept)} | {interval_text(kept)} | {plain} |"
