"""Model card of a child: its parent, the search, the proof, the metrics and, once it is evaluated, its quality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from puzzledsl.base import units
from puzzledsl.base.files import write_text
from puzzledsl.ir import nodes
from puzzledsl.ir.metric_records import metric_named
from puzzledsl.ir.references import evaluations_of
from puzzledsl.ir.tables import (
    AnsweredPrompt,
    Evaluation,
    ModelComparison,
    ModelFigures,
    Refinement,
    SearchResult,
)
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.inputs import chosen_child, evaluation_of, refinement_of
from puzzledsl.pipeline.text.evaluation_text import interval_text, kept_text
from puzzledsl.report.sections.measured import pooled_last


def metric_text(name: str, value: float) -> str:
    """Format a metric of a solution: `chat.memory` 8.4e10 -> `78.2GiB`."""
    metric = metric_named(name)
    return units.format_quantity(Fraction(value), metric.dimension if metric else units.COUNT)


def bound_text(swept: str, target: float, ratio: float | None) -> str:
    """Format a point's bound as the frontier gives it: `1.2x` of the parent's, or an amount."""
    return metric_text(swept, target) if ratio is None else f"{ratio:.4g}x"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table's lines."""
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return [lines[0], "|" + "---|" * len(header), *lines[1:]]


def model_card(ctx: Context, search: str, result: SearchResult) -> str:
    """Return Markdown with the parent, the search, its proof, the architecture and code that loads the checkpoint."""
    declaration = ctx.program.searches[search]
    space = ctx.program.spaces[declaration.space]
    parent = ctx.program.parents[space.parent]
    best, refinement = chosen_child(ctx, search), refinement_of(ctx, search)
    source = parent.source.id if isinstance(parent.source, nodes.HfSource) else parent.name
    metrics = [(name, metric_text(name, value)) for name, value in sorted(best.metrics.items())]
    of_parent = {name: metric_text(name, value) for name, value in result.parent_metrics.items()}
    ends = [] if space.ends is None else [f"{site.capitalize()}: {name}." for site, name in best.ends]
    attention, ffn = (
        ", ".join(f"{count} x {name}" for name, count in sorted(Counter(names).items()))
        for names in ([x.attention for x in best.of_layers], [x.ffn for x in best.of_layers])
    )
    bound = "none" if result.bound is None else f"{result.bound:.6g}"
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [puzzledsl, heterogeneous, pruned]",
        "---",
        f"# {ctx.file.stem}: {search}",
        "",
        f"A heterogeneous child of `{source}`, chosen by the search `{search}` of `{ctx.file.name}` (Puzzle, arXiv 2411.19146).",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "model = AutoModelForCausalLM.from_pretrained(DIRECTORY, trust_remote_code=True)",
        "tokenizer = AutoTokenizer.from_pretrained(DIRECTORY, trust_remote_code=True)",
        "```",
        "",
        "## The search",
        f"Status {result.status}, objective {result.solutions[0].objective:.6g}, proven bound {bound}, solver {result.solver}.",
        *([_measured(refinement)] if refinement is not None else []),
        "",
        *markdown_table(
            ("metric", "parent", "child"),
            ((n, f"{of_parent[n]} | {text}" if n in of_parent else f"| {text}") for n, text in metrics),
        ),
        "",
        "## Architecture",
        " ".join([f"Attention: {attention}. FFN: {ffn}.", *ends]),
        "",
        *markdown_table(
            ("layer", "attention", "FFN"),
            ((str(i), layer.attention, layer.ffn) for i, layer in enumerate(best.of_layers)),
        ),
        "",
    ]
    return "\n".join(lines)


def _measured(found: Refinement) -> str:
    """Return a sentence on the child: not the proven optimum, but the best of those measured around it."""
    optimum = "" if found.optimum is None else f"; the proven optimum's is {found.optimum.measured:.4g}"
    return (
        f"This child is the best of {len(found.children)} that were measured around that optimum, which nothing proves: "
        f"{found.score} {found.best.measured:.4g} measured{optimum}. Its objective is {found.solution.objective:.6g}."
    )


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
    header = ("held-out text", "KL to the parent, nats a token", "perplexity", "parent's perplexity")
    rows = []
    for text in names:
        found = child.texts[text]["kl"], child.texts[text]["perplexity"], parent.texts[text]["perplexity"]
        rows.append((text, *(f"{figure.value:.4g}" for figure in found)))
    if rows:
        yield from (*markdown_table(header, rows), "")


def _tasks(comparison: ModelComparison) -> Iterator[str]:
    header = "task", "items", "chance", "parent", "child", "kept beyond chance", "95% interval", "plain"
    rows = []
    for task, kept in pooled_last(comparison.kept):
        shares = (f"{value:.1%}" for value in (kept.chance, kept.parent, kept.child))
        plain = "" if kept.plain is None else f"{kept.plain:.1%}"
        rows.append((task, str(kept.items), *shares, kept_text(kept), interval_text(kept), plain))
    yield from (*markdown_table(header, rows), "", MEANING)


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
