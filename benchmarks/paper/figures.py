"""Pictures of docs/paper.md from paper.json, as SVG: one function a figure of the paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN, HEIGHT_IN = 6.4, 3.8
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e0e0e0",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "puzzledsl",
}

COLOURS = ("#0072b2", "#d55e00", "#009e73")
"""Okabe and Ito's, which the colour-blind can tell apart; so can a printer, by the markers."""
MARKERS = ("o", "s", "^")
GREY = "#767676"


def _lines(axes: Axes, series: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Series as lines with 95 % intervals. `names`: what each is called in the legend."""
    for (name, label), colour, marker in zip(names.items(), COLOURS, MARKERS, strict=False):
        points = sorted(series[name], key=lambda point: point[0])
        x, y = [x for x, _ in points], [y["value"] for _, y in points]
        below, above = ([abs(point["value"] - point[end]) for _, point in points] for end in ("low", "high"))
        axes.errorbar(
            x,
            y,
            (below, above),
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.3,
            capsize=2,
            label=label,
        )


def _two_panels() -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure((WIDTH_IN, HEIGHT_IN * 0.8), layout="constrained")
    return figure, figure.subplots(1, 2)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))


def accuracy_and_throughput(result: Mapping[str, Any]) -> Figure:
    """Figure 5: KL, and right answers above chance, against throughput."""
    series, names = result["series"], ("searched", "uniform", "layers dropped")
    answers = next(name for name in series if name.startswith("parent: ")).removeprefix("parent: ")
    figure, (left, right) = _two_panels()
    _lines(left, series, {f"{name}: KL": name for name in names})
    _lines(right, series, {f"{name}: {answers}": name for name in names})
    ((x, parent),) = series[f"parent: {answers}"]
    for axes, y in ((left, 0.0), (right, parent["value"])):
        axes.plot([x], [y], "D", color="black", markersize=4, clip_on=False, zorder=3, label="parent")
    left.set_ylabel("KL to the parent, nats a token")
    right.set_ylabel(answers)
    left.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xlabel("throughput, times the parent's")
    _legend(figure, left)
    return figure


def time_left(result: Mapping[str, Any]) -> Figure:
    """Figure 6: by layer, the share of the parent's time that is left, attention above FFN."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure((WIDTH_IN, HEIGHT_IN), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for axes, name, colour in zip(panels, ("attention", "FFN"), COLOURS, strict=False):
        points = result["series"][name]
        layers, shares = [x for x, _ in points], [y["value"] for _, y in points]
        axes.bar(layers, [1] * len(layers), width=0.8, color="#ececec")
        axes.bar(layers, shares, width=0.8, color=colour)
        axes.set_ylabel(f"{name}: time left")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_ylim(0, 1.02)
        axes.set_xlim(-0.6, len(layers) - 0.4)
        axes.grid(visible=False, axis="x")
    panels[-1].set_xlabel("layer")
    return figure


def scores_along_a_frontier(result: Mapping[str, Any]) -> Figure:
    """Figure 7: the losses of children of KL scores and of LM-loss scores against throughput."""
    series = result["series"]
    figure, panels = _two_panels()
    for axes, loss, label in zip(
        panels, ("KL", "LM loss"), ("KL to the parent, nats a token", "LM loss, nats a token"), strict=True
    ):
        _lines(
            axes,
            series,
            {name: name.removesuffix(f": {loss}") for name in series if name.endswith(f": {loss}")},
        )
        axes.set_xlabel("throughput, times the parent's")
        axes.set_ylabel(label)
    _legend(figure, panels[0])
    return figure


PICTURES: dict[str, Callable[[Mapping[str, Any]], Figure]] = {
    "figure5": accuracy_and_throughput,
    "figure6": time_left,
    "figure7": scores_along_a_frontier,
}
"""By the table's name; each takes its entry of paper.json."""


def write_figures(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write a picture for each result that has one; the same bytes each time."""
    import matplotlib as mpl

    written = []
    with mpl.rc_context(STYLE):
        for name, draw in PICTURES.items():
            if name in results:
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f"{name}.svg"
                draw(results[name]).savefig(path, bbox_inches="tight", metadata={"Date": None})
                written.append(path)
    return written
