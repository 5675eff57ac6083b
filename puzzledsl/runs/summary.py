"""What `pzl run` prints at its end: parent against child, as a table, and where the child and the report are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from puzzledsl.ir.tables import Evaluation, Figure, Interval, SearchResult
from puzzledsl.runs.context import Context
from puzzledsl.units import BYTES, COUNT, TIME, format_quantity


def summary(ctx: Context, covered: Callable[[str], bool] = lambda stage: True) -> str:
    """Plain text. Empty sections are left out, and what stages made that this run did not cover (`--until`, `--only`)."""
    blocks = [_search_lines(ctx)] if covered("solve") else []
    if covered("eval"):
        blocks += [_evaluation_table(ctx, name) for name in ctx.program.evals]
    blocks.append("\n".join(_places(ctx, covered)))
    return "\n\n".join(block for block in blocks if block)


def _places(ctx: Context, covered: Callable[[str], bool]) -> Iterator[str]:
    """Where what was made lies."""
    for name in ctx.program.uptrains if covered("uptrain") else ():
        if (folder := ctx.build.model(name)).is_dir():
            yield f"child {name}: {folder}"
    for name, export in ctx.program.exports.items() if covered("export") else ():
        if (path := ctx.base / export.path).exists():
            yield f"export {name}: {path}"
    if covered("report") and ctx.build.report.is_file():
        yield f"report: {ctx.build.report}"


def _search_lines(ctx: Context) -> str:
    lines = []
    for name in ctx.program.searches:
        if not ctx.build.solution(name).is_file():
            continue
        result = ctx.load(ctx.build.solution(name), SearchResult, "solve", name)
        if not result.solutions:
            lines.append(f"{name:<12} {result.status}")
            continue
        line = f"{name:<12} {result.status:<10} objective {result.solutions[0].objective:.6g}"
        if result.bound is not None:
            line += f"  bound {result.bound:.6g}  gap {result.gap or 0:.2g}"
        lines.append(line)
    return "\n".join(lines)


def figure_text(key: str, figure: Figure) -> str:
    """A measured figure as a person would write it, with its standard error where it has one."""
    if key == "params":
        text = format_quantity(figure.value, COUNT)
    elif key.endswith("_bytes"):
        text = format_quantity(figure.value, BYTES)
    elif key.endswith("_s") and not key.endswith("per_s"):
        text = format_quantity(figure.value, TIME)
    else:
        text = f"{figure.value:.4g}"
    return text + (f" ± {figure.stderr:.2g}" if figure.stderr else "")


def _evaluation_table(ctx: Context, name: str) -> str:
    path = ctx.build.evaluation(name)
    if not path.is_file():
        return ""
    evaluation = ctx.load(path, Evaluation, "eval", name)
    keys = list(dict.fromkeys(key for model in evaluation.models for key in model.figures))
    header = [name, *(model.model for model in evaluation.models)]
    rows = [
        [
            key,
            *(
                figure_text(key, model.figures[key]) if key in model.figures else ""
                for model in evaluation.models
            ),
        ]
        for key in keys
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
    kept = [_kept(found.model, found.accuracy_preserved) for found in evaluation.comparisons]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], *filter(None, kept)])


def _kept(model: str, interval: Interval | None) -> str:
    """`best preserves 84.3 % of the parent's accuracy (95 % interval 71.0 % … 97.6 %)`."""
    if interval is None:
        return ""
    text = f"{model} preserves {interval.value:.1%} of the parent's accuracy"
    if interval.low is None or interval.high is None:
        return text
    return f"{text} (95% interval {interval.low:.1%} … {interval.high:.1%})"
