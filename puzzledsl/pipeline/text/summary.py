"""Summary at the end of `pzl run`: parent and child in a table, and the paths of the child and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.inputs import evaluation_of, refined_frontier_of, refinement_of, solution_of
from puzzledsl.pipeline.needs import has_child
from puzzledsl.pipeline.text.evaluation_text import evaluation_text
from puzzledsl.pipeline.text.refined_text import refined_line, refined_points_line


def summary(ctx: Context, covered: Callable[[str], bool] = lambda stage: True) -> str:
    """Return plain text without empty sections, and without stages that this run did not cover (`--until`, `--only`)."""
    blocks = [_search_lines(ctx)] if covered("solve") else []
    if covered("refine"):
        blocks.append("\n".join(_refined(ctx)))
    if covered("eval"):
        blocks += [_evaluation(ctx, name) for name in ctx.program.evals]
    blocks.append("\n".join(_places(ctx, covered)))
    return "\n\n".join(block for block in blocks if block)


def evaluations_of(ctx: Context) -> list[object]:
    """Return the finished evaluations as JSON."""
    found = (evaluation_of(ctx, name) for name in ctx.program.evals)
    return [evaluation.model_dump(mode="json") for evaluation in found if evaluation is not None]


def _places(ctx: Context, covered: Callable[[str], bool]) -> Iterator[str]:
    """Yield the paths of children, exports and the report."""
    for name in ctx.program.uptrains if covered("uptrain") else ():
        if (folder := ctx.build.model(name)).is_dir():
            yield f"child {name}: {folder}"
    for name, export in ctx.program.exports.items() if covered("export") else ():
        if (path := ctx.base / export.path).exists():
            chat = f"; to chat with it: llama-server -m {path}" if export.format == "gguf" else ""
            yield f"export {name}: {path}{chat}"
    if covered("report") and ctx.build.report.is_file():
        yield f"report: {ctx.build.report}"


def _search_lines(ctx: Context) -> str:
    lines = []
    for name in ctx.program.searches:
        if not ctx.build.solution(name).is_file():
            continue
        result = solution_of(ctx, name)
        if not result.solutions:
            lines.append(f"{name:<12} {result.status}")
            continue
        line = f"{name:<12} {result.status:<10} objective {result.solutions[0].objective:.6g}"
        if result.bound is not None:
            line += f"  bound {result.bound:.6g}  gap {result.gap or 0:.2g}"
        lines.append(line)
    return "\n".join(lines)


def _refined(ctx: Context) -> Iterator[str]:
    """Yield the best measured child of each search that has a solution, then those along each frontier."""
    for name in ctx.program.searches:
        if not (ctx.build.refinement(name).is_file() and has_child(ctx, name)):
            continue
        if (found := refinement_of(ctx, name)) is not None:
            yield f"{name:<12} refined    {refined_line(ctx.program, found)}"
    for name, frontier in ctx.program.frontiers.items():
        if frontier.children and ctx.build.refinement(name).is_file():
            yield f"{name:<12} refined    {refined_points_line(refined_frontier_of(ctx, name))}"


def _evaluation(ctx: Context, name: str) -> str:
    found = evaluation_of(ctx, name)
    return "" if found is None else evaluation_text(found)
