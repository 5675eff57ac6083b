"""Model card of a child: its parent, the search, the proof, the metrics and, once it is evaluated, its quality.

Text of measured children and of exports, and the cost breakdowns of `pzl cost`.
"""

import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from statistics import NormalDist

from puzzledsl.alternatives.precision import ServedCaches
from puzzledsl.base import units
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import write_text
from puzzledsl.base.phrases import aligned, listed
from puzzledsl.changes.compare import refine_text
from puzzledsl.costs.breakdown import Breakdown, breakdown
from puzzledsl.costs.table import cost_table
from puzzledsl.families.block_configs import BLOCKS, CACHE
from puzzledsl.ir import nodes, tables
from puzzledsl.ir.metric_records import metric_named
from puzzledsl.ir.nodes import LayerChoice, Program, Search, Space
from puzzledsl.ir.references import evaluations_of, judged_by
from puzzledsl.ir.search_nodes import describe
from puzzledsl.pipeline import inputs
from puzzledsl.pipeline.compile import chosen
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.errors import NothingToCost
from puzzledsl.pipeline.text.evaluation_text import evaluation_text
from puzzledsl.report.pictures.curves import how_measured
from puzzledsl.report.sections.measured import ORIGINS


def metric_text(name: str, value: float) -> str:
    """Format a metric of a solution: `chat.memory` 8.4e10 -> `78.2GiB`."""
    metric = metric_named(name)
    return units.format_quantity(Fraction(value), metric.dimension if metric else units.COUNT)


def bound_text(swept: str, target: float, ratio: float | None) -> str:
    """Format a frontier point's bound: `1.2x` for a `ratio` to the parent's, else `target` in the unit of metric `swept`."""
    return metric_text(swept, target) if ratio is None else f"{ratio:.4g}x"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    head, *lines = (f"| {' | '.join(cells)} |" for cells in (header, *rows))
    return "\n".join([head, "|" + "---|" * len(header), *lines])


def model_card(ctx: Context, search: str, result: tables.SearchResult) -> str:
    """Return Markdown with the parent, the search, its proof, the architecture and code that loads the checkpoint."""
    declaration = ctx.program.searches[search]
    space = ctx.program.spaces[declaration.space]
    parent = ctx.program.parents[space.parent]
    best, refinement = inputs.chosen_child(ctx, search), inputs.refinement_of(ctx, search)
    source = parent.source.id if isinstance(parent.source, nodes.HfSource) else parent.name
    metrics = [(name, metric_text(name, value)) for name, value in sorted(best.metrics.items())]
    of_parent = {name: metric_text(name, value) for name, value in result.parent_metrics.items()}
    ends = [] if space.ends is None else [f"{site.capitalize()}: {name}." for site, name in best.ends]
    attention, ffn = (
        ", ".join(f"{count} x {name}" for name, count in sorted(Counter(names).items()))
        for names in zip(*((x.attention, x.ffn) for x in best.of_layers), strict=True)
    )
    bound = "none" if result.bound is None else f"{result.bound:.6g}"
    layers = ((str(i), layer.attention, layer.ffn) for i, layer in enumerate(best.of_layers))
    rows = ((n, f"{of_parent[n]} | {text}" if n in of_parent else f"| {text}") for n, text in metrics)
    proof = f"Status {result.status}, objective {result.solutions[0].objective:.6g}, proven bound {bound}"
    return f"""\
---
library_name: transformers
pipeline_tag: text-generation
tags: [puzzledsl, heterogeneous, pruned]
---
# {ctx.file.stem}: {search}

A heterogeneous child of `{source}`, chosen by the search `{search}` of `{ctx.file.name}` (Puzzle, arXiv 2411.19146).

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(DIRECTORY, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(DIRECTORY, trust_remote_code=True)
```

## The search
{proof}, solver {result.solver}.{"" if refinement is None else _measured(refinement)}

{markdown_table(("metric", "parent", "child"), rows)}

## Architecture
{" ".join([f"Attention: {attention}. FFN: {ffn}.", *ends])}

{markdown_table(("layer", "attention", "FFN"), layers)}
"""


def _measured(found: tables.Refinement) -> str:
    """Return a line on the child: not the proven optimum, but the best of those measured around it."""
    optimum = "" if found.optimum is None else f"; the proven optimum's is {found.optimum.measured:.4g}"
    return (
        f"\nThis child is the best of {len(found.children)} that were measured around that optimum, which nothing proves: "
        f"{found.score} {found.best.measured:.4g} measured{optimum}. Its objective is {found.solution.objective:.6g}."
    )


CARD = "README.md"
MEANING = (
    "Kept beyond chance is (child - chance) / (parent - chance), with a 95% interval from a paired bootstrap over items. "
    "Pooled: the sum of the child's excesses over chance divided by the sum of the parent's; tasks weigh alike, and tasks "
    "on which the parent is at chance are left out."
)


