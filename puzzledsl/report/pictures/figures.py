"""Figures for papers as SVG and PNG, drawn by matplotlib: the same build gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import make_directory, replacing
from puzzledsl.report.artefacts import Artefacts
from puzzledsl.report.errors import FiguresNeedMatplotlib
from puzzledsl.report.pictures import architecture, curves
from puzzledsl.report.pictures.architecture import Cell, Strip
from puzzledsl.report.pictures.curves import Curve, Side
from puzzledsl.report.sections.engines import ladders
from puzzledsl.report.sections.refined import Refined, refined
from puzzledsl.report.subject import Subject, main_search

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_IN = 7.0  # a text's width
DPI = 200
INK, MUTED, FAINT = "#1c1e24", "#6a6e7a", "#d9dbe2"
COLOURS = {
    "attention": "#3458a8",
    "ffn": "#1f7a68",
    "linear": "#c4841d",
    "time": "#53586a",
    "score": "#b4483c",
}
STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "svg.hashsalt": "puzzledsl",
    "svg.fonttype": "none",  # text stays text
}

METADATA: dict[str, dict[str, None]] = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
"""Formats of the page's figures, each without what changes from run to run."""

Draw = Callable[[], "Figure"]


def write_figures(found: Artefacts, folder: Path) -> list[Path]:
    """Write every figure whose artefacts exist as NAME.svg and NAME.png; return the paths.

    Raises DiagnosticError if matplotlib is not installed.
    """
    make_directory(folder)
    written = []
    with _styled():
        for name, draw in _figures(found):
            figure = draw()
            for suffix in METADATA:
                path = folder / f"{name}.{suffix}"
                _save(figure, path, suffix)
                written.append(path)
    return written


def write_frontier(curve: Curve, path: Path) -> None:
    """Write one frontier as a picture, in the format that the suffix of `path` names.

    Raises DiagnosticError if matplotlib is not installed, ValueError for a format that it does not write.
    """
    with _styled():
        _save(_frontier(curve), path, path.suffix.removeprefix("."))


def _styled() -> AbstractContextManager[None]:
    try:
        import matplotlib as mpl
    except ImportError:
        raise DiagnosticError(FiguresNeedMatplotlib(None)) from None
    return mpl.rc_context(STYLE)


def _save(figure: Figure, path: Path, suffix: str) -> None:
    with replacing(path) as temporary:
        metadata = METADATA.get(suffix)
        figure.savefig(temporary, format=suffix, dpi=DPI, bbox_inches="tight", metadata=metadata)


def _figures(found: Artefacts) -> Iterator[tuple[str, Draw]]:
    name = main_search(found)
    if name is not None:
        subject = Subject(found, name)
        if (strip := architecture.strip_of(subject)) is not None:
            yield "architecture", partial(_architecture, strip)
        if (measured_children := refined(subject)) is not None and measured_children.points:
            yield "refined", partial(_refined, measured_children)
        for table in ladders(subject):
            yield table.picture.name, partial(_frontier, table.picture)
        for curve in curves.curves(subject):
            yield f"frontier-{curve.name}", partial(_frontier, curve)


def _blank(height_in: float, rows: int = 1, **options: Any) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    return figure, figure.subplots(rows, 1, **options)


def _architecture(strip: Strip) -> Figure:
    """Rows of cells, then bars of time and score where they are known."""
    rows = ["cells", *(["time"] if strip.scenario else []), *(["score"] if strip.score else [])]
    ratios = [1.1 if row == "cells" else 0.8 for row in rows]
    figure, axes = _blank(0.75 * len(rows) + 0.6, len(rows), sharex=True, height_ratios=ratios, squeeze=False)
    layers = [column.index for column in strip.columns]
    for axis, row in zip(axes[:, 0], rows, strict=True):
        if row == "cells":
            _cells(axis, strip)
        elif row == "time":
            times = [(c.time.value if c.time else 0.0) * 1000 for c in strip.columns]
            bars = [c.time_bar for c in strip.columns]
            tallest = max((t / b for t, b in zip(times, bars, strict=True) if b), default=0.0)
            axis.bar(layers, [c.parent_bar * tallest for c in strip.columns], color=FAINT, label="parent")
            axis.bar(layers, times, color=COLOURS["time"], label="child")
            axis.set_ylabel(f"{strip.scenario}, ms")
            axis.legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 0.95), borderpad=0)
        else:
            scores = [c.score.value if c.score else 0.0 for c in strip.columns]
            axis.bar(layers, scores, color=COLOURS["score"])
            axis.set_ylabel(f"{strip.score} lost")
    axes[-1, 0].set_xlabel("layer")
    axes[-1, 0].set_xlim(-0.6, len(layers) - 0.4)
    return figure


