"""Model card of a child: its parent, the search, the proof and the metrics."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from puzzledsl.base import units
from puzzledsl.ir import nodes
from puzzledsl.ir.metric_records import metric_named
from puzzledsl.ir.tables import Refinement, SearchResult
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.inputs import chosen_child, refinement_of


def metric_text(name: str, value: float) -> str:
    """Format a metric of a solution: `chat.memory` 8.4e10 -> `78.2GiB`."""
    metric = metric_named(name)
    return units.format_quantity(Fraction(value), metric.dimension if metric else units.COUNT)


def bound_text(swept: str, target: float, ratio: float | None) -> str:
    """Format a point's bound as the frontier gives it: `1.2x` of the parent's, or an amount."""
    return metric_text(swept, target) if ratio is None else f"{ratio:.4g}x"


def model_card(ctx: Context, search: str, result: SearchResult) -> str:
    """Return Markdown with the parent, the search, its proof, the architecture and code that loads the checkpoint."""
    declaration = ctx.program.searches[search]
    parent = ctx.program.parents[ctx.program.spaces[declaration.space].parent]
    best, refinement = chosen_child(ctx, search), refinement_of(ctx, search)
    source = parent.source.id if isinstance(parent.source, nodes.HfSource) else parent.name
    rows = [
        f"| {name} | {metric_text(name, result.parent_metrics.get(name, float('nan')))} | {metric_text(name, value)} |"
        if name in result.parent_metrics
        else f"| {name} | | {metric_text(name, value)} |"
        for name, value in sorted(best.metrics.items())
    ]
    has_ends = ctx.program.spaces[declaration.space].ends is not None
    ends = [f"{site.capitalize()}: {name}." for site, name in best.ends] if has_ends else []
    layers = [f"| {i} | {layer.attention} | {layer.ffn} |" for i, layer in enumerate(best.of_layers)]
    attention = ", ".join(
        f"{n} x {name}" for name, n in sorted(Counter(x.attention for x in best.of_layers).items())
    )
    ffn = ", ".join(f"{n} x {name}" for name, n in sorted(Counter(x.ffn for x in best.of_layers).items()))
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
        _answer(result, bound),
        *([_measured(refinement)] if refinement is not None else []),
        "",
        "| metric | parent | child |",
        "|---|---|---|",
        *rows,
        "",
        "## Architecture",
        " ".join([f"Attention: {attention}. FFN: {ffn}.", *ends]),
        "",
        "| layer | attention | FFN |",
        "|---|---|---|",
        *layers,
        "",
    ]
    return "\n".join(lines)


def _answer(result: SearchResult, bound: str) -> str:
    objective = result.solutions[0].objective
    return f"Status {result.status}, objective {objective:.6g}, proven bound {bound}, solver {result.solver}."


def _measured(found: Refinement) -> str:
    """Return a sentence on the child: not the proven optimum, but the best of those measured around it."""
    optimum = "" if found.optimum is None else f"; the proven optimum's is {found.optimum.measured:.4g}"
    return (
        f"This child is the best of {len(found.children)} that were measured around that optimum, which nothing proves: "
        f"{found.score} {found.best.measured:.4g} measured{optimum}. Its objective is {found.solution.objective:.6g}."
    )