def quality_of(ctx: Context, model: str) -> str:
    """Return the model card's section on quality, from every finished evaluation of `model`; empty without one."""
    lines: list[str] = []
    for name in evaluations_of(ctx.program, model):
        if (evaluation := inputs.evaluation_of(ctx, name)) is not None:
            lines += _section(ctx, evaluation, model)
    return "\n".join(["## Quality", *lines, ""]) if lines else ""


def add_quality(directory: Path, section: str) -> None:
    """Append the section of `quality_of` to the model card in a directory, if both exist."""
    card = directory / CARD
    if section and card.is_file():
        write_text(card, f"{card.read_text(encoding='utf-8').rstrip()}\n\n{section}")


def _section(ctx: Context, evaluation: tables.Evaluation, model: str) -> Iterator[str]:
    if all(found.model != model for found in evaluation.models):
        return
    models = tuple(found for found in evaluation.models if found.model in ("parent", model))
    comparisons = tuple(found for found in evaluation.comparisons if found.model == model)
    only = {"models": models, "comparisons": comparisons, "ladder": None}
    yield from (f"Measured beside the parent by `{evaluation.eval}` of `{ctx.file.name}`.", "")
    yield from ("```text", evaluation_text(evaluation.model_copy(update=only)), "```")
    if any(found.kept for found in comparisons):
        yield from ("", MEANING)
    yield from _answers(evaluation.answers, model)


def _answers(prompts: Sequence[tables.AnsweredPrompt], model: str) -> Iterator[str]:
    """Yield each prompt with the answers of parent and child, as indented text."""
    asked = [prompt for prompt in prompts if model in prompt.answers]
    if asked:
        yield from ("", "### Answers", "The likeliest token each time, at most 64.")
    for prompt in asked:
        said = {"Prompt": prompt.prompt, "Parent": prompt.answers["parent"].text}
        for who, text in (*said.items(), (f"`{model}`", prompt.answers[model].text)):
            yield from ("", f"{who}:", "")
            yield from ("    " + line for line in text.strip().splitlines())
    if asked:
        yield ""


def breakdowns(ctx: Context, search: str | None, scenarios: Iterable[str]) -> list[Breakdown]:
    """Return the costs of a search's child (None: of all parents) by scenario. Raises DiagnosticError if there are none."""
    wanted = chosen("scenario", ctx.program.scenarios, list(scenarios), ctx.file, "cost")
    models: Iterable[Costed] = _parents(ctx)
    if search is not None:
        chosen("search", ctx.program.searches, [search], ctx.file)
        best, space = inputs.child_so_far(ctx, search), ctx.program.searches[search].space
        costs = inputs.costs_of(ctx, space)
        models = [(f"child {search}", ctx.program.spaces[space], costs, best.layers, best.batches)]
    found = [
        breakdown(ctx.program, space, costs, name, layers, model, batches.get(name))
        for model, space, costs, layers, batches in models
        for name in wanted
        if costs.scenarios.get(name)
    ]
    if not found:
        raise DiagnosticError(NothingToCost(None, scenarios=", ".join(wanted), file=ctx.typed))
    return found


Costed = tuple[str, Space, tables.CostTable, Sequence[tables.Assignment], dict[str, int]]
"""A model in words, its space with costs, its choices, and the batches that are known."""


def _parents(ctx: Context) -> Iterator[Costed]:
    """Yield each parent once: in the first of its spaces, whose costs may be measured, else in a space with only the parent."""
    known = [space for space in ctx.program.spaces.values() if space.used_by is None]
    spaces = {space.parent: space for space in reversed(known)}
    for name, parent in ctx.program.parents.items():
        if (space := spaces.get(name)) is not None:
            costs = inputs.costs_of(ctx, space.name)
        else:
            layers = (LayerChoice.of_parent(),) * parent.shape.layers
            space = Space(name=f"{name} alone", parent=name, layers=layers, where=parent.where)
            program = ctx.program.model_copy(update={"spaces": {space.name: space}})
            costs = cost_table(program, space.name, ctx.base)
        yield f"parent {name}", space, costs, [tables.PARENT] * len(space.layers), {}


def judged_text(child: tables.MeasuredChild) -> str:
    """Format what judges measured of a child, with standard errors: `taste.kl 0.0432 ± 0.001, taste.kept 0.96 ± 0.02`."""
    return ", ".join(f"{name} {_judged_figure(figure)}" for name, figure in child.judged.items())


def _judged_figure(figure: tables.Figure) -> str:
    return f"{figure.value:.4g}" + (f" ± {figure.stderr:.2g}" if figure.stderr else "")