def _cells(axis: Any, strip: Strip) -> None:
    from matplotlib.patches import Patch, Rectangle

    for y, sub_block in ((1, "attention"), (0, "ffn")):
        for column in strip.columns:
            cell: Cell = getattr(column, sub_block)
            axis.add_patch(Rectangle((column.index - 0.45, y + 0.06), 0.9, 0.88, **_look(cell)))
    axis.set(ylim=(0, 2), yticks=[0.5, 1.5], yticklabels=["FFN", "attention"])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    entries = [(e.cell, f"{e.cell.name} ({e.layers})") for e in (*strip.attention, *strip.ffn)]
    handles = [Patch(label=label, **_look(cell)) for cell, label in entries]
    axis.legend(handles=handles, ncols=4, loc="lower left", bbox_to_anchor=(0, 1), borderpad=0)


def _look(cell: Cell) -> dict[str, Any]:
    match cell.kind:
        case "noop":
            return {"facecolor": "white", "edgecolor": MUTED, "linewidth": 0.5, "hatch": "////"}
        case "linear":
            return {"facecolor": COLOURS["linear"]}
        case _:
            alpha = cell.kept if cell.kind == "reduced" else 1.0
            return {"facecolor": COLOURS[cell.sub_block], "alpha": alpha}


BESIDE: dict[Side, dict[str, Any]] = {
    "right": {"xytext": (6, 0), "ha": "left", "va": "center"},
    "left": {"xytext": (-6, 0), "ha": "right", "va": "center"},
    "below": {"xytext": (0, -5), "ha": "center", "va": "top"},
    "above": {"xytext": (0, 5), "ha": "center", "va": "bottom"},
}
"""Places of a mark's name."""


def _frontier(curve: Curve) -> Figure:
    figure, axis = _blank(3.2)
    draw_frontier(axis, curve)
    return figure


def draw_frontier(axis: Any, curve: Curve) -> None:
    """Draw a frontier on axes of matplotlib: the proven points, measured children, and searches of the same space."""
    if curve.points:
        axis.plot(
            [p.target.value for p in curve.points],
            [p.objective.value for p in curve.points],
            color=COLOURS["attention"],
            marker="o",
            markersize=4,
            label="sum of scores, proven" if curve.measured else "frontier, proven",
        )
    for series in curve.measured:
        axis.plot(
            [p.target.value for p in series.points],
            [p.objective.value for p in series.points],
            color=COLOURS["score"] if series.kind == "best" else MUTED,
            linestyle="-" if series.kind == "best" else "--" if series.kind == "optimum" else ":",
            marker="o",
            markersize=3.5,
            label=series.label,
        )
    for point in curve.searches:
        x, y = point.target.value, point.objective.value
        axis.plot(x, y, "D", markersize=4.5, color=COLOURS["score"] if point.is_main else MUTED)
        axis.annotate(point.name, (x, y), textcoords="offset points", color=INK, **BESIDE[point.side])
    axis.set(xlabel=curve.x_label, ylabel=curve.y_label)
    if curve.is_log:
        _make_logarithmic(axis, curve.y_label)
    if curve.points:
        axis.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderpad=0)


def _make_logarithmic(axis: Any, label: str) -> None:
    """Marks at 1, 2 and 5 times powers of ten, in plain numbers."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    axis.set(yscale="log", ylabel=f"{label}, logarithmic")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FormatStrFormatter("%.4g"))
    axis.yaxis.set_minor_locator(NullLocator())


def _refined(found: Refined) -> Figure:
    """Measured children: the sum of their scores against what was measured, on the diagonal where they agree."""
    figure, axis = _blank(3.6)
    values = [v for p in found.points for v in (p.target.value, p.objective.value)]
    low, high = min(values), max(values)
    room = 0.06 * (high - low)
    low, high = low - room, high + room
    axis.plot([low, high], [low, high], color=FAINT, zorder=0)
    for point in found.points:
        x, y, named = point.target.value, point.objective.value, point.name in found.named
        colour = COLOURS["score"] if point.is_main else MUTED if named else COLOURS["attention"]
        axis.plot(x, y, "D" if named else "o", markersize=4.5, color=colour)
        if named:
            axis.annotate(point.name, (x, y), textcoords="offset points", color=INK, **BESIDE[point.side])
    axis.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axis.set(xlabel=f"{found.score}, sum of scores", ylabel=f"{found.score}, measured")
    return figure