def refined_line(program: Program, found: tables.Refinement) -> str:
    """Format the best measured child: `best of 24 measured children: kl 0.5123 (…)`, or with judges what they measured of it."""
    if found.best.judged:
        met = sum(not child.missed for child in found.children)
        goal = describe(program.searches[found.search].objective)
        built = f"{goal} {found.solution.objective:.4g}, {judged_text(found.best)}"
        return f"{met} of {len(found.children)} measured children meet what judges measure; the best: {built}"
    optimum = found.optimum
    beside = "" if optimum is None else f" (the optimum of the scores: {optimum.measured:.4g})"
    best = found.best.measured
    return f"best of {len(found.children)} measured children: {found.score} {best:.4g}{beside}"


def solve_note(search: Search) -> str:
    """Return the line below the answer of a search with `refine`, which says that measurements follow."""
    assert search.refine is not None
    if judged_by(search):
        return "bounds on judged figures are predictions here; `pzl refine` builds children and measures them"
    return f"the optimum of the scores; `pzl refine` measures around it: {refine_text(search.refine)}"


def refinement_text(program: Program, found: tables.Refinement) -> str:
    """Return the best child, with the scores' optimum or what judges measured, then a table of all children as measured."""
    head = f"search {found.search}: {len(found.children)} children, {how_measured(found)}"
    lines = _judged_lines(program, found) if found.best.judged else _lines(found)
    return "\n".join([head, *lines])


def _lines(found: tables.Refinement) -> Iterator[str]:
    best, optimum = found.best, found.optimum
    if optimum is not None:
        yield f"  optimum of the scores   {_figures(found, optimum)}"
    yield f"  best measured child     {_figures(found, best)}; nothing proves it"
    yield f"  its objective           {found.solution.objective:.6g}, the proven optimum's {found.proven:.6g}"
    yield f"  optimum of the refit    {found.score} {found.model_prediction:.4g} predicted"
    yield ""
    rows = [("#", "origin", "predicted", "measured")]
    for number, child in enumerate(found.children, start=1):
        rows.append((str(number), ORIGINS[child.origin], _predicted(child), f"{child.measured:.4g}"))
    yield from aligned(rows, "><>>", "  ")


def _judged_lines(program: Program, found: tables.Refinement) -> Iterator[str]:
    best, goal = found.best, describe(program.searches[found.search].objective)
    verdict = f"misses {listed([f'`{text}`' for text in best.missed])}" if best.missed else "meets them all"
    yield f"  best measured child     {goal} {found.solution.objective:.6g}; it {verdict}"
    yield f"  as judged               {judged_text(best)}"
    yield ""
    rows = [("#", "origin", goal, f"{found.score} predicted", *best.judged, "meets them")]
    for number, child in enumerate(found.children, start=1):
        figures = (child.judged.get(name) for name in best.judged)
        cells = ("" if each is None else _judged_figure(each) for each in figures)
        first = str(number), ORIGINS[child.origin], f"{child.objective:.4g}", _predicted(child)
        rows.append((*first, *cells, "no" if child.missed else "yes"))
    yield from aligned(rows, "><>", "  ")
    sure = max(program.judges[name.partition(".")[0]].sure for name in best.judged)
    if (errors := NormalDist().inv_cdf(float(sure))) > 0:
        yield ""
        yield f"meets them: with {errors:.2g} of its standard errors to spare (`sure = {float(sure):.0%}`)"


def _predicted(child: tables.MeasuredChild) -> str:
    return f"{child.predicted:.4g} ± {child.predicted_stderr:.2g}"


def _figures(found: tables.Refinement, child: tables.MeasuredChild) -> str:
    return f"{found.score} {child.measured:.4g} measured, {child.predicted:.4g} predicted"


def export_lines(ctx: Context, names: Iterable[str]) -> Iterator[str]:
    """Yield the path of each export that is there; for a GGUF file, also how to chat with it."""
    for name in names:
        export = ctx.program.exports[name]
        if (path := ctx.base / export.path).exists():
            said = f"export {name}: {path}"
            if export.format == "gguf":
                said += f"; to chat with it: {_served(path, ctx.build.model(export.of))}"
            yield said


def _served(path: Path, child: Path) -> str:
    """Return the command that serves a child's GGUF file as it was timed: weights in huge pages, KV caches of its type."""
    from puzzledsl.export.engines.ask import HUGE_PAGES

    variable = f"GLIBC_TUNABLES={HUGE_PAGES} " if sys.platform == "linux" else ""
    config = child / "config.json"
    blocks = json.loads(config.read_text("utf-8")).get(BLOCKS, ()) if config.is_file() else ()
    cache = next(filter(None, (block["attention"].get(CACHE) for block in blocks)), None)
    flags = ServedCaches("llama_cpp", cache).flags
    return " ".join(filter(None, (f"{variable}llama-server -m {shlex.quote(str(path))}", flags)))
